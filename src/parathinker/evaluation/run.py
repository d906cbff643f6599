"""One evaluation from start to end: every method on every question, kept as it comes."""

from __future__ import annotations

import asyncio
import hashlib
import platform
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from parathinker import ParaThinker
from parathinker.errors import ParaThinkerError, UsageError
from parathinker.evaluation import benchmarks
from parathinker.evaluation.benchmarks import Benchmark, Selection
from parathinker.evaluation.lab import IN_FLIGHT, Case, Forgetful, Lab, Sampling
from parathinker.evaluation.methods import Method, parse_method
from parathinker.evaluation.settings import EvalSettings
from parathinker.evaluation.store import Cell, RunStore
from parathinker.modeling.folders import resolve_model
from parathinker.scoring import ScoringPool, scorer_version

Watch = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""
_HASHED = 2**20


class BudgetError(ParaThinkerError):
    """A method generated more than it may: a fault of the method, not of the user."""


@dataclass(frozen=True)
class Task:
    """One question for one method at one width, once."""

    benchmark: str
    method: Method
    case: Case
    replicate: int

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
    methods = [parse_method(text) for text in settings.methods]
    selection = Selection(settings.limit, settings.seed, settings.task_options)
    loaded = [benchmarks.load(name, selection, settings.prompt) for name in settings.benchmarks]
    watch("loading the model", 0, 1)
    with (
        RunStore(folder, write=True) as store,
        ScoringPool() as scoring,
        ParaThinker.from_pretrained(
            settings.model, settings.device, weights=settings.weights
        ) as model,
    ):
        watch("loading the model", 1, 1)
        identity = model_identity(settings.model)
        agree(store, settings, identity)
        check_budget(settings, model, loaded)
        sampling = Sampling(
            identity,
            settings.budget,
            max(settings.paths),
            settings.temperature,
            settings.top_p,
            any(method.uses_confidences for method in methods),
        )
        for benchmark in loaded:
            store.take_questions(benchmark.name, benchmark.questions)
        left_out: list[str] = []
        lab = Lab(model, sampling, store, scoring)
        try:
            tasks = list(plan(settings, loaded, methods, lab, left_out))
            store.note("left out", left_out)
            asyncio.run(_work(tasks, lab, store, watch))
            asyncio.run(_time(settings, tasks, sampling, model, store, watch))
        finally:
            lab.close()
        store.note("finished", time.time())
    return left_out


def agree(store: RunStore, settings: EvalSettings, identity: str) -> None:
    """Note what the run is, or compare with what it was.

    Raises:
        UsageError: the folder was begun with other settings, or the model has changed since.
    """
    before = store.fact("settings")
    if before is not None:
        differences = EvalSettings.from_mapping(before).differences(settings)
        if store.fact("model") != identity:
            differences.append("the model's weights have changed")
        if store.fact("scorer") != scorer_version():
            differences.append(f"scorer: {store.fact('scorer')!r} there, {scorer_version()!r} now")
        if differences:
            raise UsageError(
                f"{store.path.parent} holds an evaluation with other settings: "
                f"{'; '.join(differences)}. Use the same, or another output folder"
            )
    store.note("settings", settings.to_dict())
    store.note("model", identity)
    store.note("scorer", scorer_version())
    runs = store.fact("runs") or []
    store.note("runs", [*runs, {"began": time.time(), **surroundings()}])


def check_budget(settings: EvalSettings, model: ParaThinker, loaded: Sequence[Benchmark]) -> None:
    """Raise UsageError where a budget is too small for any question, or too large for the model."""
    for benchmark in loaded:
        longest = max(model.prompt_tokens(benchmark.ask(q)) for q in benchmark.questions)
        if settings.budget < longest:
            raise UsageError(
                f"budget {settings.budget} is smaller than a prompt of {benchmark.name}, "
                f"{longest} tokens; thinking takes more than reading"
            )
        room = model.config.max_context - longest - settings.summary_tokens
        if settings.budget > room:
            raise UsageError(
                f"budget {settings.budget} does not fit: beside a prompt of {longest} tokens "
                f"({benchmark.name}) and a summary this model's context of "
                f"{model.config.max_context} leaves {room}"
            )


