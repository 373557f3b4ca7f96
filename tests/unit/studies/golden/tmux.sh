#!/usr/bin/env bash
set -eo pipefail
export PRTE_MCA_hwloc_default_binding_policy=none
export OMPI_MCA_hwloc_base_binding_policy=none
export HOME
cd '/home/me/my experiments'
export PYTHONPATH='/home/me/my modules'
export PATH=/home/me/venv/bin:$PATH
exec mpiexec -n 2 python /home/me/MiloZero/main.py --seed=1 --num_workers=2 '--data_dir=/scratch/my data' --env_id=Hopper-v5 '--uuid=it'"'"'s $HOME.Hopper-v5.seed01' --resume=auto
