#!/usr/bin/env bash
# A model trained centrally on public data, fine-tuned on phones, against starting from nothing; three minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")/../.."
fedsim=${FEDSIM:-.venv/bin/fedsim}
out=runs/finetune
"$fedsim" run experiment=messaging data=convabuse 'evaluation.groups=[]' stop.max_steps=1 server.report_goal=20 \
  report=false force=true hydra.run.dir=$out/public > /dev/null
"$fedsim" run -m experiment=messaging seed=0,1,2,3,4 "model.init_from=null,$out/public/model/central.safetensors" \
  'evaluation.groups=[]' evaluation.every_steps=2 stop.max_steps=120 training.central.epochs=0 report=false force=true \
  hydra.sweep.dir=$out/arms > /dev/null
"$fedsim" compare $out/arms --target auc=0.92 --against init_from=null --out $out > experiments/finetune/report.md
