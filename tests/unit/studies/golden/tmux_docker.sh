#!/usr/bin/env bash
set -eo pipefail
export PRTE_MCA_hwloc_default_binding_policy=none
export OMPI_MCA_hwloc_base_binding_policy=none
export HOME
cd /home/me/MiloZero
export WANDB_BASE_URL=https://wandb.example.org
if [ -f '/scratch/my data/spawn/it'"'"'s $HOME/it'"'"'s $HOME.Hopper-v5.seed01.key' ]; then WANDB_API_KEY=$(<'/scratch/my data/spawn/it'"'"'s $HOME/it'"'"'s $HOME.Hopper-v5.seed01.key'); export WANDB_API_KEY; fi
exec docker run --rm --init --gpus all -e OMPI_MCA_plm_rsh_agent=sh -e OMPI_ALLOW_RUN_AS_ROOT=1 -e OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 -e PRTE_MCA_hwloc_default_binding_policy=none -e OMPI_MCA_hwloc_base_binding_policy=none -e 'XDG_CACHE_HOME=/scratch/my data/cache' -e WANDB_API_KEY -e WANDB_BASE_URL -e WANDB_MODE -v /home/me/MiloZero:/workspace -v '/scratch/my data:/scratch/my data' -v /scratch/demos/Hopper-v5:/scratch/demos/Hopper-v5 -w /workspace docker_user/milozero:mujoco sh -c 'd=$(mktemp -d) && pip install --quiet --target "$d" --upgrade wandb && PYTHONPATH="$d:$PYTHONPATH" exec "$@"' sh mpiexec -n 2 python main.py --seed=1 --num_workers=2 '--data_dir=/scratch/my data' --cuda --env_id=Hopper-v5 '--uuid=it'"'"'s $HOME.Hopper-v5.seed01' --resume=auto --expert_path=/scratch/demos/Hopper-v5
