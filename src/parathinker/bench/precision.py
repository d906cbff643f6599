"""What int8 weights cost in precision, and what they bring in speed."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from parathinker import ParaThinker, ThinkingParams
from parathinker.bench.figures import Cell, Column, Estimate, Section, Spread
from parathinker.bench.flat import FlatRun, chunk_tokens
from parathinker.bench.setting import EMBEDDED, Bench
from parathinker.bench.targets import judge
from parathinker.bench.workload import exactly
from parathinker.data import products
from parathinker.engine.runner import Runner
from parathinker.errors import MissingExtraError, UsageError

FULL, INT8 = "auto", "int8"
_TEXT_CHUNK = 1024
"""Tokens of a text that are read in one go."""
_CHUNK = 20
"""Questions that think at once."""


@dataclass(frozen=True)
class Text:
    """Tokens, of which those from ``scored`` on count."""

    token_ids: list[int]
    thought_ids: list[int]
    scored: int


@dataclass(frozen=True)
class Scored:
    """What a model makes of texts, token by token."""

    logprobs: torch.Tensor
    likeliest: torch.Tensor

    @property
    def perplexity(self) -> float:
        """Of all tokens that count."""
        return math.exp(-float(self.logprobs.mean()))


def measure(bench: Bench) -> Section:
    """The section."""
    bench.release()  # both formats are about to be loaded
    name = str(bench.dtype).removeprefix("torch.")
    columns = (Column("what", "what"), Column("full", name, 3), Column("int8", "int8", 3))
    section = Section("precision", "int8 weights: precision and speed", columns)
    kind, texts = _texts(bench)
    full = _score(bench, FULL, texts)
    try:
        small: Scored | None = _score(bench, INT8, texts)
    except UsageError as error:
        small = None
        section.notes.append(f"no int8 here: {error}")

    def row(what: str, of_full: Cell, of_int8: Cell = None) -> None:
        section.rows.append({"what": what, "full": of_full, "int8": of_int8})

    row("perplexity", full.perplexity, small.perplexity if small else None)
    if small:
        difference = (full.logprobs - small.logprobs).abs()
        same = (full.likeliest == small.likeliest).double().mean()
        row("|difference of a logprob|, mean", None, float(difference.mean()))
        row("|difference of a logprob|, largest", None, float(difference.max()))
        row("same likeliest token, %", None, 100 * float(same))
        row("step of one path, ms", *_steps(bench, section))
    section.notes.append(f"text: {len(full.logprobs):,} tokens of {kind}")
    _accuracies(bench, section, [FULL, INT8] if small else [FULL])
    return section


def _texts(bench: Bench) -> tuple[str, list[Text]]:
    """Texts of the model's own task if it has one, else English; and what they are."""
    if bench.config.parathinker.get("task") == "products":
        return "worked-out products of 5-digit numbers, held out", _traces(bench)
    # Any Python brings a few hundred kilobytes of plain technical English.
    from pydoc_data.topics import topics

    wanted = bench.sizes.text
    ids: list[int] = []
    for topic in sorted(topics):
        ids += bench.codec.encode_text(topics[topic])
        if len(ids) > wanted:
            break
    size = min(_TEXT_CHUNK, bench.config.max_context)
    parts = [ids[i : min(i + size, wanted)] for i in range(0, min(wanted, len(ids)), size)]
    return "Python's own help pages", [Text(part, [0] * len(part), 1) for part in parts]


def _traces(bench: Bench) -> list[Text]:
    rng, codec = random.Random(0), bench.codec
    texts: list[Text] = []
    while sum(len(text.token_ids) for text in texts) < bench.sizes.text:
        a, b = (rng.randrange(10 ** (products.DIGITS - 1), 10**products.DIGITS) for _ in range(2))
        if not products.is_held_out(a, b):
            continue
        problem = products.Problem(f"What is {a} * {b}?", a, b)
        prompt = codec.encode_question(problem.question)
        body = codec.encode_text(products.work_out(problem))
        path = [codec.control.opens[0], *body, codec.control.closes[0]]
        texts.append(Text([*prompt, *path], [0] * len(prompt) + [1] * len(path), len(prompt) + 1))
    return texts


