"""The life of a training run: settings, folders, checkpoints, status, time limits, resuming."""
