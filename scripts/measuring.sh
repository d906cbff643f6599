# Sourced, in the repository's root: what the scripts that measure the embedded models share.

bin=.venv/bin
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
products=(--benchmark products --limit "${QUESTIONS:-500}")
chain=(--model tiny "${products[@]}")
tiny=("${chain[@]}" --budget 288 --summary-tokens 32)
budget_of_nines=(--budget 328 --summary-tokens 32)
methods="sequential sequential:greedy=true sequential:forced=true sequential:summary=true \
  majority confidence confidence:keep=10 likeliest short best reprefill tree parallel \
  parallel:termination=half-finish parallel:termination=last-finish flat-positions withheld shuffled"
diagnoses=(budget tunnel-vision ablations diversity)

# of_one_chain MODEL: methods for a model that thinks in one chain, which is measured as one: summed
# up, and by the last answer that stands in the chain.
of_one_chain() {
  echo "sequential:model=$1 sequential:greedy=true,model=$1 \
    sequential:summary=true,model=$1 sequential:greedy=true,summary=true,model=$1"
}

# start_beside LOG COMMAND...: run it beside what follows, and end it with this script.
start_beside() {
  beside_log=$1
  mkdir -p "$(dirname "$beside_log")"
  "${@:2}" >"$beside_log" 2>&1 &
  beside=$!
  trap 'kill $(pgrep -P "$beside") "$beside" 2>/dev/null || true' EXIT
}

# wait_for FOLDER: until what runs beside has made it; if it ended without, say why and fail.
wait_for() {
  while [ ! -d "$1" ] && kill -0 "$beside" 2>/dev/null; do sleep 5; done
  [ -d "$1" ] || end_beside
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

# show_diagnoses FOLDER [MODEL]: likewise, those in it; their names begin with the model's.
show_diagnoses() {
  local what before=${2:+$2-}
  mkdir -p docs/results
  for what in "${diagnoses[@]}"; do
    sed -e "s#($what.png)#($before$what.png)#" "$1/$what/report.md" >"docs/results/$before$what.md"
    cp "$1/$what/$what.png" "docs/results/$before$what.png"
  done
}
