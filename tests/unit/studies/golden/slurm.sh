#!/usr/bin/env bash
#SBATCH --job-name="it's $HOME.Hopper-v5.seed01"
#SBATCH --output="/scratch/my data/spawn/it's $HOME/it's $HOME.Hopper-v5.seed01.out"
#SBATCH --open-mode=append
#SBATCH --ntasks=2
#SBATCH --cpus-per-task=1
#SBATCH --time=06:00:00
#SBATCH --partition=shared-cpu
#SBATCH --signal=B:USR1@600
#SBATCH --requeue
set -eo pipefail
job='/scratch/my data/spawn/it'"'"'s $HOME/it'"'"'s $HOME.Hopper-v5.seed01'
rm -f "$job.exit"
ended() { code=$?; echo "$code" >"$job.exit"; }
trap ended EXIT
trap 'exit 143' TERM
cd /home/me/MiloZero
export PATH=/home/me/venv/bin:$PATH
status='/scratch/my data/logs/it'"'"'s $HOME.Hopper-v5.seed01/status.json'
saved() { sed -n 's/.*"saved_iteration": \([0-9]*\).*/\1/p' "$status" 2>/dev/null || true; }
requeue() {
  if [ "$(saved)" = "$before" ]; then
    echo "error: no checkpoint was reached in one piece: a longer --caliber or a lower save_frequency" >&2
    return 1
  fi
  trap - EXIT  # it has not ended
  # To scontrol, the number of an array's last task is that of the whole array.
  number=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_}${SLURM_ARRAY_TASK_ID:-$SLURM_JOB_ID}
  scontrol requeue "$number" || { trap ended EXIT; return 1; }
}
# Slurm's signal says that the time is almost over: save, stop, and back into the queue. Where even the iteration
# takes too long for that, the last checkpoint is what there is to go on from.
time_is_over() {
  over=yes
  kill -USR1 "$run" || true
  (trap 'kill $!; exit' TERM; sleep 300 & wait $!; requeue) &
  last_call=$!
}
over=
before=$(saved)
srun --mpi=pmix python main.py --seed=1 --num_workers=2 '--data_dir=/scratch/my data' --env_id=Hopper-v5 '--uuid=it'"'"'s $HOME.Hopper-v5.seed01' --resume=auto &
run=$!
trap 'interrupted=yes; [ "$over" ] || time_is_over' USR1
while interrupted=; do
  wait "$run" && code=0 || code=$?
  [ "$interrupted" ] || break
done
if [ "$over" ]; then
  kill "$last_call" 2>/dev/null || true
  if [ "$code" = 0 ] && grep -q '"state": "stopped"' "$status"; then
    if requeue; then exit 0; fi
    code=1
  fi
fi
exit "$code"
