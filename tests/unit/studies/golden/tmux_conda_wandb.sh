#!/usr/bin/env bash
set -eo pipefail
export PRTE_MCA_hwloc_default_binding_policy=none
export OMPI_MCA_hwloc_base_binding_policy=none
export HOME
cd '/home/me/my experiments'
export WANDB_BASE_URL=https://wandb.example.org
if [ -f '/scratch/my data/spawn/it'"'"'s $HOME/it'"'"'s $HOME.Hopper-v5.seed01.key' ]; then WANDB_API_KEY=$(<'/scratch/my data/spawn/it'"'"'s $HOME/it'"'"'s $HOME.Hopper-v5.seed01.key'); export WANDB_API_KEY; fi
eval "$(/opt/conda/bin/conda shell.bash hook)"
conda activate 'py torch'
exec mpiexec -n 2 python /home/me/MiloZero/main.py --seed=1 --num_workers=2 '--data_dir=/scratch/my data' --env_id=Hopper-v5 '--uuid=it'"'"'s $HOME.Hopper-v5.seed01' --resume=auto
