#!/usr/bin/env bash
# A Cloud TPU VM slice, from your own machine: every worker runs the same command.
#
#     TPU_NAME=NAME ZONE=ZONE bash docs/launch/tpu_vm.sh --config=... --workdir=/shared/runs/NAME
#
# The slice is there (docs/launch.md says how), and so are a checkout with its virtual environment
# in ~/vqdit on every worker, and a disk that all of them mount.
set -eu
: "${TPU_NAME:?is the name of the slice}" "${ZONE:?is its zone}"

exec gcloud compute tpus tpu-vm ssh "$TPU_NAME" --zone="$ZONE" --worker=all \
  --command="cd vqdit && bash docs/launch/again.sh .venv/bin/python train.py $(printf '%q ' "$@")"
