#!/usr/bin/env bash
# A parallel model and its sequential rivals from one base, with the same number of tokens. Every part
# goes on where it was stopped. One core of a Xeon with AMX takes an hour.
# Usage: scripts/train_even.sh [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-runs/even}
bin=.venv/bin

$bin/parathinker train recipes/even-base.yaml --output "$folder/base"
for rival in parallel chain single; do
  $bin/parathinker train "recipes/even-$rival.yaml" --output "$folder/$rival" \
    --set model.base="$folder/base/model"
done
echo "The models: $folder/parallel/model, and its rivals $folder/chain/model and $folder/single/model"
