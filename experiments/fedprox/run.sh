#!/usr/bin/env bash
# FedProx against plain SGD on skewed data; six minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")/../.."
fedsim=${FEDSIM:-.venv/bin/fedsim}
out=runs/fedprox
common="experiment=smoke seed=0,1,2,3,4,5,6,7,8,9 data.alpha=0.05 training.local.epochs=20 server.report_goal=10
  fleet.n_devices=100000 stop.max_steps=60 evaluation.every_steps=2 report=false force=true"
"$fedsim" run -m $common training/local=sgd hydra.sweep.dir=$out/sgd > /dev/null
"$fedsim" run -m $common training/local=fedprox training.local.mu=0.01,0.1,1.0 hydra.sweep.dir=$out/fedprox > /dev/null
"$fedsim" compare $out/sgd $out/fedprox --target accuracy=0.8 --against local=sgd --out $out > experiments/fedprox/report.md
