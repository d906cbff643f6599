"""Random requests come, go and fail in little memory: survivors are exact, nothing leaks."""

from __future__ import annotations

import asyncio
import dataclasses
import random

import pytest

from parathinker import Answer, CapacityError, Done, NumericalError, ParaThinker, ThinkingParams
from thinkers import ENGINES, TOLERANCE, Faulty, assert_same, distance, no_leak, shared, thinker

REQUESTS = 25
FATES = ("answered",) * 7 + ("failed", "left", "cancelled")
LARGEST = ThinkingParams(paths=6, max_path_tokens=24, max_summary_tokens=10, rounds=2)


@pytest.fixture(scope="module")
def folder(random_model):
    return random_model("llama", max_paths=16, seed=7)


def any_params(choose: random.Random) -> ThinkingParams:
    """Small, of every kind."""
    changes: dict[str, object] = {
        "paths": choose.choice([1, 2, 3, 4, 6]),
        "max_path_tokens": choose.randint(1, 24),
        "max_summary_tokens": choose.randint(1, 10),
        "termination": choose.choice(["first-finish", "half-finish", "last-finish"]),
        "temperature": choose.choice([0.0, 0.7, 1.3]),
        "top_p": choose.choice([1.0, 0.9]),
        "top_k": choose.choice([0, 20]),
        "seed": choose.randrange(1000),
        "summary_prefix": choose.choice(["", "So: "]),
    }
    if choose.random() < 0.2:
        changes |= {"paths": "auto", "max_paths": 6, "termination": "first-finish"}
    if choose.random() < 0.2:
        changes |= {"rounds": 2}
    if choose.random() < 0.2:
        changes |= {"budget": choose.randint(6, 60)}
    if choose.random() < 0.2:
        changes |= {"max_path_tokens": 24, "min_path_tokens": 12, "continuation": "Wait "}
    if choose.random() < 0.2:
        changes |= {"repetition_penalty": 1.3, "presence_penalty": 0.5}
    if choose.random() < 0.1:
        changes |= {"stop": ("e", "a")}
    return ThinkingParams(**changes)


def any_question(choose: random.Random) -> str:
    """Many begin alike."""
    beginnings = ("What is 6 times 7? ", "Solve the following problem, step by step. ", "")
    return choose.choice(beginnings) + "?" * choose.randint(1, 40)


class Crowd:
    """Requests of one run, and what became of them."""

    def __init__(self, model: ParaThinker, seed: int) -> None:
        self.model = model
        self.seed = seed
        self.answers: list[tuple[str, ThinkingParams, Answer]] = []
        self.ends: list[str] = []

    async def run(self) -> None:
        asked, fates = [], random.Random(self.seed)
        for number in range(REQUESTS):
            # Each has its own randomness, so that what it asks does not depend on the others' pace.
            choose = random.Random(f"{self.seed}/{number}")
            fate = "failed" if number == 5 else fates.choice(FATES)
            asked.append(asyncio.ensure_future(self.one(choose, fate)))
            if choose.random() < 0.5:
                await asyncio.sleep(choose.random() * 0.02)
        await asyncio.wait_for(asyncio.gather(*asked), 100)

    async def one(self, choose: random.Random, fate: str) -> None:
        question, params = any_question(choose), any_params(choose)
        after = choose.choice(self.answers)[2] if self.answers and choose.random() < 0.3 else None
        if after is not None and after.after is not None:
            after = None
        if fate == "failed":
            params = dataclasses.replace(params, top_k=Faulty.UNSOUND_TOP_K)
        patience = choose.randint(0, 30)
        try:
            stream = self.model.astream(question, params, after=after)
        except CapacityError:
            self.ends.append("refused")
            return
        try:
            if fate == "cancelled":
                task = asyncio.ensure_future(anext(stream))
                await asyncio.sleep(patience / 1000)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            async for event in stream:
                patience -= 1
                if isinstance(event, Done):
                    self.answers.append((question, params, event.answer))
                    self.ends.append("answered")
                elif fate == "left" and patience < 0:
                    self.ends.append(fate)
                    return
        except NumericalError:
            assert fate == "failed"
            self.ends.append(fate)
        finally:
            await stream.aclose()
        if fate == "cancelled":
            self.ends.append(fate)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("engine", ENGINES)
def test_a_crowd_in_little_memory_ends_well(folder, engine, seed):
    choose = random.Random(seed)
    model = thinker(
        folder,
        engine,
        kv_tokens=choose.choice([480, 640, 900]),
        max_batch_tokens=choose.choice([3, 16, 64]),
    )
    Faulty(model)
    crowd = Crowd(model, seed)
    with no_leak(model):
        asyncio.run(crowd.run())
    assert len(crowd.ends) >= REQUESTS
    assert {"answered", "failed"} <= set(crowd.ends)
    for question, params, answer in crowd.answers:
        assert distance(folder, answer) <= TOLERANCE
        again = shared(folder, engine).think(question, params, after=answer.after)
        assert_same(answer, again, engine)


def test_little_memory_makes_requests_give_way(folder):
    model = thinker(folder, kv_tokens=LARGEST.paths * 8 * 8, max_batch_tokens=16)
    with no_leak(model):
        crowd = Crowd(model, 0)
        asyncio.run(crowd.run())
        assert model.load().preemptions > 0
