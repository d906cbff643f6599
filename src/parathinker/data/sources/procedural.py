"""Questions that reasoning-gym makes: one task, or several by weight.

A question's metadata holds the task and the whole entry, which its scorer asks for. What JSON would
change so that the scorer no longer takes it is left out.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import random
from collections.abc import Iterator, Mapping
from typing import Any

from parathinker.data import products
from parathinker.data.schema import Question, question_id
from parathinker.errors import MissingExtraError, UsageError

PREFIX = "reasoning-gym:"
NOT_SCORABLE = "not scorable from a file"
HELD_OUT = "held out for evaluation"
EXAMPLE = f"{PREFIX}gsm_symbolic, or with weights {PREFIX}gsm_symbolic=2,chain_sum=1"


def draw(
    source: str, size: int, seed: int, options: Mapping[str, str]
) -> Iterator[tuple[Question | None, str]]:
    """Draw so many entries: a question each, or None and why it was left out.

    Args:
        source: ``reasoning-gym:TASK``, or several as ``reasoning-gym:TASK=WEIGHT,TASK=WEIGHT``.
        size: how many entries.
        seed: the same seed, the same entries; another one, others.
        options: the tasks' own, as ``{"min_digits": "3"}``; for one of several tasks as
            ``{"chain_sum.min_digits": "3"}``.

    Raises:
        UsageError: no such task or option, or a value that the task does not take.
    """
    weights = _weights(source)
    tasks = {
        name: _create(name, size, seed, _options_of(name, options, list(weights)))
        for name in weights
    }
    rng = random.Random(f"{seed}/{source}")
    names = list(tasks)
    for index in range(size):
        name = rng.choices(names, list(weights.values()))[0]
        entry = tasks[name][index]
        if name == "products":
            problem = products.problem_of(entry)
            if products.is_held_out(problem.a, problem.b):
                yield None, HELD_OUT
                continue
        stored = _as_json(entry)
        if stored is None or not _scores_alike(tasks[name], entry, stored):
            yield None, NOT_SCORABLE
            continue
        answer = entry.get("answer")
        yield (
            Question(
                id=question_id(entry["question"]),
                question=entry["question"],
                answer=None if answer is None else str(answer),
                source=f"{PREFIX}{name}",
                metadata={"task": name, "entry": stored},
            ),
            "",
        )


def _weights(source: str) -> dict[str, float]:
    weights: dict[str, float] = {}
    for part in source.removeprefix(PREFIX).split(","):
        name, _, weight = part.strip().partition("=")
        try:
            weights[name] = float(weight or 1)
        except ValueError:
            raise UsageError(
                f"{source}: a weight should be a number, got {weight!r}; such as {EXAMPLE}"
            ) from None
        if not 0 < weights[name] < float("inf"):
            raise UsageError(f"{source}: a weight should be above 0, got {weight}")
    return weights


def _options_of(task: str, options: Mapping[str, str], tasks: list[str]) -> dict[str, Any]:
    """What the options say of one task; one without a task's name is for all."""
    found = {}
    for key, value in options.items():
        owner, dot, name = key.rpartition(".")
        if dot and owner not in tasks:
            raise UsageError(f"option {key}: {owner} is none of the tasks {', '.join(tasks)}")
        if not dot or owner == task:
            try:
                found[name] = json.loads(value)
            except json.JSONDecodeError:
                found[name] = value
    return found


def _create(name: str, size: int, seed: int, options: dict[str, Any]) -> Any:
    try:
        import reasoning_gym
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        raise MissingExtraError("drawing problems from reasoning-gym", "data") from error
    known = sorted(task for task in DATASETS if task != "composite")
    if name not in known:
        close = difflib.get_close_matches(name, known)
        hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(known)}"
        raise UsageError(f"reasoning-gym has no task {name!r}; {hint}")
    allowed = [field.name for field in dataclasses.fields(DATASETS[name][1])]
    for option in options:
        if option not in allowed or option in ("size", "seed"):
            own = [field for field in allowed if field not in ("size", "seed")]
            raise UsageError(f"{name} has no option {option!r}; it has {', '.join(own)}")
    try:
        # It seeds each problem with seed + index: near seeds would give nearly the same problems.
        far = random.Random(f"{name}/{seed}").getrandbits(31)
        return reasoning_gym.create_dataset(name, size=size, seed=far, **options)
    except (AssertionError, TypeError, ValueError, KeyError) as error:
        raise UsageError(f"{name} does not take {options}: {error}") from error


def _as_json(entry: dict[str, Any]) -> dict[str, Any] | None:
    """The entry as it comes back from a file; None if it does not go into one."""

    def plain(value: Any) -> Any:
        if isinstance(value, set | frozenset):
            return sorted(value)
        return value.tolist()  # numpy's numbers and arrays

    try:
        stored = json.loads(json.dumps(entry, default=plain, allow_nan=False))
    except (TypeError, ValueError, AttributeError):
        return None
    return stored if isinstance(stored, dict) else None


def _scores_alike(task: Any, entry: dict[str, Any], stored: dict[str, Any]) -> bool:
    answer = entry.get("answer")
    try:
        before, after = (float(task.score_answer(answer, one)) for one in (entry, stored))
    except Exception:  # scorers fail in many ways on what they do not expect
        return False
    return before == after and (answer is None or after > 0)
