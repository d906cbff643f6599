#!/usr/bin/env bash
# SmolLM2-135M-Instruct learns to think in parallel: first to work sums out along routes, then from
# paths that it samples itself and a summary that reads them. Every part goes on where it was stopped.
# One core does it in about an hour and a half. Usage: scripts/train_smollm2.sh [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/smollm2.sh
folder=${1:-runs/smollm2}

$bin/parathinker train recipes/smollm2-lora.yaml --output "$folder/paths"
sampled "$folder/paths/model" "$folder" 260 7 16
$bin/parathinker data build "$folder/samples.sqlite" --output "$folder/dataset" --force --paths 16 \
  --near-duplicates --unfinished --thought-ids --validation 0 --benchmarks "" \
  --summary-template "Answer: {answer}" --min-right 0 --parts \
  --readings 1,1,2,2,2,3,3,4,4,4,6,6,8,8,8,8
$bin/parathinker train recipes/smollm2-own.yaml --output "$folder/own" \
  --set model.lora.adapter="$folder/paths/model" \
  --set stages.own.data.files="[$folder/dataset/train.parquet]"
echo "The adapter: $folder/own/model"
