#!/usr/bin/env bash
# SmolLM2-135M-Instruct learns to think in parallel: first to work problems out along routes, then from
# paths that it samples itself and a summary that reads them. Every part goes on where it was stopped.
# One core does it in several hours. Usage: scripts/train_smollm2.sh [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-runs/smollm2}
bin=.venv/bin
mkdir -p "$folder"

$bin/parathinker train recipes/smollm2-lora.yaml --output "$folder/paths"
if [ ! -f "$folder/questions.jsonl" ]; then # sums.py has the options, too: what it is measured on
  $bin/parathinker data questions reasoning-gym:chain_sum,leg_counting --size 260 --seed 7 \
    --option chain_sum.min_terms=4 --option chain_sum.max_terms=6 \
    --option chain_sum.min_digits=2 --option chain_sum.max_digits=3 \
    --option leg_counting.min_animals=4 --option leg_counting.max_animals=6 \
    --option leg_counting.max_instances=15 --output "$folder/questions.jsonl"
fi
$bin/parathinker data sample "$folder/questions.jsonl" --engine "$folder/paths/model" --paths 16 \
  --temperature 0.8 --output "$folder/samples.sqlite"
$bin/parathinker data build "$folder/samples.sqlite" --output "$folder/dataset" --force --paths 16 \
  --near-duplicates --unfinished --thought-ids --validation 0 --benchmarks "" \
  --summary-template "Answer: {answer}" --readings 1,1,2,2,2,3,3,4,4,4,6,6,8,8,8,8
$bin/parathinker train recipes/smollm2-own.yaml --output "$folder/own" \
  --set model.lora.adapter="$folder/paths/model" \
  --set stages.own.data.files="[$folder/dataset/train.parquet]"
echo "The adapter: $folder/own/model"
