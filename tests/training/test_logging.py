"""What a run says of itself: losses by part, speed, samples; and that saying it changes nothing."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from packed_cases import MODEL_INPUTS
from small_runs import Losses, example_files, recipe
from transformers import TrainerCallback

from parathinker import processors
from parathinker.cli.train import progress_figures
from parathinker.data.schema import read_examples
from parathinker.modeling.config import DecoderConfig
from parathinker.prompt import PromptCodec
from parathinker.training.batches import WORK, Batches
from parathinker.training.flops import Work, training_flops
from parathinker.training.meter import known_peak
from parathinker.training.model import load_model
from parathinker.training.run import train
from parathinker.training.validation import validation_batches

SAMPLES = {
    "questions": ["What is 1 * 1?", "What is 2 * 3?"],
    "every": 2,
    "paths": 3,
    "max_path_tokens": 12,
    "max_summary_tokens": 8,
}


class Validations(TrainerCallback):  # type: ignore[misc]
    """Notes what was measured on held-out examples."""

    def __init__(self) -> None:
        self.found: dict[int, dict[str, float]] = {}

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if logs and "eval_loss" in logs:
            self.found[state.global_step] = dict(logs)


def test_the_log_has_the_loss_by_part_speed_and_memory(tmp_path: Path) -> None:
    losses = Losses()
    data = {"source": "examples", "files": example_files(tmp_path)}
    train(recipe(3, data=data, batches_per_step=2), tmp_path / "run", (losses,), peak_flops=1e12)
    for log in losses.logs.values():
        # Without a summary's weight, the loss is the mean over the labelled tokens of both parts.
        low, high = sorted((log["loss_paths"], log["loss_summary"]))
        assert low <= log["loss"] <= high
        assert log["tokens_per_second"] > 0
        assert 0 < log["mfu"] < 1
        assert log["peak_memory_gb"] > 0.01
        assert {"grad_norm", "learning_rate"} <= log.keys()
    line = progress_figures(losses.logs[3])
    for word in ("loss ", "paths ", "summary ", "gradient ", "lr ", "tokens/s", "MFU ", "GB"):
        assert word in line


def test_model_flops_are_six_times_the_weights_and_what_attention_sees() -> None:
    config = DecoderConfig.from_dict(
        {
            "model_type": "llama",
            "vocab_size": 100,
            "hidden_size": 8,
            "intermediate_size": 16,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "max_position_embeddings": 64,
        }
    )
    tokens, predicted = 50, 20
    pairs = tokens * (tokens + 1) // 2
    weights = 3 * (4 * 8 * 8 + 3 * 8 * 16)
    expected = 6 * weights * tokens + 6 * 8 * 100 * predicted + 3 * 3 * 4 * 8 * pairs
    work = Work(tokens, pairs, predicted)
    assert training_flops(config, work) == expected
    frozen = 4 * weights * tokens + 4 * 8 * 100 * predicted + 3 * 3 * 4 * 8 * pairs
    assert training_flops(config, work, frozen=True) == frozen


def test_tensorboard_gets_figures_and_samples(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(recipe(2, top={"samples": SAMPLES}), tmp_path)
    (events,) = (tmp_path / "one").rglob("events.out.tfevents.*")
    board = EventAccumulator(str(events))
    board.Reload()
    scalars = set(board.Tags()["scalars"])
    assert {"train/loss", "train/loss_paths", "train/tokens_per_second"} <= scalars
    texts = [tag for tag in board.Tags()["tensors"] if "sample_" in tag]
    assert len(texts) == 2


def test_samples_show_every_path_and_are_kept(tmp_path: Path) -> None:
    said: list[str] = []
    assert train(recipe(5, top={"samples": SAMPLES}), tmp_path, say=said.append)
    rows = [json.loads(line) for line in (tmp_path / "one" / "samples.jsonl").open()]
    assert [(row["step"], row["question"]) for row in rows] == [
        (step, question)
        for step in (2, 4)
        for question in SAMPLES["questions"]  # type: ignore[attr-defined]
    ]
    assert all(len(row["paths"]) == 3 for row in rows)
    block = [
        "  sample at step 2: What is 1 * 1?",
        "    path ",
        "    path ",
        "    path ",
        "    summary ",
    ]
    assert [line.startswith(start) for line, start in zip(said, block, strict=False)] == 5 * [True]
    assert len(said) == 4 * len(block)
    assert not (tmp_path / "one" / ".sampled-model").exists()


def test_samples_do_not_disturb_training_and_resume_exactly(tmp_path: Path) -> None:
    without, sampled = Losses(), Losses()
    train(recipe(8), tmp_path / "without", (without,))
    watched = recipe(8, top={"samples": SAMPLES})
    train(watched, tmp_path / "sampled", (sampled,))
    assert sampled.by_step == without.by_step
    first, second = Losses(stop_after=5), Losses()
    assert not train(watched, tmp_path / "broken", (first,))
    # As if killed after a sample that its checkpoint does not know of.
    file = tmp_path / "broken" / "one" / "samples.jsonl"
    with file.open("a") as rows:
        rows.write('{"step": 8, "question": "lost"}\n{"step": 8, "que')
    assert train(watched, tmp_path / "broken", (second,))
    assert {**first.by_step, **second.by_step} == without.by_step
    whole = (tmp_path / "sampled" / "one" / "samples.jsonl").read_text()
    assert file.read_text() == whole


def test_samples_of_an_adapter_are_those_of_the_merged_model(
    tmp_path: Path, tiny_random_model: Path
) -> None:
    from parathinker import ParaThinker, ThinkingParams
    from parathinker.modeling.export import export_model

    model = {"base": str(tiny_random_model), "max_paths": 8, "lora": {"rank": 4}}
    train(recipe(2, model, {"samples": SAMPLES}, learning_rate=1e-2), tmp_path)
    export_model(tmp_path, tmp_path / "made")
    params = ThinkingParams(
        paths=3, max_path_tokens=12, max_summary_tokens=8, termination="last-finish", seed=0
    )
    row = json.loads((tmp_path / "one" / "samples.jsonl").open().readline())
    answer = ParaThinker.from_pretrained(tmp_path / "made").think(row["question"], params)
    assert row["answer"] == answer.text
    assert [path["text"] for path in row["paths"]] == [path.text for path in answer.paths]


@pytest.mark.slow
def test_weights_and_biases_keeps_its_files_in_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    for name in ("WANDB_MODE", "WANDB_DIR", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")
    assert train(recipe(2, top={"report_to": ["wandb"]}), tmp_path)
    (found,) = (tmp_path / "one" / "wandb").glob("offline-run-*/run-*.wandb")
    # A process of its own writes it, which may be behind on a busy machine.
    until = time.monotonic() + 60
    while b"train/loss" not in found.read_bytes():
        assert time.monotonic() < until
        time.sleep(0.2)
    assert not list(tmp_path.rglob("events.out.tfevents.*"))


def test_a_batch_without_a_summary_has_no_loss_of_one(tmp_path: Path) -> None:
    data: dict[str, Any] = {
        "source": "products",
        "paths": [1],
        "options": {"summary": False},
    }
    losses = Losses()
    train(recipe(1, data=data), tmp_path, (losses,))
    assert "loss_summary" not in losses.logs[1]
    assert math.isclose(losses.logs[1]["loss_paths"], losses.logs[1]["loss"], rel_tol=1e-5)


def test_validation_is_the_plain_loss_of_examples_that_are_not_trained_on(tmp_path: Path) -> None:
    (tmp_path / "held-out").mkdir()
    held_out = example_files(tmp_path / "held-out", count=9)
    validation = {"files": held_out, "every": 2, "max_examples": 7}
    without, losses, watch = Losses(), Losses(), Validations()
    assert train(recipe(5), tmp_path / "without", (without,))
    watched = recipe(5, top={"validation": validation})
    assert train(watched, tmp_path / "run", (losses, watch))
    assert losses.by_step == without.by_step, "looking changes nothing"
    assert list(watch.found) == [2, 4, 5]

    folder = tmp_path / "run" / "model"
    model, _ = load_model(folder)
    codec = PromptCodec.from_folder(folder)
    examples = list(read_examples(Path(held_out[0])))[:7]
    stage = watched.stages[0]
    batches = validation_batches(watched.validation, stage, codec, "", slack=0)
    assert sorted(e.question for e in batches.examples(0)) == sorted(e.question for e in examples)
    with torch.no_grad():
        batch = batches[0]
        inputs = {name: batch[name] for name in (*MODEL_INPUTS, "thought_layout")}
        logits = model(**inputs, use_cache=False).logits[0]
    labels, of_path = batch["shift_labels"][0], batch["thought_ids"][0] > 0
    each = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    for name, rows in (("loss", labels >= 0), ("loss_paths", of_path), ("loss_summary", ~of_path)):
        rows = rows & (labels >= 0)
        expected = float(each[rows].mean())
        assert watch.found[5][f"eval_{name}"] == pytest.approx(expected, rel=1e-4)


def test_the_peak_of_a_known_gpu_is_known() -> None:
    assert known_peak("NVIDIA A800-SXM4-80GB", bf16=True) == 312e12
    assert known_peak("NVIDIA H100 80GB HBM3", bf16=True) == 989e12
    assert known_peak("NVIDIA H100 PCIe", bf16=True) is None
    assert known_peak("NVIDIA A100-SXM4-40GB", bf16=False) is None


def test_speed_counts_tokens_and_not_padding(tmp_path: Path) -> None:
    small = recipe(1)
    train(small, tmp_path)
    codec = PromptCodec.from_folder(tmp_path / "model")
    batch = Batches(small.stages[0], codec, seed=0)[0]
    assert batch[WORK].tokens <= batch["input_ids"].numel()


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU computes in bfloat16")
@pytest.mark.parametrize("units", [False, True])
def test_bfloat16_is_float32_where_the_processor_has_no_units_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, units: bool
) -> None:
    facts = tmp_path / "cpuinfo"
    facts.write_text(f"flags\t: avx2{' avx512_bf16' * units}\n", "utf-8")
    monkeypatch.setattr(processors, "_FACTS", facts)
    data = {"source": "examples", "files": example_files(tmp_path)}
    said: list[str] = []
    runs = {}
    for bf16 in (False, True):
        runs[bf16] = Losses()
        train(recipe(2, data=data, bf16=bf16), tmp_path / f"{bf16}", (runs[bf16],), say=said.append)
    float32 = [line for line in said if "computing in float32" in line]
    assert len(float32) == (not units)

    def losses(bf16: bool) -> list[float]:
        return [log["loss"] for log in runs[bf16].logs.values()]

    assert (losses(True) == losses(False)) == (not units)
