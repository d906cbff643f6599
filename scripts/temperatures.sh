#!/usr/bin/env bash
# Parallel thinking against votes and single paths at temperatures 0 and 1, on the embedded model and
# the questions of scripts/paper_tables.sh; side by side, on a core each. Goes on where it was
# stopped; what came of it is copied to docs/results/ if SHOW is set.
# Usage: scripts/temperatures.sh [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/measuring.sh
folder=${1:-runs/temperatures}

measure() {
  local part=$folder/tiny-temperature-$1
  $bin/parathinker eval "${tiny[@]}" --paths 1,2,4,8,16 --temperature "$1" --latency-questions 0 \
    --methods "sequential majority confidence best parallel:termination=last-finish" --output "$part"
  $bin/parathinker eval report "$part" --output "$part-report"
}

start_beside "$folder/temperature-1.log" measure 1
measure 0
end_beside

if [ -n "${SHOW:-}" ]; then
  for temperature in 0 1; do
    show_report "$folder/tiny-temperature-$temperature-report" "tiny-temperature-$temperature"
  done
fi
