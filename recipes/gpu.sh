#!/bin/sh
# Trains the embedded model's image sides on a machine with a GPU and no network: recipes/gpu.sh BUNDLE OUT [SECONDS [OPTIONS...]]
#
# BUNDLE is what recipes.long.bundle wrote (all of its parts, or some). One process a core draws pairs while the training reads
# them. It ends after about SECONDS (480), loading included, and leaves weights, log and summary in OUT. OPTIONS are those of
# recipes.long, --side first; without any it trains two sides and their trunk, each side without one VisA product.
set -eu
bundle=$1 out=$2 seconds=${3:-480}
[ $# -ge 3 ] && shift 3 || shift 2
[ $# -gt 0 ] || set -- --side thawed:0:-visa-capsules --side thawed:1:-visa-macaroni1
pairs=$(mktemp -d "${TMPDIR:-/tmp}/pairs.XXXXXX")
cores=$(nproc) # before OMP_NUM_THREADS is set, which nproc obeys
[ "$cores" -le 3 ] || cores=$((cores - 2))
python=${PYTHON:-python3}
export PYTHONPATH="src:.${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
mkdir -p "$out"
# two cores are left to the training
"$python" -m recipes.long.producing --bundle "$bundle" --out "$pairs" --processes "${PROCESSES:-$cores}" \
  --seed "${SEED:-0}" --seconds "$seconds" --most "${SHARDS:-600}" >"$out/producing.log" 2>&1 &
producing=$!
trap 'kill "$producing" 2>/dev/null || true; wait "$producing" 2>/dev/null || true; rm -rf "$pairs"' EXIT
"$python" -m recipes.long --bundle "$bundle" --pairs "$pairs" --out "$out" --seconds "$seconds" "$@"
