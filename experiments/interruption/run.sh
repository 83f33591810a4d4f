#!/usr/bin/env bash
# Three arms on one fleet with shared draws; then the table of the README.
set -euo pipefail
cd "$(dirname "$0")/../.."
fedsim=${FEDSIM:-.venv/bin/fedsim}
python=${PYTHON:-.venv/bin/python}
runs=runs/interruption
common=(experiment=smoke device.compute.relative_cost=60 server.report_goal=200 server.deadline_s=3600 stop.max_steps=200)
for arm in abort pause ignore; do
  "$fedsim" run training=none report=false "${common[@]}" device.interruption=$arm hydra.run.dir=$runs/$arm
done
"$python" experiments/interruption/compare.py $runs experiments/interruption/report.md "${common[@]}"
