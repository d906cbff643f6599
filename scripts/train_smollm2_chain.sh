#!/usr/bin/env bash
# The sequential rival of smollm2-sums: the same adapter, trained further to think in one chain, of
# attempts one behind another, on paths that it samples itself. Every part goes on where it was
# stopped. Usage: scripts/train_smollm2_chain.sh [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/smollm2.sh
folder=${1:-runs/smollm2-data-only}

# Chains of two, four and eight attempts, of other problems each.
sampled smollm2-sums "$folder/2" 120 1000 2
sampled smollm2-sums "$folder/4" 120 2000 4
sampled smollm2-sums "$folder/8" 240 3000 8
$bin/parathinker data build "$folder"/{2,4,8}/samples.sqlite --output "$folder/dataset" --force \
  --paths 8 --near-duplicates --unfinished --validation 0 --benchmarks "" \
  --summary-template "Answer: {answer}"
$bin/parathinker train recipes/smollm2-data-only.yaml --output "$folder" \
  --set stages.own.data.files="[$folder/dataset/train.parquet]"
echo "The adapter: $folder/model"
