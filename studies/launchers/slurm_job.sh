#!/usr/bin/env bash
# The end of each job's script: runs the workers, and requeues the job if it reaches its time limit.
# slurm.py replaces COMMAND, and puts this after lines that define write_exit_code and set
#   job      path of the job's files, without suffix
#   status   path of the run's status.json
#   grace_s  seconds that the run has to save before the job is requeued anyway
# shellcheck disable=SC2154,SC2329

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
COMMAND &
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
