"""Launchers: one module for each way to start jobs (tmux, SLURM)."""
