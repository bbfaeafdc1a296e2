#!/usr/bin/env bash
# Runs a command, and again while that is worth it. On every machine:
#
#     bash docs/launch/again.sh .venv/bin/python train.py --config=... --workdir=...
#
# 124: no progress within a deadline. 134: JAX aborted, because another process was gone.
# Everything else ends here with its own code; 75 does too: SIGTERM means that someone wants this
# machine, or wanted to stop. The same line goes on from there.
set -um # -m: a process group of its own, so that Ctrl-C reaches the command once, from here
left=10

# A signal to this script is one to the command, whose exit code is then waited for; one that comes
# before the command has started is kept for it.
signal=
child=
pass_on() {
  signal=$1
  heard=yes # which ends the wait below before the command has ended
  [ -z "$child" ] || kill -"$1" "$child"
}
trap 'pass_on TERM' TERM
trap 'pass_on INT' INT

while true; do
  "$@" &
  child=$!
  [ -z "$signal" ] || kill -"$signal" "$child"
  heard=yes
  while [ "$heard" = yes ]; do
    heard=no
    wait "$child"
    code=$?
  done
  if [ -n "$signal" ] || { [ "$code" != 124 ] && [ "$code" != 134 ]; } || [ "$left" = 0 ]; then
    exit "$code"
  fi
  left=$((left - 1))
  echo "exit code $code: once more, then at most $left times" >&2
done
