#!/usr/bin/env bash
# What only a GPU can show, in eight minutes: its tests, and a table of how fast it embeds beside the replaced algorithm.
#
#   scripts/gpu_benchmark.sh [DEVICE] [SIZE]     cuda and full by default; `cpu tiny` proves the script without a GPU
#
# PYTHON names the interpreter (default: .venv/bin/python). Where nothing can be installed, PYTHONPATH may name a folder
# with the packages of requirements/*.txt. Nothing is downloaded: weights are random, which changes no speed.
set -uo pipefail
cd "$(dirname "$0")/.."
device=${1:-cuda} size=${2:-full} python=${PYTHON:-.venv/bin/python} failed=0
NAVEMBED_HOME=$(mktemp -d)
export NAVEMBED_HOME NAVEMBED_TEST_DEVICE=$device
trap 'rm -rf "$NAVEMBED_HOME"' EXIT
# Seconds of length, so that a machine that is too slow still prints what it has done.
replaced_seconds=60 own_seconds=240
if [ "$device" = cpu ]; then replaced_seconds=15 own_seconds=30; fi

step() { # step SECONDS COMMAND…: what is not done in time fails, and the next one begins
    local seconds=$1
    shift
    timeout "$seconds" "$@" || { echo "FAILED ($?): $*"; failed=1; }
}
benchmark() {
    local seconds=$1
    shift
    step "$seconds" "$python" manage.py benchmark embedding --device "$device" --size "$size" "$@"
}

command -v nvidia-smi >/dev/null && nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv
step 90 "$python" -m pytest -q -p no:cacheprovider tests/embedder/test_on_the_device.py
benchmark 120 models --against-replaced --seconds "$replaced_seconds" --runs 1
benchmark 120 host models --seconds "$own_seconds" --runs 2
benchmark 140 pipeline --tracks "$([ "$device" = cpu ] && echo 4 || echo 100)"
exit "$failed"
