#!/usr/bin/env bash
# Rounds and a buffer on the same phones, until the model is as good; five minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")/../.."
fedsim=${FEDSIM:-.venv/bin/fedsim}
out=runs/protocols
"$fedsim" run -m server=sync,buffered seed=0,1,2,3,4 evaluation.every_s=300 evaluation.every_steps=null \
  stop.metric=auc stop.metric_at_least=0.8 report=false force=true hydra.sweep.dir=$out > /dev/null
"${PYTHON:-.venv/bin/python}" experiments/protocols/compare.py experiments/protocols/report.md $out
