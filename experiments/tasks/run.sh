#!/usr/bin/env bash
# What federated training costs in quality, on eight tasks; an hour on two cores.
set -euo pipefail
cd "$(dirname "$0")/../.."
fedsim=${FEDSIM:-.venv/bin/fedsim}
out=runs/tasks
run() { # name, arguments
  local name=$1
  shift
  "$fedsim" run -m "$@" report=false force=true hydra.sweep.dir="$out/$name" > /dev/null
}
run ads experiment=ads seed=0,1,2,3,4
run ads_one experiment=ads seed=0,1,2 holders=one_to_one fleet.n_devices=24076
run ads_sizes experiment=ads seed=0,1,2 'data.with_ids=[],[video_id,author_id]' model.module.n_factors=2,8,32
run messaging experiment=messaging seed=0,1,2,3,4
run convabuse experiment=messaging seed=0,1,2,3,4 data=convabuse 'evaluation.groups=[]' server.report_goal=50
run ranking experiment=ranking seed=0,1,2,3,4
run digits experiment=digits seed=0,1,2
run clicks seed=0,1,2,3,4 data.n_clients=20000 fleet.n_devices=20000 training.central.epochs=2 stop.max_steps=600
run shakespeare experiment=shakespeare seed=0,1,2
run search experiment=search seed=0,1,2
"${PYTHON:-.venv/bin/python}" experiments/tasks/table.py experiments/tasks/report.md "$out"
