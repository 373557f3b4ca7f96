"""A training run: built from its settings, with its state, checks and summary."""
