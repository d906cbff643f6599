#!/usr/bin/env bash
# A parallel model and its sequential rivals from one base, with the same number of tokens. Every part
# goes on where it was stopped. One core takes an hour or less. SEED is that of what comes behind the
# base, where it is not the recipes' own; its models' names end with it.
# Usage: [SEED=17] scripts/train_even.sh [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-runs/even}
bin=.venv/bin

$bin/parathinker train recipes/even-base.yaml --output "$folder/base"
for rival in parallel chain single; do
  $bin/parathinker train "recipes/even-$rival.yaml" --output "$folder/$rival${SEED:+-$SEED}" \
    --set model.base="$folder/base/model" ${SEED:+--set seed="$SEED"}
done
