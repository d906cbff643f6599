#!/usr/bin/env bash
# Parallel thinking against votes and single paths at temperatures 0 and 1, on the embedded model and
# the questions of scripts/paper_tables.sh; side by side, on a core each. Goes on where it was
# stopped; what came of it is copied to docs/results/ if SHOW is set.
# Usage: scripts/temperatures.sh [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/show_report.sh
folder=${1:-runs/temperatures}
bin=.venv/bin
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

# Paths go routes of their own, so that they differ without any sampling, too.
measure() {
  local part=$folder/tiny-temperature-$1
  $bin/parathinker eval --model tiny --benchmark products --limit "${QUESTIONS:-500}" \
    --paths 1,2,4,8,16 --budget 288 --summary-tokens 32 --temperature "$1" --latency-questions 0 \
    --methods "sequential majority confidence best parallel:termination=last-finish" --output "$part"
  $bin/parathinker eval report "$part" --output "$part-report"
}

mkdir -p "$folder"
measure 1 >"$folder/temperature-1.log" 2>&1 &
beside=$!
trap 'kill $(pgrep -P "$beside") "$beside" 2>/dev/null || true' EXIT
measure 0
wait "$beside" || { tail -n 20 "$folder/temperature-1.log"; exit 1; }
trap - EXIT

if [ -n "${SHOW:-}" ]; then
  for temperature in 0 1; do
    show_report "$folder/tiny-temperature-$temperature-report" "tiny-temperature-$temperature"
  done
fi
