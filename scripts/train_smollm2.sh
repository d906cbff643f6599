#!/usr/bin/env bash
# SmolLM2-135M-Instruct learns to think in parallel: first to work sums out along routes, then from
# paths that it samples itself and a summary that reads them. Every part goes on where it was stopped.
# One core does it in about an hour and a half. Usage: scripts/train_smollm2.sh [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-runs/smollm2}
bin=.venv/bin
mkdir -p "$folder"

$bin/parathinker train recipes/smollm2-lora.yaml --output "$folder/paths"
if [ ! -f "$folder/questions.jsonl" ]; then # as in sums.py, which says what it is measured on, too
  $bin/parathinker data questions reasoning-gym:basic_arithmetic --size 260 --seed 7 \
    --option min_terms=6 --option max_terms=8 --option min_digits=3 --option max_digits=3 \
    --option 'operators=["+"]' --option allow_parentheses=false --option allow_negation=false \
    --option format_style=natural --output "$folder/questions.jsonl"
fi
$bin/parathinker data sample "$folder/questions.jsonl" --engine "$folder/paths/model" --paths 16 \
  --weights int8 --temperature 0.6 --output "$folder/samples.sqlite"
$bin/parathinker data build "$folder/samples.sqlite" --output "$folder/dataset" --force --paths 16 \
  --near-duplicates --unfinished --thought-ids --validation 0 --benchmarks "" \
  --summary-template "Answer: {answer}" --min-right 0 --parts \
  --readings 1,1,2,2,2,3,3,4,4,4,6,6,8,8,8,8
$bin/parathinker train recipes/smollm2-own.yaml --output "$folder/own" \
  --set model.lora.adapter="$folder/paths/model" \
  --set stages.own.data.files="[$folder/dataset/train.parquet]"
echo "The adapter: $folder/own/model"
