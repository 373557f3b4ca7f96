"""Load trained agents from checkpoints, evaluate them and record videos."""
