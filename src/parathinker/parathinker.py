"""The public class: load a model, think about questions."""

from __future__ import annotations

import dataclasses
import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path as FilePath
from typing import overload

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
from parathinker.modeling.config import DecoderConfig
from parathinker.modeling.decoder import Decoder
from parathinker.params import (
    DEFAULT_MAX_PATH_TOKENS,
    DEFAULT_MAX_SUMMARY_TOKENS,
    DEFAULT_TEMPERATURE,
    ThinkingParams,
)
from parathinker.prompt import PromptCodec

EMBEDDED = FilePath(__file__).parent / "models"
"""Folder of the models that come with the package."""
_STOP_WINDOW = 64
"""A stop text is looked for in so many last tokens, plus one for each of its characters."""


def embedded_models() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(p.parent.name for p in EMBEDDED.glob("*/config.json"))


def resolve_model(name: str) -> FilePath:
    """The folder of an embedded model's name, a path, or a hub id (downloaded once).

    Raises:
        CheckpointError: it is none of these, or cannot be fetched.
    """
    if name in embedded_models():
        return EMBEDDED / name
    if FilePath(name).is_dir():
        return FilePath(name)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not name.startswith("."):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError

        try:
            wanted = ["*.json", "*.safetensors", "*.jinja"]
            return FilePath(snapshot_download(name, allow_patterns=wanted))
        except (HfHubHTTPError, OSError, ValueError) as error:
            raise CheckpointError(
                f"{name!r} is no folder here, and the hub did not give it: {error}"
            ) from error
    raise CheckpointError(
        f"unknown model {name!r}: not an embedded model ({', '.join(embedded_models())}), "
        "not a folder, not a hub id like 'owner/name'"
    )


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
                f"{decoder.config.vocab_size} entries; resize the model's embedding to the tokenizer"
            )
        self.config = decoder.config
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
        self, question: Sequence[str], params: ThinkingParams | None = None
    ) -> list[Answer]: ...

    def think(
        self, question: str | Sequence[str], params: ThinkingParams | None = None
    ) -> Answer | list[Answer]:
        """Think about one question, or about a list of them together.

        Raises:
            UsageError: an empty question, one that does not fit the context, too many paths.
        """
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

    def _events(self, request: EngineRequest, params: ThinkingParams) -> Iterator[StreamEvent]:
        streams = {i: self._codec.stream() for i in (0, *request.thought_ids)}
        for token in request.summary_prefix:
            yield SummaryToken(token, streams[0].push(token), None)
        for running, events in self._engine.run([request]):
            for event in events:
                if isinstance(event, EndEvent):
                    if event.thought_id:
                        yield PathEnd(event.thought_id, event.finish_reason)
                    continue
                text = streams[event.thought_id].push(event.token_id)
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
        self, question: str, params: ThinkingParams
    ) -> tuple[EngineRequest, ThinkingParams]:
        """Check a question against the model and fill in every default."""
        if not isinstance(question, str) or not question.strip():
            raise UsageError("the question is empty")
        if params.paths > self.max_paths:
            raise UsageError(
                f"paths should be at most {self.max_paths} for this model; got {params.paths}. "
                "More need control tokens and training: set model.max_paths in the recipe"
            )
        prompt = self._codec.encode_question(question)
        params = self._resolve(params, len(prompt))
        assert params.max_path_tokens is not None and params.max_summary_tokens is not None
        assert params.temperature is not None and params.summary_temperature is not None
        assert params.summary_prefix is not None and params.seed is not None
        return (
            EngineRequest(
                prompt=tuple(prompt),
                thought_ids=tuple(range(1, params.paths + 1)),
                paths_to_finish=params.paths_to_finish,
                max_path_tokens=params.max_path_tokens,
                max_summary_tokens=params.max_summary_tokens,
                budget=params.budget,
                summary_prefix=tuple(self._codec.encode_text(params.summary_prefix)),
                temperature=params.temperature,
                summary_temperature=params.summary_temperature,
                top_k=params.top_k,
                top_p=params.top_p,
                min_p=params.min_p,
                seed=params.seed,
                logprobs=params.logprobs,
                end_ids=self._end_ids,
                stop=self._stop_check(params.stop),
            ),
            params,
        )

    def _resolve(self, params: ThinkingParams, prompt: int) -> ThinkingParams:
        """Defaults of the checkpoint, then the product's; budgets must fit the context."""
        own = self.config.parathinker
        temperature = params.temperature
        if temperature is None:
            temperature = float(own.get("temperature", DEFAULT_TEMPERATURE))
        summary_temperature = params.summary_temperature
        if summary_temperature is None:
            summary_temperature = float(own.get("summary_temperature", temperature))
        prefix = params.summary_prefix
        if prefix is None:
            prefix = str(own.get("summary_prefix", ""))
        # Beside their budgets, a path has its opening token and a summary its forced beginning.
        forced = 2 + len(self._codec.encode_text(prefix))
        room = self.config.max_context - prompt - forced
        if room < 2:
            raise UsageError(
                f"the question is too long: {prompt} tokens, and this model's context of "
                f"{self.config.max_context} has to hold paths and summary too"
            )
        summary_tokens = params.max_summary_tokens
        if summary_tokens is None:
            summary_tokens = int(own.get("max_summary_tokens", DEFAULT_MAX_SUMMARY_TOKENS))
            summary_tokens = min(summary_tokens, max(1, room // 4))
        path_tokens = params.max_path_tokens
        if path_tokens is None:
            path_tokens = int(own.get("max_path_tokens", DEFAULT_MAX_PATH_TOKENS))
            path_tokens = min(path_tokens, max(1, room - summary_tokens))
        if path_tokens + summary_tokens > room:
            raise UsageError(
                f"max_path_tokens {path_tokens} and max_summary_tokens {summary_tokens} do not "
                f"fit: beside a prompt of {prompt} tokens this model's context of "
                f"{self.config.max_context} leaves {room} for both"
            )
        seed = random.SystemRandom().getrandbits(31) if params.seed is None else params.seed
        return dataclasses.replace(
            params,
            max_path_tokens=path_tokens,
            max_summary_tokens=summary_tokens,
            temperature=temperature,
            summary_temperature=summary_temperature,
            summary_prefix=prefix,
            seed=seed,
        )

    def _stop_check(self, stops: tuple[str, ...]) -> Callable[[Sequence[int]], bool] | None:
        if not stops:
            return None
        window = _STOP_WINDOW + max(map(len, stops))

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


def _device(name: str) -> torch.device:
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"device {name!r} is unknown; try auto, cpu, cuda or mps") from error


def _end_ids(folder: FilePath) -> frozenset[int]:
    """End-of-sequence ids that a checkpoint names."""
    for file in ("generation_config.json", "config.json"):
        if (folder / file).is_file():
            found = json.loads((folder / file).read_text("utf-8")).get("eos_token_id")
            if found is not None:
                return frozenset([found] if isinstance(found, int) else found)
    return frozenset()


