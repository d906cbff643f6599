"""What ablations need: paths laid out in other ways, no thought embeddings, forced token ids."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from parathinker import ThinkingParams
from parathinker.errors import UsageError
from parathinker.graph import Kind, Layout, ThoughtGraph
from reference import largest_difference, reference_logits, reference_logprobs, reference_model
from thinkers import ENGINES, TOLERANCE, distance, shared, thinker

QUESTION = "What is 48213 * 7689?"
PARAMS = ThinkingParams(
    paths=3, min_path_tokens=8, max_path_tokens=17, max_summary_tokens=12, seed=5
)
BROKEN = {
    "parallel": {},
    "flat-positions": {"flat_positions": True},
    "chain": {"flat_positions": True, "chained_paths": True},
}


def test_flat_positions_go_on_where_the_segment_before_ended() -> None:
    graph = ThoughtGraph(flat_positions=True)
    prompt = graph.add(Kind.PROMPT, 3)
    paths = [graph.add(Kind.PATH, n, (prompt,), thought_id=i) for i, n in ((1, 2), (2, 4))]
    graph.add(Kind.SUMMARY, 2, (prompt, *paths))
    assert graph.positions() == list(range(11))
    assert graph.visible(paths[1]) == (prompt,)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("model_type", ["llama", "qwen3"])
def test_each_layout_equals_its_reference_and_no_other(random_model, measured, model_type, engine):
    folder = random_model(model_type, max_paths=16, seed=3)
    model, reference = shared(folder, engine), reference_model(folder)
    thought = model.think(QUESTION, PARAMS)
    given = [[path.token_ids for path in thought.paths]]
    for layout in Layout:
        answer = model.summarize([QUESTION], given, PARAMS, layout=layout.value)[0]
        for name, broken in BROKEN.items():
            expected = reference_logprobs(reference, answer, **broken)
            difference = largest_difference(answer, expected)
            if name == layout.value:
                measured(f"largest difference, layout {name}, {model_type}, {engine}", difference)
                assert difference <= 1e-4
            else:
                assert difference > 1e-2


@pytest.mark.parametrize("layout", ["flat-positions", "chain"])
def test_what_one_layout_left_in_memory_is_no_other_layouts(random_model, layout):
    folder = random_model("llama", max_paths=16, seed=3)
    model = thinker(folder)
    params = dataclasses.replace(PARAMS, min_summary_tokens=12)
    given = [[path.token_ids for path in model.think(QUESTION, params).paths]]
    other = model.summarize([QUESTION], given, params, layout=layout)[0]
    followed = model.think("And half of it?", params, after=other)
    assert distance(folder, followed) <= TOLERANCE


def test_a_chain_is_what_a_plain_causal_model_reads(tiny_random_model: Path) -> None:
    model, reference = shared(tiny_random_model), reference_model(tiny_random_model)
    given = [[path.token_ids for path in model.think(QUESTION, PARAMS).paths]]
    answer = model.summarize([QUESTION], given, PARAMS, layout="chain")[0]
    segments = [answer.prompt_token_ids, *(p.token_ids for p in answer.paths)]
    segments.append(answer.summary.token_ids)
    thought_ids = [i for i, s in enumerate([*segments[:-1], []]) for _ in s]
    thought_ids += [0] * len(segments[-1])
    with torch.no_grad():
        # No mask, no positions: what stock transformers does with one text.
        logits = reference(
            torch.tensor([[t for s in segments for t in s]]),
            thought_ids=torch.tensor([thought_ids]),
        ).logits[0, -len(segments[-1]) :]
    expected = reference_logits(reference, answer, flat_positions=True, chained_paths=True)[-1]
    assert torch.allclose(logits, expected, atol=1e-4)


def test_an_unknown_layout_is_refused(tiny_random_model: Path) -> None:
    with pytest.raises(UsageError, match="layout should be one of parallel, flat-positions, chain"):
        shared(tiny_random_model).summarize([QUESTION], [[[1]]], layout="diagonal")


def test_paths_that_fit_side_by_side_may_not_fit_one_behind_another(random_model) -> None:
    model = shared(random_model("llama", max_position_embeddings=128))
    given = [[[5] * 40] * 3]
    params = ThinkingParams(max_summary_tokens=4)
    assert len(model.summarize([QUESTION], given, params)[0].paths) == 3
    with pytest.raises(UsageError, match="3 paths one behind another do not fit"):
        model.summarize([QUESTION], given, params, layout="chain")


@pytest.mark.parametrize("engine", ENGINES)
def test_without_thought_embeddings_is_a_model_that_never_had_them(random_model, engine) -> None:
    folder = random_model("llama")
    with thinker(folder, engine, thought_embeddings=False) as model:
        answer = model.think(QUESTION, PARAMS)
    reference = reference_model(folder)
    with torch.no_grad():
        for layer in reference.model.layers:
            layer.self_attn.seg_embeddings.weight.zero_()
    assert largest_difference(answer, reference_logprobs(reference, answer)) <= 1e-4
    whole = reference_logprobs(reference_model(folder), answer)
    assert largest_difference(answer, whole) > 1e-2


def test_paths_may_begin_with_token_ids(tiny_random_model: Path) -> None:
    model = shared(tiny_random_model)
    first = model.think(QUESTION, PARAMS)
    bodies = [tuple(path.token_ids[1:6]) for path in first.paths]
    params = ThinkingParams(paths=3, max_path_tokens=17, seed=6, path_prefix=tuple(bodies))
    again = model.think(QUESTION, params)
    assert [tuple(path.token_ids[1:6]) for path in again.paths] == bodies
    assert all(path.logprobs[1:6] == [None] * 5 for path in again.paths)
    # Texts and token ids can be mixed, and a list of numbers is not taken for one of texts.
    mixed = ThinkingParams(paths=3, path_prefix=["So", bodies[0], ""], max_path_tokens=17)
    assert model.think(QUESTION, mixed).paths[0].text.startswith("So")
    with pytest.raises(UsageError, match="texts or lists of token ids"):
        ThinkingParams(paths=2, path_prefix=(1, 2))
    with pytest.raises(UsageError, match="no control tokens"):
        model.think(QUESTION, ThinkingParams(paths=1, path_prefix=[first.paths[0].token_ids]))
