#!/usr/bin/env bash
# The paper's comparison and diagnoses on smollm2-sums, SmolLM2-135M with an adapter for sums, on fresh
# problems of its task. As scripts/paper_tables.sh, which see: two parts side by side, on a core each,
# the second beginning with training the sequential rival (scripts/train_smollm2_chain.sh), if that is
# not there; by a few questions' pace more than two hours on two cores of an EPYC with AVX-512 (tree of
# thoughts and forced continuation take most of it). Usage: scripts/sums_tables.sh [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/measuring.sh
folder=${1:-runs/sums}
data_only=${DATA_ONLY:-runs/smollm2-data-only/model}
chain=(--model smollm2-sums --benchmark sums --limit "${QUESTIONS:-300}" --weights int8)
sums=("${chain[@]}" --budget 112 --summary-tokens 16)

others() {
  [ -d "$data_only" ] || bash scripts/train_smollm2_chain.sh "$(dirname "$data_only")"
  $bin/parathinker diagnose ablations "${sums[@]}" --data-only "$data_only" \
    --output "$folder/ablations"
  $bin/parathinker diagnose budget "${chain[@]}" --output "$folder/budget" \
    --budgets 28,56,72,80,88,96,112,224,448,896
  $bin/parathinker diagnose diversity "${sums[@]}" --output "$folder/diversity"
  $bin/parathinker diagnose tunnel-vision "${sums[@]}" --wrong-paths 1 --continuations 1 \
    --output "$folder/tunnel-vision"
}

start_beside "$folder/others.log" others
$bin/parathinker eval "${sums[@]}" --paths 1,2,4,8,16 --output "$folder/smollm2-sums" --methods "$methods"
wait_for "$data_only"
$bin/parathinker eval "${sums[@]}" --paths 1,2,4,8,16 --output "$folder/smollm2-sums" \
  --methods "$(of_one_chain "$data_only")"
$bin/parathinker eval report "$folder/smollm2-sums" --output "$folder/smollm2-sums-report"
end_beside

if [ -n "${SHOW:-}" ]; then
  show_report "$folder/smollm2-sums-report" smollm2-sums
  show_diagnoses "$folder" smollm2-sums
fi
