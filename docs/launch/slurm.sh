#!/bin/bash
# Slurm, one process for each GPU, which is what JAX expects of it:
#
#     sbatch docs/launch/slurm.sh --config=... --workdir=/shared/runs/NAME
#
#SBATCH --job-name=vqdit
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:TERM@120
set -u
most=20 # restarts

# B:TERM comes to this script alone, 120 seconds before the end. srun passes it on; one that comes
# before srun has started is kept for it.
told=
child=
trap 'told=yes; [ -z "$child" ] || kill -TERM "$child"' TERM

# Every task sees all GPUs of its node and takes the one of its number: no --gpus-per-task.
# The first task that ends does not end the others, which may still be saving; --wait does.
srun --kill-on-bad-exit=0 --wait=60 --cpus-per-task="$SLURM_CPUS_PER_TASK" \
  .venv/bin/python train.py "$@" &
child=$!
[ -z "$told" ] || kill -TERM "$child"

told=yes # a signal ends the wait before srun has ended
while [ "$told" = yes ]; do
  told=no
  wait "$child"
  code=$?
done

# 75: saved after SIGTERM. 124: no progress within a deadline. 134, 137 and 143: a process of which
# another, or --wait, made an end; srun tells the highest code of all.
case $code in
  75 | 124 | 134 | 137 | 143)
    if [ "${SLURM_RESTART_COUNT:-0}" -lt "$most" ]; then
      echo "exit code $code: requeued" >&2
      scontrol requeue "$SLURM_JOB_ID"
    fi
    ;;
esac
exit "$code"
