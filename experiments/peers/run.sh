#!/usr/bin/env bash
# Peers' own code answers, each from a folder of packages of its own; then fedsim plays the same and is compared.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-.venv/bin/python}
here=experiments/peers
runs=runs/peers
rm -rf $runs
install() { "$python" -m pip install --quiet --no-deps --target "$runs/packages/$1" "${@:2}"; }
install appfl appfl==1.12.0 colorama==0.4.6 opacus==1.6.0
install fedscale fedscale==1.0
"$python" $here/inputs.py $here/recorded/inputs.json
PYTHONPATH=$runs/packages/appfl "$python" $here/appfl_side.py $here/recorded/inputs.json $here/recorded/appfl.json
PYTHONPATH=$runs/packages/fedscale "$python" -W ignore::SyntaxWarning \
  $here/fedscale_side.py $here/recorded/inputs.json $here/recorded/fedscale.json
"$python" $here/compare.py $here/recorded $runs/fedsim $here/report.md
