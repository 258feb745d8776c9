#!/usr/bin/env bash
# What only a GPU can show, in eight minutes: its tests, and a table of how fast it embeds beside the replaced algorithm.
#
#   scripts/gpu_benchmark.sh [DEVICE] [SIZE]     cuda and full by default; `cpu tiny` proves the script without a GPU
#
# PYTHON names the interpreter (default: .venv/bin/python). Nothing is downloaded: weights are random, which changes no
# speed. Where nothing can be installed, PYTHONPATH may name a folder with the packages of requirements/lock.txt. A machine
# with Python 3.12, torch and torchaudio 2.11.0, numba, SciPy, pytest and what transformers needs lacks these, as wheels
# (`pip download --no-deps --only-binary=:all: --python-version 3.12`), in the lock's versions:
#   transformers (newer ones break muq), muq x-clip beartype easydict ftfy wcwidth, music2latent,
#   librosa audioread decorator pooch platformdirs soundfile cffi pycparser soxr, av, mutagen,
#   django asgiref sqlparse dj-database-url psycopg psycopg-binary django-axes django-csp django-q2 django-picklefield
#   django-unfold djangorestframework drf-spectacular drf-spectacular-sidecar uritemplate inflection standardwebhooks
#   cachetools waitress whitenoise supervisor pytest-django, pymilvus orjson python-dotenv, milvus-lite faiss-cpu
set -uo pipefail
cd "$(dirname "$0")/.."
device=${1:-cuda} size=${2:-full} python=${PYTHON:-.venv/bin/python} failed=0
# Of the track, in seconds; of the job, in tracks; how much longer everything may take.
seconds=240 tracks=100 patience=1
if [ "$device" = cpu ]; then seconds=15 tracks=4 patience=10; fi
NAVEMBED_HOME=$(mktemp -d)
export NAVEMBED_HOME
trap 'rm -rf "$NAVEMBED_HOME"' EXIT

step() { # step SECONDS COMMAND…: what is not done in time fails, and the next one begins
    local seconds=$(($1 * patience))
    shift
    timeout --kill-after=10 "$seconds" "$@" || { echo "FAILED ($?): $*" >&2; failed=1; return 1; }
}
benchmark() {
    local seconds=$1
    shift
    step "$seconds" "$python" manage.py benchmark embedding --device "$device" --size "$size" "$@"
}

command -v nvidia-smi >/dev/null && nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv
# Warnings of versions that are not the lock's say nothing of the device.
step 80 env NAVEMBED_TEST_DEVICE="$device" "$python" -m pytest -q -p no:cacheprovider -W default tests/embedder/test_on_the_device.py
benchmark 200 host models --against-replaced --seconds "$seconds" --runs 2
benchmark 160 pipeline --tracks "$tracks" | tail -n +3 || failed=1 # one table: without its title and its header
exit "$failed"
