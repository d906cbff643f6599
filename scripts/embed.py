"""Put a trained model or adapter into the package: its files, and held-out problems to show it on.

    python scripts/embed.py tiny runs/tiny/own-4/model
    python scripts/embed.py nines runs/even/parallel/model
    python scripts/embed.py smollm2-sums runs/smollm2/own/model

The model card beside them, README.md, is written by hand from what `make paper-tables`,
`even-tables` and `sums-tables` measure.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from parathinker.data import products, sums
from parathinker.modeling.adapter_base import is_adapter, read_base, write_base
from parathinker.modeling.folders import ADAPTER_CONFIG, EMBEDDED, EXAMPLES

MEASURED, SHOWN = 500, 20
"""The first held-out problems are for measuring; the next ones are shown by `ask --example`."""
HELD_OUT: Mapping[str, Callable[[int], list[dict[str, Any]]]] = {
    "tiny": products.held_out_problems,
    "nines": products.held_out_problems,
    "smollm2-sums": sums.held_out_problems,
}
MODEL_FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
)
ADAPTER = "adapter_model.safetensors"
ADAPTER_BASE = "smollm2-135m-instruct"
"""By this name the base is found wherever its package is installed."""


def main() -> None:
    """Copy the files and write the problems."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=HELD_OUT, help="of the embedded model")
    parser.add_argument("source", type=Path, help="the folder that training left")
    args = parser.parse_args()
    target = EMBEDDED / args.name
    target.mkdir(parents=True, exist_ok=True)
    if is_adapter(args.source):
        embed_adapter(args.source, target)
    else:
        for name in MODEL_FILES:
            with replacing(target / name) as file:
                shutil.copy(args.source / name, file)
    problems = HELD_OUT[args.name](MEASURED + SHOWN)[MEASURED:]
    lines = [json.dumps({"question": p["question"], "answer": p["answer"]}) for p in problems]
    (target / EXAMPLES).write_text("\n".join(lines) + "\n", "utf-8")
    size = sum(file.stat().st_size for file in target.iterdir())
    print(f"{target}: {size / 1e6:.1f} MB")


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A file to write, which then takes the place of another; whoever has that mapped keeps it."""
    beside = target.with_name(f"{target.name}.new")
    yield beside
    beside.replace(target)


def embed_adapter(source: Path, target: Path) -> None:
    """An adapter in bfloat16, which halves it; the base's tokenizer comes with the base."""
    config = json.loads((source / ADAPTER_CONFIG).read_text("utf-8"))
    config["base_model_name_or_path"] = ADAPTER_BASE
    (target / ADAPTER_CONFIG).write_text(json.dumps(config, indent=1, sort_keys=True), "utf-8")
    weights = load_file(source / ADAPTER)
    rounded = {name: tensor.bfloat16() for name, tensor in weights.items()}
    with replacing(target / ADAPTER) as file:
        save_file(rounded, file, {"format": "pt"})
    write_base(dataclasses.replace(read_base(source), base=ADAPTER_BASE), target)


if __name__ == "__main__":
    main()
