#!/usr/bin/env bash
# A parallel model and its sequential rivals from one base, with the same number of tokens. Every part
# goes on where it was stopped. One core takes an hour and a half. Should the parallel model's paths not
# come far enough (scripts/gate.py looks), another BASE_SEED may, in another FOLDER.
# SEED is that of what comes behind the base, where it is not the recipes' own; those models' names end
# with it. Usage: [BASE_SEED=2] [SEED=17] scripts/train_even.sh [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-runs/even}
bin=.venv/bin

$bin/parathinker train recipes/even-base.yaml --output "$folder/base" \
  ${BASE_SEED:+--set seed="$BASE_SEED"}

go_on() {
  $bin/parathinker train "recipes/even-$1.yaml" --output "$folder/$1${SEED:+-$SEED}" \
    --set model.base="$folder/base/model" ${SEED:+--set seed="$SEED"}
}

go_on parallel
$bin/python scripts/gate.py "$folder/parallel${SEED:+-$SEED}/model" --least 25
go_on chain
go_on single
