#!/usr/bin/env bash
# The baseline of the workflow: ten seeds of a small task; a quarter of a minute. Run it again when results are meant to
# change, and commit the difference with what changed them.
set -euo pipefail
cd "$(dirname "$0")/../.."
fedsim=${FEDSIM:-.venv/bin/fedsim}
out=runs/ci
rm -rf $out
"$fedsim" run -m experiment=smoke data.seed=0 training.seed=0 server.report_goal=30 stop.max_steps=24 \
  evaluation.every_steps=2 seed=0,1,2,3,4,5,6,7,8,9 report=false hydra.sweep.dir=$out > /dev/null
"$fedsim" baseline record $out --target accuracy=0.6 --out experiments/ci/baseline.json
