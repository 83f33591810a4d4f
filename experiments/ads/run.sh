#!/usr/bin/env bash
# The decision on clicks and its strict sister, with their pages; a quarter of an hour on two cores.
# Exit codes 4 and 5 are answers too: iterate and no-go.
set -uo pipefail
cd "$(dirname "$0")/../.."
fedsim=${FEDSIM:-.venv/bin/fedsim}
for id in ads ads_strict; do
  "$fedsim" decide "experiments/$id/decision.yaml" --out "decide/$id"
  code=$?
  case $code in 0 | 4 | 5) ;; *) exit $code ;; esac
  cp "decide/$id/decision.md" "decide/$id/decision.html" "decide/$id/verdict.json" "experiments/$id/"
done
"${PYTHON:-.venv/bin/python}" experiments/ads/compare.py decide/ads experiments/ads/README.md
