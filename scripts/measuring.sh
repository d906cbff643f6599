# Sourced, in the repository's root: what the scripts that measure the embedded model share.

bin=.venv/bin
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
questions=${QUESTIONS:-500}
chain=(--model tiny --benchmark products --limit "$questions")
tiny=("${chain[@]}" --budget 288 --summary-tokens 32)

# start_beside LOG COMMAND...: run it beside what follows, and end it with this script.
start_beside() {
  beside_log=$1
  mkdir -p "$(dirname "$beside_log")"
  "${@:2}" >"$beside_log" 2>&1 &
  beside=$!
  trap 'kill $(pgrep -P "$beside") "$beside" 2>/dev/null || true' EXIT
}

# end_beside: wait for it; if it failed, say why and fail, too.
end_beside() {
  wait "$beside" || { tail -n 20 "$beside_log"; exit 1; }
  trap - EXIT
}

# show_report FOLDER NAME: put a report where the documentation shows it.
show_report() {
  mkdir -p docs/results
  # Where a model lies on this machine is nobody's business.
  sed -e 's#(figures/#(#' -e 's#| model | .*/#| model | #' "$1/report.md" >"docs/results/$2.md"
  cp "$1/figures/"*.png docs/results/
}
