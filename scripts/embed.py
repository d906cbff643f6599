"""Put a trained `tiny` into the package: its files, and held-out problems to show it on.

Run after training: python scripts/embed_tiny.py runs/tiny/own-4/model
The model card beside them, README.md, is written by hand from `make paper-tables`.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from parathinker.data import products
from parathinker.data.tasks import EXAMPLES as EXAMPLES_FILE

TARGET = Path(__file__).parent.parent / "src" / "parathinker" / "models" / "tiny"
FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
)
MEASURED, EXAMPLES = 500, 20
"""The first held-out problems are for measuring; the next ones are shown by `ask --example`."""


def main() -> None:
    """Copy the model's files and write ``examples.jsonl``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="the folder that training left")
    source = parser.parse_args().model
    TARGET.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copy(source / name, TARGET / name)
    problems = products.held_out_problems(MEASURED + EXAMPLES)[MEASURED:]
    lines = [json.dumps({"question": p["question"], "answer": p["answer"]}) for p in problems]
    (TARGET / EXAMPLES_FILE).write_text("\n".join(lines) + "\n", "utf-8")
    size = sum((TARGET / name).stat().st_size for name in FILES)
    print(f"{TARGET}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