def plan(
    settings: EvalSettings,
    loaded: Sequence[Benchmark],
    methods: Sequence[Method],
    lab: Lab,
    left_out: list[str],
) -> Iterator[Task]:
    """All there is to do, question by question; ``left_out`` learns what cannot be done."""
    possible = []
    for method in methods:
        for width in settings.paths:
            case = _case(settings, loaded[0], 0, 0, width)
            try:
                method.check(case, lab)
                possible.append((method, width))
            except UsageError as error:
                left_out.append(str(error))
    if not possible:
        raise UsageError("; ".join(left_out))
    for benchmark in loaded:
        for replicate in range(settings.samples):
            for index in range(len(benchmark.questions)):
                for method, width in possible:
                    case = _case(settings, benchmark, index, replicate, width)
                    yield Task(benchmark.name, method, case, replicate)


def _case(
    settings: EvalSettings, benchmark: Benchmark, index: int, replicate: int, width: int
) -> Case:
    def one(at: int, other: Case | None) -> Case:
        question = benchmark.questions[at % len(benchmark.questions)]
        return Case(
            question,
            benchmark.ask(question),
            width,
            settings.budget,
            settings.summary_tokens,
            settings.seed + replicate,
            other,
        )

    alone = len(benchmark.questions) == 1
    return one(index, None if alone else one(index + 1, None))


async def _work(tasks: Sequence[Task], lab: Lab, store: RunStore, watch: Watch) -> None:
    """Answer whatever has not been answered, several questions at once."""
    waiting = [task for task in tasks if not store.has_outcome(task.cell)]
    done, total = len(tasks) - len(waiting), len(tasks)
    watch("answers", done, total)
    upcoming = iter(waiting)

    async def worker() -> None:
        nonlocal done
        for task in upcoming:
            outcome = await task.method.answer(task.case, lab)
            if outcome.tokens > task.case.tokens:
                raise BudgetError(
                    f"{task.method.label} generated {outcome.tokens} tokens at a budget of "
                    f"{task.case.tokens}; please report this"
                )
            store.add_outcome(task.cell, outcome)
            done += 1
            watch("answers", done, total)

    workers = [asyncio.create_task(worker()) for _ in range(IN_FLIGHT)]
    try:
        await asyncio.gather(*workers)
    finally:
        for one in workers:
            one.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def _time(
    settings: EvalSettings,
    tasks: Sequence[Task],
    sampling: Sampling,
    model: ParaThinker,
    store: RunStore,
    watch: Watch,
) -> None:
    """Time some answers one by one, with nothing remembered and nothing else running."""
    known = {(b, m, w) for b, m, w, _ in store.latencies()}
    by_cell: dict[tuple[str, str, int], list[Task]] = {}
    for task in tasks:
        key = task.benchmark, task.method.label, task.case.width
        if task.replicate == 0 and key not in known:
            by_cell.setdefault(key, []).append(task)
    todo = [task for some in by_cell.values() for task in some[: settings.latency_questions]]
    lab = Lab(model, sampling, Forgetful(), None)
    try:
        for done, task in enumerate(todo):
            watch("latencies", done, len(todo))
            model.forget_prefixes()
            began = time.perf_counter()
            await task.method.run_alone(task.case, lab)
            store.add_latency(task.cell, time.perf_counter() - began)
        watch("latencies", len(todo), len(todo))
    finally:
        lab.close()


def model_identity(name: str) -> str:
    """A model's name for people and a digest of its files, so that another is told apart."""
    folder = resolve_model(name)
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.suffix not in (".safetensors", ".json", ".jinja"):
            continue
        size = file.stat().st_size
        digest.update(f"{file.name} {size} ".encode())
        with file.open("rb") as data:
            # All of the small files, both ends of the large ones.
            digest.update(data.read(_HASHED))
            data.seek(max(0, size - _HASHED))
            digest.update(data.read(_HASHED))
    shown = Path(name).resolve().name if Path(name).is_dir() else name
    return f"{shown} {digest.hexdigest()[:16]}"


def surroundings() -> dict[str, Any]:
    """Versions, machine and commit, for the record."""
    packages = ("parathinker", "torch", "transformers", "math-verify", "reasoning-gym", "scipy")
    return {
        "versions": {name: _version(name) for name in packages},
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "commit": _commit(),
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Of the package's own repository, where it runs from one."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None
