"""From samples to a dataset's folder, step by step."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path

from parathinker import __version__
from parathinker.data.build.assemble import Assembler, NoExampleError
from parathinker.data.build.card import dataset_card
from parathinker.data.build.decontaminate import Decontaminator, read_benchmarks
from parathinker.data.build.lengths import TokenCounter
from parathinker.data.build.questions import decontaminated, split_of, unique_questions
from parathinker.data.build.report import BuildReport
from parathinker.data.build.settings import BuildSettings
from parathinker.data.build.sources import Candidate, Source, open_sources
from parathinker.data.build.summaries import WrittenSummaries
from parathinker.data.build.summaries import summary_questions as what_to_ask
from parathinker.data.build.tally import DroppedQuestion
from parathinker.data.build.verify import (
    Progress,
    ScoreCache,
    score_key,
    scores_beside,
    verify,
)
from parathinker.data.schema import (
    Example,
    Question,
    read_examples,
    write_examples,
    write_questions,
)
from parathinker.errors import UsageError
from parathinker.scoring import Scored

REPORT = "build.json"
DROPPED = "dropped.jsonl"


def build(
    inputs: Sequence[str | Path],
    output: str | Path,
    settings: BuildSettings | None = None,
    *,
    workers: int | None = None,
    scores: str | Path | None = None,
    summary_questions: str | Path | None = None,
    force: bool = False,
    progress: Progress = lambda *_: None,
) -> BuildReport:
    """Build a dataset from stores of samples and files of examples.

    The folder gets ``train.parquet``, ``validation.parquet`` where a question falls to it,
    ``README.md``, ``build.json`` and ``dropped.jsonl``. It is there whole or not at all.

    Args:
        inputs: stores (``samples.sqlite``), files of examples, or datasets built before.
        output: the folder to make.
        settings: what to make.
        workers: processes that check answers; by default one for each processor.
        scores: folder for what is found out about answers; by default beside each input.
        summary_questions: file to write what a teacher is to be asked for summaries.
        force: replace a dataset that is there.
        progress: called with the step, how many are done, and how many there are.

    Raises:
        UsageError: an input cannot be read; the folder is there; no example is left.
    """
    settings = settings or BuildSettings()
    target = Path(output)
    paths = [Path(one) for one in inputs]
    _restore(target)
    _check_target(target, force, paths)
    with ExitStack() as closing:
        benchmarks = read_benchmarks(settings.benchmarks, settings.against)
        counter = None if settings.tokenizer is None else TokenCounter(settings.tokenizer)
        sources = open_sources(paths, settings.path_text, settings.tokenizer, closing)
        report = BuildReport(settings, tuple(path.name for path in paths), _versions())
        decontaminator = Decontaminator(benchmarks, settings.ngram)
        questions = _choose_questions(sources, decontaminator, report)
        cached = [(source, _cache(source.path, settings, scores, closing)) for source in sources]
        written = _written_summaries(settings, scores, closing)
        checking = (workers, settings.timeout_s, progress)
        report.checked = verify(cached, questions, len(questions), *checking)
        if written is not None:
            report.checked += verify(
                [(written.source, written.scores)],
                written.source.questions(),
                written.source.count(),
                *checking,
                step="checking summaries",
            )
        assembler = Assembler(settings, counter, written)
        with _whole_folder(target) as folder:
            examples = _examples(cached, questions, assembler, report, progress)
            _write_splits(folder, examples, report)
            report.verdicts = assembler.verdicts
            report.tallies += assembler.tallies
            _write_report(folder, target.name, report)
            if not sum(counts.examples for counts in report.splits.values()):
                raise UsageError(f"no example is left: {_why(report)}")
    if summary_questions is not None:
        by_id = {question.id: question for question in questions}
        asked = what_to_ask(read_examples(target), by_id)
        write_questions(summary_questions, asked)
    return report


def _choose_questions(
    sources: Sequence[Source], benchmarks: Decontaminator, report: BuildReport
) -> list[Question]:
    threshold = report.settings.similar_questions
    unique, tally, dropped = unique_questions([s.questions() for s in sources], threshold)
    clean, clean_tally, contaminated = decontaminated(unique, benchmarks)
    report.questions = tally.came
    report.tallies += [tally, clean_tally]
    report.dropped += [*dropped, *contaminated]
    return clean


def _examples(
    cached: Sequence[tuple[Source, ScoreCache]],
    questions: Sequence[Question],
    assembler: Assembler,
    report: BuildReport,
    progress: Progress,
) -> Iterator[Example]:
    for done, question in enumerate(questions):
        progress("making examples", done, len(questions))
        try:
            example = assembler.example(question, list(_scored(cached, question)))
        except NoExampleError as error:
            report.dropped.append(
                DroppedQuestion(question.id, question.question, error.step, error.reason)
            )
            continue
        example = replace(example, split=split_of(example.id, report.settings.validation))
        report.count(example)
        yield example
    progress("making examples", len(questions), len(questions))


def _scored(
    cached: Sequence[tuple[Source, ScoreCache]], question: Question
) -> Iterator[tuple[Candidate, Scored]]:
    """The candidates of all sources, with their scores."""
    for source, cache in cached:
        for candidate in source.candidates(question.id):
            yield candidate, cache.get(score_key(question, candidate)) or Scored(None)


def _write_splits(folder: Path, examples: Iterator[Example], report: BuildReport) -> None:
    """A Parquet file for each split. One example is in memory at a time, so lines come first."""
    with ExitStack() as closing:
        lines = {}
        for example in examples:
            if example.split not in lines:
                file = folder / f"{example.split}.jsonl"
                lines[example.split] = closing.enter_context(file.open("w", encoding="utf-8"))
            print(json.dumps(example.to_dict()), file=lines[example.split])
    for split in sorted(report.splits):
        file = folder / f"{split}.jsonl"
        with file.open(encoding="utf-8") as written:
            rows = (Example.from_dict(json.loads(line), str(file)) for line in written)
            write_examples(file.with_suffix(".parquet"), rows)
        file.unlink()


def _write_report(folder: Path, name: str, report: BuildReport) -> None:
    text = json.dumps(report.to_dict(), indent=1, ensure_ascii=False) + "\n"
    (folder / REPORT).write_text(text, "utf-8")
    (folder / "README.md").write_text(dataset_card(report, name), "utf-8")
    with (folder / DROPPED).open("w", encoding="utf-8") as lines:
        for one in report.dropped:
            print(json.dumps(asdict(one), ensure_ascii=False), file=lines)


def _written_summaries(
    settings: BuildSettings, scores: str | Path | None, closing: ExitStack
) -> WrittenSummaries | None:
    if settings.summaries is None:
        return None
    path = Path(settings.summaries)
    cache = _cache(path, settings, scores, closing)
    written = WrittenSummaries(path, cache, settings.threshold)
    closing.callback(written.source.close)
    return written


def _cache(
    source: Path, settings: BuildSettings, scores: str | Path | None, closing: ExitStack
) -> ScoreCache:
    path = scores_beside(source)
    if scores is not None:
        Path(scores).mkdir(parents=True, exist_ok=True)
        path = Path(scores) / path.name
    cache = ScoreCache(path, settings.timeout_s)
    closing.callback(cache.close)
    return cache


def _check_target(target: Path, force: bool, inputs: Sequence[Path]) -> None:
    if target.resolve() in {path.resolve() for path in inputs}:
        raise UsageError(f"{target} is what to build from; name another folder to build")
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not (target / REPORT).is_file():
        raise UsageError(f"{target} is there, and is no dataset of this command; name another")
    if not force:
        raise UsageError(f"{target} is there already; --force replaces it")


@contextmanager
def _whole_folder(target: Path) -> Iterator[Path]:
    """A folder to write to, which takes the place of ``target`` when all went well."""
    partial = target.with_name(f".{target.name}.building")
    before = target.with_name(f".{target.name}.replaced")
    try:
        # What a build left that was killed.
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(before, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        if target.exists():
            target.rename(before)
        partial.rename(target)
        shutil.rmtree(before, ignore_errors=True)
    except OSError as error:
        raise UsageError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _restore(target: Path) -> None:
    """Put back what a build was about to replace when it was killed."""
    before = target.with_name(f".{target.name}.replaced")
    if before.exists() and not target.exists():
        before.rename(target)


def _why(report: BuildReport) -> str:
    reasons = [
        f"{n} {tally.unit} at {tally.step} ({why})"
        for tally in report.tallies
        for why, n in tally.dropped.most_common()
    ]
    return "; ".join(reasons) or "there were no questions"


def _versions() -> dict[str, str]:
    found = {"parathinker": __version__}
    for name in ("math-verify", "reasoning-gym", "sympy", "tokenizers"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
