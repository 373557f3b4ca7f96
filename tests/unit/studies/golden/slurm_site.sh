#!/usr/bin/env bash
#SBATCH --job-name="it's $HOME.Hopper-v5.seed01"
#SBATCH --output="/scratch/my data/spawn/it's $HOME/it's $HOME.Hopper-v5.seed01.out"
#SBATCH --open-mode=append
#SBATCH --ntasks=2
#SBATCH --cpus-per-task=1
#SBATCH --time=00:15:00
#SBATCH --partition="debug gpu"
#SBATCH --mem-per-cpu=4G
#SBATCH --constraint=V4|V5
#SBATCH --account=mine
#SBATCH --signal=B:USR1@60
#SBATCH --requeue
#SBATCH --gres=gpu:1
#SBATCH --exclude=cpu001
set -eo pipefail
job='/scratch/my data/spawn/it'"'"'s $HOME/it'"'"'s $HOME.Hopper-v5.seed01'
status='/scratch/my data/logs/it'"'"'s $HOME.Hopper-v5.seed01/status.json'
rm -f "$job.exit"
write_exit_code() { code=$?; echo "$code" >"$job.exit"; [ "$code" = 143 ] || rm -f "$job.sh" "$job.yaml" "$job.key"; }
trap write_exit_code EXIT
trap 'exit 143' TERM
module load GCC/12.3.0
module load OpenMPI/4.1.5
ulimit -c 0
export HOME
cd '/home/me/my experiments'
export WANDB_BASE_URL=https://wandb.example.org
if [ -f '/scratch/my data/spawn/it'"'"'s $HOME/it'"'"'s $HOME.Hopper-v5.seed01.key' ]; then WANDB_API_KEY=$(<'/scratch/my data/spawn/it'"'"'s $HOME/it'"'"'s $HOME.Hopper-v5.seed01.key'); export WANDB_API_KEY; fi
export PATH=/home/me/venv/bin:$PATH
grace_s=30
saved_iteration() { sed -n 's/.*"saved_iteration": \([0-9]*\).*/\1/p' "$status" 2>/dev/null || true; }
requeue() {
  if [ "$(saved_iteration)" = "$resumed_iteration" ]; then
    echo "error: no checkpoint was saved within the time limit; use a longer --caliber or a lower save_frequency" >&2
    return 1
  fi
  trap - EXIT  # the job has not ended
  # The last task of an array has the array's own number, which scontrol would take for the whole array.
  number=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_}${SLURM_ARRAY_TASK_ID:-$SLURM_JOB_ID}
  scontrol requeue "$number" || { trap write_exit_code EXIT; return 1; }
}
# Slurm signals the time limit in advance: save, stop and requeue. If the iteration does not end in time, requeue
# anyway and resume from the last checkpoint.
on_time_limit() {
  time_limit=yes
  kill -USR1 "$run" || true
  (trap 'kill $!; exit' TERM; sleep "$grace_s" & wait $!; requeue) &
  timer=$!
}
time_limit=
resumed_iteration=$(saved_iteration)
srun --mpi=pmix_v3 python /home/me/MiloZero/main.py --seed=1 --num_workers=2 '--data_dir=/scratch/my data' --cuda --env_kwargs=reset_noise_scale=0.1 --env_id=Hopper-v5 '--uuid=it'"'"'s $HOME.Hopper-v5.seed01' --resume=auto &
run=$!
trap 'interrupted=yes; [ "$time_limit" ] || on_time_limit' USR1
while interrupted=; do  # a signal interrupts wait
  code=0
  wait "$run" || code=$?
  [ "$interrupted" ] || break
done
if [ "$time_limit" ]; then
  kill "$timer" 2>/dev/null || true
  if [ "$code" = 0 ] && grep -q '"state": "stopped"' "$status"; then
    if requeue; then exit 0; fi
    code=1
  fi
fi
exit "$code"
