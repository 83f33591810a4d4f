#!/usr/bin/env bash
# Do proxies behave as the clients they stand for? Three data sets whose ids are hidden; half an hour on two cores.
set -euo pipefail
cd "$(dirname "$0")/../.."
"${PYTHON:-.venv/bin/python}" experiments/proxy/compare.py experiments/proxy/report.md runs/proxy "$@"
