#!/usr/bin/env bash
# Needs traces/local/flash_tables: fedsim traces import flash_tables SRC traces/local/flash_tables --propius PICKLE
set -euo pipefail
cd "$(dirname "$0")/../.."
fedsim=${FEDSIM:-.venv/bin/fedsim}
out=runs/cost
phones=traces/local/flash_tables
binary="training.loss=binary_cross_entropy"
for law in inference measured flops; do
  cost() { "$fedsim" cost experiment=smoke "device/compute=$law" "${@:2}" --hardware $phones --json "$out/$law-$1.json" > /dev/null; }
  cost pictures model=cnn_digits data=mnist_by_writer
  cost feed model=feed data=kuairand_feed $binary
  cost clicks model=clicks data=clicks $binary features=clicks
  cost words model=lstm_words cost.n_examples=120
done
"${PYTHON:-.venv/bin/python}" experiments/cost/costs.py experiments/cost/report.md $out
