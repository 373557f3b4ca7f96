"""One training run: built from its settings, its state, its checks and its summary."""
