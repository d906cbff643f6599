# Sourced, in the repository's root: what the scripts for SmolLM2 on sums share.

bin=.venv/bin

# sampled ENGINE FOLDER SIZE SEED PATHS: SIZE problems, and PATHS paths of each from a model. The
# options are those of src/parathinker/data/sums.py, which says what it is measured on, too.
sampled() {
  local engine=$1 folder=$2 size=$3 seed=$4 paths=$5
  mkdir -p "$folder"
  if [ ! -f "$folder/questions.jsonl" ]; then
    $bin/parathinker data questions reasoning-gym:basic_arithmetic --size "$size" --seed "$seed" \
      --option min_terms=6 --option max_terms=8 --option min_digits=3 --option max_digits=3 \
      --option 'operators=["+"]' --option allow_parentheses=false --option allow_negation=false \
      --option format_style=natural --output "$folder/questions.jsonl"
  fi
  $bin/parathinker data sample "$folder/questions.jsonl" --engine "$engine" --paths "$paths" \
    --weights int8 --temperature 0.6 --output "$folder/samples.sqlite"
}
