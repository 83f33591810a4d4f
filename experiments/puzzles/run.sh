#!/usr/bin/env bash
# Six planning questions that a rule of thumb gets wrong; writes docs/puzzles.md. Some minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")/../.."
exec "${PYTHON:-.venv/bin/python}" experiments/puzzles/puzzles.py docs/puzzles.md runs/puzzles
