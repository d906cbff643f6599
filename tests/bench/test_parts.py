"""The pieces that the benchmark's figures rest on."""

from __future__ import annotations

import math

import pytest
import torch

from parathinker import ParaThinker
from parathinker.bench.adaptive import _equal_accuracy, _Outcome
from parathinker.bench.figures import Column, Estimate, Spread, plain
from parathinker.bench.flat import FlatRun
from parathinker.bench.machine import Limits, Machine
from parathinker.bench.roofline import Context, Roofline, matrix_shapes
from parathinker.bench.setting import Bench, BenchOptions
from parathinker.bench.targets import judge
from parathinker.bench.workload import exactly, text_of
from parathinker.engine.runner import make_runner
from parathinker.modeling.checkpoint import load_weights
from parathinker.modeling.config import DecoderConfig
from parathinker.modeling.folders import EMBEDDED
from parathinker.prompt import PromptCodec


def test_figures_are_shown_with_their_spread() -> None:
    spread = Spread.of([2.0, 1.0, 4.0])
    assert spread == Spread(2.0, 1.0, 4.0, 3)
    column = Column("ms", "ms", 1)
    assert column.show(spread) == "2.0 (1.0–4.0)"
    assert column.show(spread, brief=True) == "2.0 ±100%"
    assert column.show(Spread.of([1234.56])) == "1,234.6"
    assert column.show(Estimate.of([1.0, 3.0])) == "2.0 ± 1.0"
    assert [column.show(cell) for cell in (None, 8192, "auto")] == ["–", "8,192", "auto"]
    assert plain(Estimate.of([1.0])) == {"mean": 1.0, "error": None}
    assert plain(math.inf) is None


def test_a_figure_meets_its_target_or_not_or_is_not_judged() -> None:
    assert judge("width", "16 paths", 2.29).met is True
    assert judge("width", "16 paths", 2.3).met is False
    assert judge("step", "8 paths", 1.35).met is True
    assert judge("throughput", "", 1.99).met is False
    unjudged = judge("step", "8 paths", 9.0, "too small a model")
    assert (unjudged.met, unjudged.why) == (None, "too small a model")


@pytest.mark.parametrize("tied", [True, False])
def test_roofline_counts_every_matrix_once(random_model, tied: bool) -> None:
    folder = random_model("qwen3", tied=tied)
    config = DecoderConfig.from_folder(folder)
    weights = load_weights(folder, config, torch.device("cpu"), torch.float32)
    matrices = [
        m for layer in weights.layers for m in (layer.qkv, layer.output, layer.gate_up, layer.down)
    ]
    assert matrix_shapes(config) == [tuple(m.shape) for m in (*matrices, weights.head)]
    elements = sum(m.numel() for m in (*matrices, weights.head))
    assert Roofline(config, torch.float32, "auto").weight_bytes == 4 * elements
    assert Roofline(config, torch.float32, "int8").weight_bytes == elements


def test_roofline_is_the_slower_of_reading_and_computing(tiny_random_model) -> None:
    roofline = Roofline(DecoderConfig.from_folder(tiny_random_model), torch.float32, "auto")
    context = Context(prompt=10, path=5)
    # Two layers of two kv heads of size 16 each, keys and values, in four bytes.
    assert roofline.kv_bytes_per_token == 2 * 2 * 2 * 16 * 4
    read = roofline.weight_bytes + (10 + 8 * 5) * roofline.kv_bytes_per_token
    operations = 8 * (roofline.weight_bytes / 4 * 2 + 4 * 2 * 4 * 16 * 15)
    slow_memory, slow_units = Limits(1e3, 1e12), Limits(1e12, 1e3)
    assert roofline.seconds(slow_memory, 8, context) == pytest.approx(read / 1e3)
    assert roofline.seconds(slow_units, 8, context) == pytest.approx(operations / 1e3)
    assert slow_memory.mean(slow_units) == Limits(5.000000005e11, 5.000000005e11)


def test_machine_is_probed_by_several_methods() -> None:
    threads = torch.get_num_threads()
    machine = Machine(torch.device("cpu"), torch.float32, size=2**22, side=64, repeats=2)
    assert torch.get_num_threads() == threads
    assert {"sum", "copy"} <= set(machine.by_method)
    assert all(len(rates) == 2 for rates in machine.by_method.values())
    probe = machine.probe()
    assert probe.bandwidth > 1e6
    assert probe.flops > 1e6
    assert machine.probes[-1] is probe


