#!/usr/bin/env bash
# The embedded model from fresh weights: multiplication in writing, then in the head, then four
# rounds with its own paths, each sampled from the model that the round before left. Every part goes
# on where it was stopped. One core does most of it, in about two hours and a half.
# Usage: scripts/train_tiny.sh [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-runs/tiny}
bin=.venv/bin
problems=(600 1000 600 300)
learning_rates=(1.0e-3 8.0e-4 5.0e-4 3.0e-4)

$bin/parathinker train recipes/tiny.yaml --output "$folder"
model=$folder/model
for i in "${!problems[@]}"; do
  round=$((i + 1))
  $bin/python scripts/own_paths.py "$model" "$folder/paths-$round" --problems "${problems[i]}" \
    --seed "$round"
  $bin/parathinker train recipes/tiny-own.yaml --output "$folder/own-$round" \
    --set model.base="$model" --set stages.own.data.files="[$folder/paths-$round.jsonl]" \
    --set stages.own.learning_rate="${learning_rates[i]}" --set seed="$((i + 3))"
  model=$folder/own-$round/model
done
echo "The model: $model"
