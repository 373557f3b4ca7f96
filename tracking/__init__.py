"""Trackers: where the metrics of a run go (console, CSV, TensorBoard, Weights & Biases)."""