@pytest.mark.parametrize("name", ["tiny", "random"])
@pytest.mark.parametrize("tokens", [40, 64, 500])
def test_texts_have_exactly_the_tokens_that_were_asked_for(
    tiny_random_model, name: str, tokens: int
) -> None:
    codec = PromptCodec.from_folder(EMBEDDED / name if name == "tiny" else tiny_random_model)
    assert len(codec.encode_question(text_of(tokens, codec.encode_question))) == tokens
    assert len(codec.encode_text(text_of(tokens, codec.encode_text))) == tokens
    begun = text_of(tokens, codec.encode_question, "Question 3: ")
    assert begun.startswith("Question 3: ")
    assert len(codec.encode_question(begun)) == tokens


def test_jobs_have_exactly_the_tokens_that_were_asked_for(tiny_random_model) -> None:
    with ParaThinker.from_pretrained(tiny_random_model) as model:
        answer = model.think("2 + 2?", exactly(3, 9, 4, seed=1))
        forced = model.think("2 + 2?", exactly(3, 9, 4, seed=1, path_prefix="abcde"))
    for found in (answer, forced):
        assert [len(path.token_ids) for path in found.paths] == [1 + 9] * 3
        assert len(found.summary.token_ids) == 1 + 4
    assert all(path.text.startswith("abcde") for path in forced.paths)


def test_a_text_fed_by_hand_gets_the_engines_logprobs(tiny_random_model) -> None:
    with ParaThinker.from_pretrained(tiny_random_model) as model:
        answer = model.think("What is 2 + 2?", exactly(1, 20, 2, seed=0))
    path = answer.paths[0]
    prompt, tokens = answer.prompt_token_ids, path.token_ids
    config = DecoderConfig.from_folder(tiny_random_model)
    weights = load_weights(tiny_random_model, config, torch.device("cpu"), torch.float32)
    run = FlatRun(make_runner(config, weights), len(prompt) + len(tokens))
    run.feed(prompt, [])
    # In two forwards, so that the second reads what the first left.
    ones = [1] * len(tokens)
    logits = torch.cat(
        [run.feed(tokens[:7], range(7), ones[:7]), run.feed(tokens[7:], range(14), ones[7:])]
    )
    logprobs = logits.log_softmax(-1)[:-1].gather(1, torch.tensor(tokens[1:])[:, None])[:, 0]
    pairs = zip(logprobs.tolist(), path.logprobs[1:], strict=True)
    compared = [(a, b) for a, b in pairs if b is not None]
    assert len(compared) > 10
    assert [a for a, _ in compared] == pytest.approx([b for _, b in compared], abs=1e-4)


def test_a_flat_text_may_be_longer_than_the_context(random_model) -> None:
    folder = random_model("llama", max_position_embeddings=90)
    bench = Bench(BenchOptions(model=str(folder)))
    assert FlatRun.time(bench.runner, 300) > 0


def test_the_compiled_kernels_say_what_their_matrix_products_take(tiny_random_model) -> None:
    with ParaThinker.from_pretrained(tiny_random_model) as model:
        before = model.load().products
        answer = model.think("2 + 2?", exactly(3, 9, 4, seed=1))
        after = model.load().products
    if before is None:
        pytest.skip("the kernels were not built, and PyTorch's are not timed")
    assert after is not None
    assert 3 not in before
    # The first token of each path comes from the forward of the prompt.
    assert after[3].forwards == 9 - 1
    assert 0 < after[3].seconds < answer.timings.think_s


def test_tokens_saved_are_read_off_at_equal_accuracy() -> None:
    def outcome(right: float, tokens: float) -> _Outcome:
        return _Outcome([right, right], [tokens, tokens], [1.0, 1.0])

    fixed = [outcome(80, 200), outcome(90, 400), outcome(95, 800)]
    assert "about 300 tokens" in _equal_accuracy(fixed, outcome(85, 150))
    assert "+50% saved" in _equal_accuracy(fixed, outcome(85, 150))
    assert "about 200 tokens" in _equal_accuracy(fixed, outcome(70, 300))
    assert "-50% saved" in _equal_accuracy(fixed, outcome(70, 300))
    assert "more often right than any" in _equal_accuracy(fixed, outcome(96, 300))
