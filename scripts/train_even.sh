#!/usr/bin/env bash
# A parallel model and its sequential rivals from one base, with the same number of tokens. Every part
# goes on where it was stopped. One core takes an hour or less. Should single paths not come far enough
# (scripts/gate.py looks), another BASE_SEED may, in another FOLDER.
# SEED is that of what comes behind the base, where it is not the recipes' own; those models' names end
# with it. Usage: [BASE_SEED=2] [SEED=17] scripts/train_even.sh [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-runs/even}
bin=.venv/bin

$bin/parathinker train recipes/even-base.yaml --output "$folder/base" \
  ${BASE_SEED:+--set seed="$BASE_SEED"}
$bin/parathinker train recipes/even-reading.yaml --output "$folder/reading" \
  --set model.base="$folder/base/model"
$bin/python scripts/gate.py "$folder/reading/model" --least 15
for rival in parallel chain single; do
  $bin/parathinker train "recipes/even-$rival.yaml" --output "$folder/$rival${SEED:+-$SEED}" \
    --set model.base="$folder/reading/model" ${SEED:+--set seed="$SEED"}
done
