"""The public class: load a model, think about questions."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path as FilePath
from typing import TypeVar, overload

import torch

from parathinker.answer import (
    Answer,
    Done,
    Path,
    PathEnd,
    PathToken,
    StreamEvent,
    Summary,
    SummaryToken,
    Timings,
    Usage,
)
from parathinker.engine.engine import Engine
from parathinker.engine.request import (
    EndEvent,
    EngineRequest,
    RunningRequest,
    SegmentOutput,
)
from parathinker.errors import CheckpointError, UsageError
from parathinker.modeling.checkpoint import load_weights
from parathinker.modeling.config import DecoderConfig, read_json_object
from parathinker.modeling.decoder import Decoder
from parathinker.modeling.folders import resolve_model
from parathinker.params import (
    DEFAULT_MAX_PATH_TOKENS,
    DEFAULT_MAX_SUMMARY_TOKENS,
    DEFAULT_TEMPERATURE,
    ThinkingParams,
)
from parathinker.prompt import PromptCodec

_T = TypeVar("_T")
_STOP_WINDOW = 64
"""A stop text is looked for in so many last tokens, plus one for each of its bytes."""


class ParaThinker:
    """A model that thinks along several paths at once and sums them up.

    Make one with :meth:`from_pretrained`.
    """

    def __init__(self, decoder: Decoder, codec: PromptCodec, end_ids: frozenset[int]) -> None:
        rows = decoder.weights.thought_rows
        if rows is not None and rows <= codec.control.max_paths:
            raise CheckpointError(
                f"the thought embeddings have {rows} rows; {codec.control.max_paths} paths need "
                f"{codec.control.max_paths + 1}"
            )
        largest = max(codec.tokenizer.get_vocab().values())
        if largest >= decoder.config.vocab_size:
            raise CheckpointError(
                f"the tokenizer's largest id is {largest}, but the model's vocabulary has "
                f"{decoder.config.vocab_size} entries; resize its embedding to the tokenizer"
            )
        self.config = decoder.config
        self._defaults = _own_defaults(decoder.config)
        self._codec, self._end_ids = codec, end_ids - codec.control.ids
        self._decoder = decoder
        self._engine = Engine(decoder, codec.control)

    @classmethod
    def from_pretrained(
        cls, name: str | FilePath = "tiny", device: str = "auto", dtype: str = "auto"
    ) -> ParaThinker:
        """Load a model.

        Args:
            name: an embedded model's name, a Hugging Face folder, or a hub id.
            device: ``auto`` (CUDA or MPS where there is one, else CPU) or a PyTorch device.
            dtype: ``float32``, ``bfloat16``, or ``auto`` (float32 on CPU, else bfloat16).

        Raises:
            CheckpointError: the model is unknown, damaged or unsupported, or has no control tokens.
            UsageError: an unknown device or dtype.
        """
        folder = resolve_model(str(name))
        target = _device(device)
        types = {"float32": torch.float32, "bfloat16": torch.bfloat16}
        types["auto"] = torch.float32 if target.type == "cpu" else torch.bfloat16
        if dtype not in types:
            raise UsageError(f"dtype should be one of {', '.join(sorted(types))}; got {dtype!r}")
        config = DecoderConfig.from_folder(folder)
        codec = PromptCodec.from_folder(folder)
        weights = load_weights(folder, config, target, types[dtype])
        return cls(Decoder(config, weights), codec, _end_ids(folder))

    @property
    def max_paths(self) -> int:
        """P_max: the largest number of paths this model can tell apart."""
        return self._codec.control.max_paths

    @property
    def task(self) -> str | None:
        """The task that the model was made for, if it was made for one."""
        task = self.config.parathinker.get("task")
        return None if task is None else str(task)

    @overload
    def think(self, question: str, params: ThinkingParams | None = None) -> Answer: ...

    @overload
    def think(
        self, question: list[str] | tuple[str, ...], params: ThinkingParams | None = None
    ) -> list[Answer]: ...

    def think(
        self, question: str | list[str] | tuple[str, ...], params: ThinkingParams | None = None
    ) -> Answer | list[Answer]:
        """Think about one question, or about a list of them together.

        Raises:
            UsageError: an empty question, one that does not fit the context, too many paths.
        """
        if not isinstance(question, (str, list, tuple)):
            raise UsageError(f"a question should be a text, or a list of texts; got {question!r}")
        questions = [question] if isinstance(question, str) else list(question)
        prepared = [self._prepare(q, params or ThinkingParams()) for q in questions]
        answers = self._run(prepared)
        return answers[0] if isinstance(question, str) else answers

    def stream(self, question: str, params: ThinkingParams | None = None) -> Iterator[StreamEvent]:
        """The same for one question, as events while it happens; the last one is ``Done``.

        Raises:
            UsageError: as :meth:`think`, at once and not only when iterated.
        """
        request, resolved = self._prepare(question, params or ThinkingParams())
        return self._events(request, resolved)

    def summarize(
        self,
        questions: Sequence[str],
        paths: Sequence[Sequence[Sequence[int]]],
        params: ThinkingParams | None = None,
    ) -> list[Answer]:
        """Answer questions from paths that are given, not thought.

        What the summary makes of them shows whether it reads them: withhold paths, swap them
        between questions, plant a mistake.

        Args:
            paths: for each question, for each path, its token ids as in ``Path.token_ids`` (the
                opening and closing tokens may be left out); a path may be empty.

        Raises:
            UsageError: as :meth:`think`; or the numbers of questions and paths disagree, or a token
                id is not in the vocabulary.
        """
        params = params or ThinkingParams()
        if len(paths) != len(questions):
            raise UsageError(f"{len(questions)} questions need as many lists of paths")
        prepared = []
        control = self._codec.control.ids
        for question, given in zip(questions, paths, strict=True):
            bodies = tuple(tuple(t for t in path if t not in control) for path in given)
            for token in (t for body in bodies for t in body):
                if not 0 <= token < self.config.vocab_size:
                    raise UsageError(
                        f"token ids of paths should be from 0 to {self.config.vocab_size - 1}; "
                        f"got {token!r}"
                    )
            longest = max((len(body) for body in bodies), default=0)
            request, resolved = self._prepare(
                question,
                dataclasses.replace(
                    params,
                    paths=len(bodies),
                    max_path_tokens=longest + 1,
                    termination="last-finish",
                    budget=None,
                ),
            )
            prepared.append((dataclasses.replace(request, given_paths=bodies), resolved))
        return self._run(prepared)

    def _events(self, request: EngineRequest, params: ThinkingParams) -> Iterator[StreamEvent]:
        streams = {i: self._codec.stream() for i in (0, *request.thought_ids)}
        for running, events in self._engine.run([request]):
            for event, following in zip(events, [*events[1:], None], strict=True):
                if isinstance(event, EndEvent):
                    if event.thought_id:
                        yield PathEnd(event.thought_id, event.finish_reason)
                    continue
                last = isinstance(following, EndEvent)
                text = streams[event.thought_id].push(event.token_id, last)
                if event.thought_id:
                    yield PathToken(event.thought_id, event.token_id, text, event.logprob)
                else:
                    yield SummaryToken(event.token_id, text, event.logprob)
            if running.done:
                yield Done(self._answer(running, params))

    def _run(self, prepared: Sequence[tuple[EngineRequest, ThinkingParams]]) -> list[Answer]:
        answers: dict[int, Answer] = {}
        params = {id(request): resolved for request, resolved in prepared}
        for running, _ in self._engine.run([request for request, _ in prepared]):
            if running.done:
                key = id(running.request)
                answers[key] = self._answer(running, params[key])
        return [answers[id(request)] for request, _ in prepared]

    def _prepare(
        self, question: object, params: ThinkingParams
    ) -> tuple[EngineRequest, ThinkingParams]:
        """Check a question against the model and fill in every default."""
        if not isinstance(question, str) or not question.strip():
            raise UsageError("the question is empty")
        if params.paths > self.max_paths:
            raise UsageError(
                f"paths should be at most {self.max_paths} for this model; got {params.paths}. "
                "More need control tokens and training: set model.max_paths in the recipe"
            )
        own = self._defaults
        temperature = _first(params.temperature, own.temperature, DEFAULT_TEMPERATURE)
        summary_temperature = _first(
            params.summary_temperature, own.summary_temperature, temperature
        )
        prefix = _first(params.summary_prefix, own.summary_prefix, "")
        seed = random.SystemRandom().getrandbits(31) if params.seed is None else params.seed
        prompt = self._codec.encode_question(question)
        if not prompt:
            raise UsageError("the question is empty: this model's tokenizer leaves nothing of it")
        prefix_ids = self._codec.encode_text(prefix)
        path_tokens, summary_tokens = self._token_limits(params, len(prompt), len(prefix_ids))
        request = EngineRequest(
            prompt=tuple(prompt),
            thought_ids=tuple(range(1, params.paths + 1)),
            paths_to_finish=params.paths_to_finish,
            max_path_tokens=path_tokens,
            max_summary_tokens=summary_tokens,
            budget=params.budget,
            summary_prefix=tuple(prefix_ids),
            temperature=temperature,
            summary_temperature=summary_temperature,
            top_k=params.top_k,
            top_p=params.top_p,
            min_p=params.min_p,
            seed=seed,
            logprobs=params.logprobs,
            end_ids=self._end_ids,
            stop=self._stop_check(params.stop),
        )
        resolved = dataclasses.replace(
            params,
            max_path_tokens=path_tokens,
            max_summary_tokens=summary_tokens,
            temperature=temperature,
            summary_temperature=summary_temperature,
            summary_prefix=prefix,
            seed=seed,
        )
        return request, resolved

    def _token_limits(self, params: ThinkingParams, prompt: int, prefix: int) -> tuple[int, int]:
        """Most tokens of a path and of the summary; what the caller set must fit the context."""
        own = self._defaults
        # Beside their limits, a path has its opening token and a summary its forced beginning.
        room = self.config.max_context - prompt - prefix - 2
        if room < 2:
            raise UsageError(
                f"the question is too long: {prompt} tokens, and this model's context of "
                f"{self.config.max_context} has to hold paths and summary too"
            )
        path, summary = params.max_path_tokens, params.max_summary_tokens
        if (path or 1) + (summary or 1) > room:
            asked = {"max_path_tokens": path, "max_summary_tokens": summary}
            named = " and ".join(f"{name} {value}" for name, value in asked.items() if value)
            raise UsageError(
                f"{named} do not fit: beside a prompt of {prompt} tokens this model's context of "
                f"{self.config.max_context} leaves {room} for a path and the summary"
            )
        # What the caller left open gives way to what the caller set, down to one token.
        if summary is None:
            most = max(1, room // 4) if path is None else room - path
            summary = min(own.max_summary_tokens or DEFAULT_MAX_SUMMARY_TOKENS, most)
        if path is None:
            path = min(own.max_path_tokens or DEFAULT_MAX_PATH_TOKENS, room - summary)
        return path, summary

    def _stop_check(self, stops: tuple[str, ...]) -> Callable[[Sequence[int]], bool] | None:
        if not stops:
            return None
        window = _STOP_WINDOW + max(len(stop.encode("utf-8", "replace")) for stop in stops)

        def holds_stop(token_ids: Sequence[int]) -> bool:
            text = self._codec.decode(token_ids[-window:])
            return any(stop in text for stop in stops)

        return holds_stop

    def _answer(self, running: RunningRequest, params: ThinkingParams) -> Answer:
        def finished(output: SegmentOutput) -> str:
            assert output.finish_reason is not None
            return output.finish_reason

        paths = [
            Path(
                path.thought_id,
                self._codec.decode(path.token_ids),
                path.token_ids,
                path.logprobs,
                finished(path),
            )
            for path in running.paths
        ]
        summary = Summary(
            self._codec.decode(running.summary.token_ids),
            running.summary.token_ids,
            running.summary.logprobs,
            finished(running.summary),
        )
        prompt = list(running.request.prompt)
        path_tokens = sum(len(path.token_ids) for path in paths)
        marks = running.marks
        return Answer(
            text=summary.text.strip(),
            paths=paths,
            summary=summary,
            prompt_token_ids=prompt,
            usage=Usage(
                prompt_tokens=len(prompt),
                path_tokens=path_tokens,
                summary_tokens=len(summary.token_ids),
                cached_tokens=0,
                total_tokens=len(prompt) + path_tokens + len(summary.token_ids),
            ),
            timings=Timings(
                prefill_s=marks["prefilled"] - running.started,
                think_s=marks["thought"] - marks["prefilled"],
                summary_ttft_s=marks["summary_token"] - marks["thought"],
                summary_s=marks["done"] - marks["thought"],
                total_s=marks["done"] - running.started,
            ),
            params=params,
        )


def _own_defaults(config: DecoderConfig) -> ThinkingParams:
    """Defaults that a checkpoint carries in its ``config.json``."""
    names = ("temperature", "summary_temperature", "max_path_tokens", "max_summary_tokens")
    own = {n: v for n, v in config.parathinker.items() if n in (*names, "summary_prefix")}
    try:
        return ThinkingParams(**own)
    except UsageError as error:
        raise CheckpointError(f"config.json, section parathinker: {error}") from error


def _first(*choices: _T | None) -> _T:
    """The first choice that was made."""
    return next(choice for choice in choices if choice is not None)


def _device(name: str) -> torch.device:
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"device {name!r} is unknown or not there ({reason}); try auto, cpu, cuda or mps"
        ) from error
    return device


def _end_ids(folder: FilePath) -> frozenset[int]:
    """End-of-sequence ids that a checkpoint names."""
    for file in ("generation_config.json", "config.json"):
        if (folder / file).is_file():
            found = read_json_object(folder / file).get("eos_token_id")
            if found is not None:
                return frozenset([found] if isinstance(found, int) else found)
    return frozenset()
