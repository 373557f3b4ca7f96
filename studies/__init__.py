"""Studies: turn a task file, environments, seeds and hyper-parameters into jobs, and run them on tmux or SLURM."""