def _score(bench: Bench, weights: str, texts: Sequence[Text]) -> Scored:
    """Log-probabilities of the texts' tokens with weights of a format."""
    runner = bench.make_runner(weights)
    logprobs: list[torch.Tensor] = []
    likeliest: list[torch.Tensor] = []
    for done, text in enumerate(texts):
        bench.progress(f"reading a text, {weights}", done, len(texts))
        found = _logits(runner, text)[text.scored - 1 : -1]
        targets = torch.tensor(text.token_ids[text.scored :])
        logprobs.append(found.log_softmax(-1).gather(1, targets[:, None])[:, 0].double())
        likeliest.append(found.argmax(-1))
    bench.progress(f"reading a text, {weights}", len(texts), len(texts))
    return Scored(torch.cat(logprobs), torch.cat(likeliest))


def _logits(runner: Runner, text: Text) -> torch.Tensor:
    run, step, length = (
        FlatRun(runner, len(text.token_ids)),
        chunk_tokens(runner),
        len(text.token_ids),
    )
    parts = []
    for first in range(0, length, step):
        here = slice(first, first + step)
        tokens = text.token_ids[here]
        parts.append(run.feed(tokens, range(len(tokens)), text.thought_ids[here]).cpu())
    return torch.cat(parts)


def _steps(bench: Bench, section: Section) -> tuple[Spread, Spread]:
    """Milliseconds of a step of one path with each format."""
    sizes, question = bench.sizes, bench.question()
    models = {weights: bench.load(bench.options.model, weights) for weights in (FULL, INT8)}
    times: dict[str, list[float]] = {FULL: [], INT8: []}
    for seed in range(sizes.repeats + 1):
        for weights, model in models.items():
            bench.progress("a step with each format", seed, sizes.repeats + 1)
            timings = model.think(question, exactly(1, sizes.path, 2, seed)).timings
            if seed:  # the first round warms up
                times[weights].append(1000 * timings.think_s / (sizes.path - 1))
    bench.progress("a step with each format", sizes.repeats + 1, sizes.repeats + 1)
    for model in models.values():
        model.close()
    gain = Spread.of(a / b for a, b in zip(times[FULL], times[INT8], strict=True))
    section.verdicts.append(judge("int8", "1 path", gain.median, bench.why_no_roofline))
    return Spread.of(times[FULL]), Spread.of(times[INT8])


def _accuracies(bench: Bench, section: Section, formats: list[str]) -> None:
    """The embedded model's accuracy with each format, on the same problems."""
    count = bench.sizes.problems
    try:
        entries = products.held_out_problems(count)
    except MissingExtraError as error:
        section.notes.append(f"the embedded model's accuracy is left out: {error}")
        return
    found: dict[str, tuple[Estimate, Estimate]] = {}
    for weights in formats:
        with bench.load(EMBEDDED, weights) as model:
            found[weights] = _accuracy(bench, model, entries, weights)
    for i, what in enumerate(("single path", "parallel thinking")):
        cells = [found[weights][i] for weights in formats] + [None]
        title = f"{EMBEDDED}, {what}: right, %"
        section.rows.append({"what": title, "full": cells[0], "int8": cells[1]})
    section.notes.append(
        f"{EMBEDDED}: {count} held-out problems, 8 paths at the model's own temperature"
    )


def _accuracy(
    bench: Bench, model: ParaThinker, entries: list[dict[str, object]], weights: str
) -> tuple[Estimate, Estimate]:
    """Percent of right paths and of right summaries."""
    params = ThinkingParams(paths=8, termination="last-finish", seed=0)
    paths: list[float] = []
    summaries: list[float] = []
    for first in range(0, len(entries), _CHUNK):
        bench.progress(f"{EMBEDDED} on its task, {weights}", first, len(entries))
        chunk = entries[first : first + _CHUNK]
        answers = model.think([str(entry["question"]) for entry in chunk], params)
        for answer, entry in zip(answers, chunk, strict=True):
            right = [_right(path.text, entry) for path in answer.paths]
            paths.append(100 * sum(right) / len(right))
            summaries.append(100 * _right(answer.text, entry))
    bench.progress(f"{EMBEDDED} on its task, {weights}", len(entries), len(entries))
    return Estimate.of(paths), Estimate.of(summaries)


def _right(text: str, entry: dict[str, object]) -> float:
    return float(products.score(products.parse_answer(text), entry) == 1.0)
