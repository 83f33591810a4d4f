#!/usr/bin/env bash
# Faults planted in fedsim's own parts, and what the gate says of them; about five minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=runs/gate
rm -rf $out
mkdir -p $out
"${PYTHON:-.venv/bin/python}" experiments/gate/gate.py $out experiments/gate/README.md
