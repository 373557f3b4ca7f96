"""What every task shares: configuration, workers, rollouts, checkpoints, logs."""
