"""Trackers log a run's metrics to the console, CSV, TensorBoard and Weights & Biases."""
