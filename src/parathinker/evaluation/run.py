"""One evaluation from start to end: every method on every question, kept as it comes."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from parathinker.errors import ParaThinkerError, UsageError
from parathinker.evaluation import benchmarks
from parathinker.evaluation.benchmarks import Benchmark, Selection
from parathinker.evaluation.lab import IN_FLIGHT, Case, Lab
from parathinker.evaluation.methods import Method, parse_method
from parathinker.evaluation.models import Watch, longest_prompt, model_identity, open_labs
from parathinker.evaluation.settings import SETTINGS, EvalSettings
from parathinker.evaluation.store import Cell, RunStore
from parathinker.evaluation.surroundings import surroundings
from parathinker.scoring import ScoringPool, scorer_version

_OTHERS = "other models"
_NO_OTHERS: Mapping[str, str] = MappingProxyType({})
AT_ONCE = 4 * IN_FLIGHT
"""Answers that are worked on at once; most wait for the same few generations."""


class BudgetError(ParaThinkerError):
    """A method generated more than it may: a fault of the method, not of the user."""


@dataclass(frozen=True)
class Task:
    """One question for one method at one width, once."""

    benchmark: str
    method: Method
    case: Case
    replicate: int
    lab: Lab
    """Of the model that the method asks."""

    @property
    def cell(self) -> Cell:
        """Where its outcome belongs."""
        return Cell(
            self.benchmark,
            self.method.label,
            self.case.width,
            self.replicate,
            self.case.question.id,
        )


def run(settings: EvalSettings, folder: Path, watch: Watch = lambda *_: None) -> list[str]:
    """Do all of an evaluation that the folder does not hold yet.

    Returns:
        What was left out and why, such as a width that the model does not have.

    Raises:
        UsageError: settings that do not fit the model, or another evaluation's folder.
    """
    methods = list({one.label: one for one in map(parse_method, settings.methods)}.values())
    selection = Selection(
        settings.limit, settings.seed, settings.task_options, settings.split, settings.subset
    )
    loaded = [benchmarks.load(name, selection, settings.prompt) for name in settings.benchmarks]
    with RunStore(folder, write=True) as store, ScoringPool() as scoring:
        names = dict.fromkeys(method.model for method in methods)
        identity = model_identity(settings.model)
        others = {name: model_identity(name) for name in names if name}
        compare_settings(store, settings, identity, others)  # before a model is loaded for nothing
        with open_labs(settings, {"": identity, **others}, loaded, store, scoring, watch) as labs:
            left_out = [one.remark for one in loaded if one.remark]
            tasks = list(plan(settings, loaded, methods, labs, left_out))
            for benchmark in loaded:  # which may refuse them, so before anything is noted
                store.take_questions(benchmark.name, benchmark.questions)
            agree(store, settings, identity, others)
            before = store.fact("left out") or []
            store.note("left out", list(dict.fromkeys([*before, *left_out])))
            asyncio.run(_work(tasks, store, watch))
            asyncio.run(_time(settings, tasks, store, watch))
            store.note("finished", time.time())
    return left_out


def compare_settings(
    store: RunStore, settings: EvalSettings, identity: str, others: Mapping[str, str] = _NO_OTHERS
) -> None:
    """Compare what the run is to be with what it was.

    Args:
        others: identities of the models that methods name.

    Raises:
        UsageError: the folder was begun with other settings, or a model has changed since.
    """
    before = store.fact("settings")
    if before is None:
        return
    differences = EvalSettings.from_mapping(before).differences(settings)
    if store.fact("model") != identity:
        differences.append(f"model: {store.fact('model')} there, {identity} now")
    known = store.fact(_OTHERS) or {}
    differences += [
        f"model={name}: {known[name]} there, {now} now"
        for name, now in others.items()
        if known.get(name, now) != now
    ]
    if store.fact("scorer") != scorer_version():
        differences.append(f"scorer: {store.fact('scorer')!r} there, {scorer_version()!r} now")
    if differences:
        raise UsageError(
            f"{store.path.parent} holds an evaluation with other settings: "
            f"{'; '.join(differences)}. Use the same, or another output folder"
        )


def agree(
    store: RunStore, settings: EvalSettings, identity: str, others: Mapping[str, str] = _NO_OTHERS
) -> None:
    """Note what the run is, if it is what it was.

    Raises:
        UsageError: as :func:`compare_settings`.
    """
    compare_settings(store, settings, identity, others)
    runs = store.fact("runs") or []
    began = {"began": time.time(), "settings": settings.to_dict(), **surroundings(settings.backend)}
    before = store.fact("settings")
    grown = EvalSettings.from_mapping(before).grown_by(settings) if before else settings
    store.note("settings", grown.to_dict())
    grown.write(store.path.parent / SETTINGS)
    store.note("model", identity)
    if others:
        store.note(_OTHERS, {**(store.fact(_OTHERS) or {}), **others})
    store.note("scorer", scorer_version())
    store.note("runs", [*runs, began])


def plan(
    settings: EvalSettings,
    loaded: Sequence[Benchmark],
    methods: Sequence[Method],
    labs: Mapping[str, Lab],
    left_out: list[str],
) -> Iterator[Task]:
    """All there is to do, question by question; ``left_out`` learns what cannot be done, wholly or
    in part."""
    possible: dict[str, list[tuple[Method, int]]] = {}
    for benchmark in loaded:
        longest = {name: longest_prompt(lab.model, benchmark)[0] for name, lab in labs.items()}
        for method, width in itertools.product(methods, settings.paths):
            lab = labs[method.model]
            # The longest prompt leaves the least room.
            case = _case(settings, benchmark, longest[method.model], 0, width)
            try:
                method.check(case, lab)
                possible.setdefault(benchmark.name, []).append((method, width))
                remark = method.remark(case, lab)
            except UsageError as error:
                remark = str(error)
            if remark is not None and remark not in left_out:
                left_out.append(remark)
    if not possible:
        raise UsageError("; ".join(left_out))
    for benchmark in loaded:
        for replicate in range(settings.samples):
            for index in range(len(benchmark.questions)):
                for method, width in possible.get(benchmark.name, ()):
                    case = _case(settings, benchmark, index, replicate, width)
                    yield Task(benchmark.name, method, case, replicate, labs[method.model])


def _case(
    settings: EvalSettings, benchmark: Benchmark, index: int, replicate: int, width: int
) -> Case:
    def one(at: int, other: Case | None) -> Case:
        question = benchmark.questions[at]
        return Case(
            question,
            benchmark.ask(question),
            width,
            settings.budget,
            settings.summary_tokens,
            settings.seed_of(replicate),
            other,
        )

    alone = len(benchmark.questions) == 1
    # The one before: it stays the same when questions are added.
    return one(index, None if alone else one(index - 1 if index else 1, None))


async def _work(tasks: Sequence[Task], store: RunStore, watch: Watch) -> None:
    """Answer whatever has not been answered, several questions at once."""
    waiting = [task for task in tasks if not store.has_outcome(task.cell)]
    done, total = len(tasks) - len(waiting), len(tasks)
    watch("answers", done, total)
    upcoming = iter(waiting)

    async def worker() -> None:
        nonlocal done
        for task in upcoming:
            outcome = await task.method.answer(task.case, task.lab)
            if outcome.tokens > task.case.tokens:
                raise BudgetError(
                    f"{task.method.label} generated {outcome.tokens} tokens at a budget of "
                    f"{task.case.tokens}; please report this"
                )
            store.add_outcome(task.cell, outcome)
            done += 1
            watch("answers", done, total)

    workers = [asyncio.create_task(worker()) for _ in range(AT_ONCE)]
    try:
        await asyncio.gather(*workers)
    finally:
        for one in workers:
            one.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def _time(
    settings: EvalSettings, tasks: Sequence[Task], store: RunStore, watch: Watch
) -> None:
    """Time some answers one by one, with nothing remembered and nothing else running."""
    by_cell: dict[tuple[str, str, int], list[Task]] = {}
    for task in tasks:
        if task.replicate == 0 and task.method.timed:
            key = task.benchmark, task.method.label, task.case.width
            by_cell.setdefault(key, []).append(task)
    chosen = [task for some in by_cell.values() for task in some[: settings.latency_questions]]
    todo = [task for task in chosen if not store.has_latency(task.cell)]
    if not todo:
        return
    # The first use of a model costs more than any later one.
    first = {task.method.model: task for task in reversed(todo)}
    for done, task in enumerate([*first.values(), *todo], -len(first)):
        watch("latencies", max(0, done), len(todo))
        # Only as many paths as this width has, and only what this method asks of them.
        lab = task.lab.alone(task.case.width, task.method.uses_confidences)
        try:
            lab.model.forget_prefixes()
            began = time.perf_counter()
            await task.method.run_alone(task.case, lab)
            seconds = time.perf_counter() - began
        finally:
            lab.close()
        if done >= 0:
            store.add_latency(task.cell, seconds)
    watch("latencies", len(todo), len(todo))
