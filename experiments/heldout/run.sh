#!/usr/bin/env bash
# Needs traces/local/flash100: fedsim traces import flash SRC traces/local/flash100
set -euo pipefail
cd "$(dirname "$0")/../.."
"${PYTHON:-.venv/bin/python}" experiments/heldout/heldout.py traces/local/flash100 experiments/heldout/report.md
