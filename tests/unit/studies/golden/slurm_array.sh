#!/usr/bin/env bash
#SBATCH --job-name="it's $HOME"
#SBATCH --output="/scratch/my data/spawn/it's $HOME/array.out"
#SBATCH --open-mode=append
#SBATCH --array=0-2
#SBATCH --ntasks=2
#SBATCH --cpus-per-task=1
#SBATCH --time=12:00:00
#SBATCH --partition=shared-cpu
#SBATCH --signal=B:USR1@600
#SBATCH --requeue
jobs=(
  many.Hopper-v5.seed00
  many.Hopper-v5.seed01
  many.Hopper-v5.seed02
)
job='/scratch/my data/spawn/it'"'"'s $HOME'/${jobs[$SLURM_ARRAY_TASK_ID]}
exec bash "$job.sh" >>"$job.out" 2>&1
