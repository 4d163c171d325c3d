#!/bin/sh
# Gather the wheels of polymodal and of all that it needs in a folder: sh deploy/gather.sh [FOLDER]
# Without FOLDER they go to deploy/wheelhouse; what lies there is all that a later call with FOLDER asks.
# From the environment, all optional: INDEX and TORCH_INDEX, addresses of package indexes; TORCH, which torch; EXTRAS,
# polymodal's; PYTHON, the interpreter.
set -eu
cd "$(dirname "$0")/.."
house=deploy/wheelhouse
out=${1:-$house}
python=${PYTHON:-python3}
torch=${TORCH:-torch>=2.11,<2.14}
mkdir -p "$out"

gather() { # options of pip, then what to gather
    "$python" -m pip wheel --wheel-dir "$out" "$@"
}

if [ -n "${1:-}" ] && ls "$house"/torch-*.whl >/dev/null 2>&1; then
    set -- --no-index --find-links="$house"
elif [ -n "${INDEX:-}" ]; then
    set -- --index-url "$INDEX"
else
    set --
fi
if [ -n "${TORCH_INDEX:-}" ]; then
    gather --index-url "$TORCH_INDEX" "$torch"
else
    gather "$@" "$torch" # first, so that all else is resolved beside the build that was chosen
fi
gather "$@" --find-links="$out" hatchling ".[${EXTRAS:-serve,search,audio}]"
