# Sourced: puts a report where the documentation shows it.

# show_report FOLDER NAME
show_report() {
  mkdir -p docs/results
  # Where a model lies on this machine is nobody's business.
  sed -e 's#(figures/#(#' -e 's#| model | .*/#| model | #' "$1/report.md" >"docs/results/$2.md"
  cp "$1/figures/"*.png docs/results/
}
