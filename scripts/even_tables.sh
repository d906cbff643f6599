#!/usr/bin/env bash
# The paper's comparison on nines, whose paths check themselves, beside a chain and single paths that had
# the same base and as many tokens (scripts/train_even.sh, which runs first if they are not there).
# Goes on where it was stopped; what came of it is copied to docs/results/ if SHOW is set.
# Usage: scripts/even_tables.sh [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/measuring.sh
folder=${1:-runs/even}
single=$folder/single/model

[ -d "$single" ] || bash scripts/train_even.sh "$folder"
$bin/parathinker eval --model nines --benchmark products --limit "${QUESTIONS:-500}" --budget 296 \
  --summary-tokens 32 --paths 1,2,4,8,16 --output "$folder/nines" \
  --methods "${METHODS:-$methods majority:without=! $(of_one_chain "$folder/chain/model") \
    sequential:model=$single sequential:greedy=true,model=$single}"
$bin/parathinker eval report "$folder/nines" --output "$folder/nines-report"
if [ -n "${SHOW:-}" ]; then show_report "$folder/nines-report" nines; fi
