"""Launchers: one module for each way to run jobs (tmux, SLURM)."""
