#!/usr/bin/env bash
# The paper's comparison and diagnoses on what becomes nines, whose paths check themselves, beside a chain
# and single paths that had the same base and as many tokens (scripts/train_even.sh, which runs first if
# they are not there). As scripts/paper_tables.sh, which see: two parts side by side, on a core each; every part
# goes on where it was stopped; what came of it is copied to docs/results/ if SHOW is set. With SEED,
# the models of that seed and the comparison alone.
# Usage: [SEED=17] scripts/even_tables.sh [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/measuring.sh
folder=${1:-runs/even}
seed=${SEED:+-$SEED}
# Not the package's own nines: its rivals have to go on from the same base.
model=$folder/parallel$seed/model
rival=$folder/chain$seed/model
single=$folder/single$seed/model
chain=(--model "$model" "${products[@]}")
nines=("${chain[@]}" "${budget_of_nines[@]}")

others() {
  $bin/parathinker diagnose ablations "${nines[@]}" --data-only "$rival" --output "$folder/ablations"
  # Its paths have 292 tokens, which powers of two would step over.
  $bin/parathinker diagnose budget "${chain[@]}" --output "$folder/budget" \
    --budgets 64,128,291,292,304,328,656,1312
  $bin/parathinker diagnose diversity "${nines[@]}" --output "$folder/diversity"
  $bin/parathinker diagnose tunnel-vision "${nines[@]}" --wrong-paths 1 --continuations 1 \
    --output "$folder/tunnel-vision"
}

[ -d "$single" ] || bash scripts/train_even.sh "$folder"
[ -n "$seed" ] || start_beside "$folder/others.log" others
$bin/parathinker eval "${nines[@]}" --paths 1,2,4,8,16 --output "$folder/nines$seed" \
  --methods "${METHODS:-$methods majority:without=! $(of_one_chain "$rival") \
    sequential:model=$single sequential:greedy=true,model=$single}"
$bin/parathinker eval report "$folder/nines$seed" --output "$folder/nines$seed-report"
[ -n "$seed" ] || end_beside

if [ -n "${SHOW:-}" ]; then
  show_report "$folder/nines$seed-report" "nines$seed"
  [ -n "$seed" ] || show_diagnoses "$folder" nines
fi
