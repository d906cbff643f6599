#!/usr/bin/env bash
# Parallel thinking against votes and single paths at temperatures 0 and 1, on the embedded model, or
# with MODEL=nines on that, and the questions of scripts/paper_tables.sh; side by side, on a core each.
# Goes on where it was stopped; what came of it is copied to docs/results/ if SHOW is set.
# Usage: [MODEL=nines] scripts/temperatures.sh [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/measuring.sh
folder=${1:-runs/temperatures}
model=${MODEL:-tiny}
case $model in
  tiny) asked=("${tiny[@]}") filtered= ;;
  nines) asked=(--model nines "${products[@]}" "${budget_of_nines[@]}") filtered=majority:without=! ;;
  *) echo "no such model: $model; there are tiny and nines" >&2; exit 2 ;;
esac

measure() {
  local part=$folder/$model-temperature-$1
  $bin/parathinker eval "${asked[@]}" --paths 1,2,4,8,16 --temperature "$1" --latency-questions 0 \
    --methods "sequential majority $filtered confidence best parallel:termination=last-finish" \
    --output "$part"
  $bin/parathinker eval report "$part" --output "$part-report"
}

start_beside "$folder/temperature-1.log" measure 1
measure 0
end_beside

if [ -n "${SHOW:-}" ]; then
  for temperature in 0 1; do
    show_report "$folder/$model-temperature-$temperature-report" "$model-temperature-$temperature"
  done
fi
