#!/usr/bin/env bash
# Needs traces/local/flash100: fedsim traces import flash SRC traces/local/flash100
set -euo pipefail
cd "$(dirname "$0")/../.."
fedsim=${FEDSIM:-.venv/bin/fedsim}
out=runs/heldout
mkdir -p $out
for seed in 0 1 2 3 4; do
  "$fedsim" traces fit traces/local/flash100 $out/$seed.parameters.json --held-out 0.5 --seed $seed --json > $out/$seed.json
done
"${PYTHON:-.venv/bin/python}" experiments/heldout/heldout.py experiments/heldout/report.md $out/{0,1,2,3,4}.json
