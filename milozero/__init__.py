"""MiloZero: reinforcement and imitation learning on CPUs, from one workstation to a SLURM cluster."""
