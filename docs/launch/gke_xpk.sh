#!/usr/bin/env bash
# A TPU slice of a GKE cluster, by xpk, with an image of docs/launch/Dockerfile (EXTRA=tpu):
#
#     CLUSTER=NAME ZONE=ZONE IMAGE=IMAGE bash docs/launch/gke_xpk.sh --config=... --workdir=/shared/runs/NAME
#
# /shared is a file system that was attached to the cluster and is mounted into every workload.
set -eu
: "${CLUSTER:?is the name of the cluster}" "${ZONE:?is its zone}" "${IMAGE:?is what Docker built}"

# xpk starts again after 42 and 127 to 255 (an abort, a kill); 75 and 124 are ours.
exec xpk workload create --cluster="$CLUSTER" --zone="$ZONE" --workload="${WORKLOAD:-vqdit}" \
  --tpu-type="${TPU_TYPE:-v5litepod-32}" --num-slices=1 --docker-image="$IMAGE" \
  --max-restarts=20 --restart-on-exit-codes=75,124 --termination-grace-period-seconds=120 \
  --command="python train.py $(printf '%q ' "$@")"
