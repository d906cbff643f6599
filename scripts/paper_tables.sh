#!/usr/bin/env bash
# The paper's comparison and diagnoses on the embedded model, on fresh problems of its task; then the
# same report for SmolLM2-135M on MATH-500's first questions, which is far beyond it. Every part goes
# on where it was stopped; what came of it is copied to docs/results/ if SHOW is set.
# Two parts run side by side, on a core each (OMP_NUM_THREADS gives them more); what the second says
# goes to others.log. It begins with training a model on the data alone (recipes/tiny-data-only.yaml),
# if that is not there.
# Usage: scripts/paper_tables.sh [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/measuring.sh
folder=${1:-runs/paper}
data_only=${DATA_ONLY:-runs/tiny-data-only/model}

others() {
  if [ ! -d "$data_only" ]; then
    $bin/python scripts/own_paths.py tiny runs/tiny-data-only/paths --problems 500 --seed 15
    $bin/parathinker train recipes/tiny-data-only.yaml --output runs/tiny-data-only
  fi

  $bin/parathinker diagnose ablations "${tiny[@]}" --data-only "$data_only" \
    --output "$folder/ablations"

  # The embedded model's paths have 228 tokens, which powers of two would step over.
  $bin/parathinker diagnose budget "${chain[@]}" --output "$folder/budget" \
    --budgets 64,128,227,228,240,288,576,1152
  # One wrong path of each question and one attempt behind each prefix: of wrong paths there are thousands.
  $bin/parathinker diagnose tunnel-vision "${tiny[@]}" --wrong-paths 1 --continuations 1 \
    --output "$folder/tunnel-vision"
  $bin/parathinker diagnose diversity "${tiny[@]}" --output "$folder/diversity"

  $bin/parathinker eval --model "$($bin/python benchmarks/smollm2.py)" --benchmark math500 --limit 20 \
    --paths 1,2,4 --budget 512 --summary-tokens 64 --latency-questions 1 --methods "$methods" \
    --output "$folder/smollm2"
  $bin/parathinker eval report "$folder/smollm2" --output "$folder/smollm2-report"
}

start_beside "$folder/others.log" others

# Thought id 15 takes the best of the routes, by other held-out problems: votes of it alone.
$bin/parathinker eval "${tiny[@]}" --paths 1,2,4,8,16 --output "$folder/tiny" \
  --methods "$methods majority:thought_id=15 likeliest:thought_id=15"
wait_for "$data_only"
$bin/parathinker eval "${tiny[@]}" --paths 1,2,4,8,16 --output "$folder/tiny" \
  --methods "$(of_one_chain "$data_only")"
$bin/parathinker eval report "$folder/tiny" --output "$folder/tiny-report"
end_beside

if [ -n "${SHOW:-}" ]; then
  show_report "$folder/tiny-report" tiny
  show_report "$folder/smollm2-report" smollm2
  show_diagnoses "$folder"
fi
