"""The public class: load a model, think about questions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from pathlib import Path as FilePath
from types import TracebackType
from typing import overload

import torch

from parathinker.answer import Answer, StreamEvent
from parathinker.delivery import async_answer, async_events, events, run_all
from parathinker.engine.batch import BLOCK_TOKENS
from parathinker.engine.engine import Engine, EngineLoad, EngineOptions
from parathinker.engine.memory import kv_blocks
from parathinker.engine.runner import WEIGHT_FORMATS, Runner, make_runner
from parathinker.errors import CheckpointError, UsageError
from parathinker.graph import Layout
from parathinker.modeling.checkpoint import load_weights
from parathinker.modeling.config import DecoderConfig, read_json_object
from parathinker.modeling.folders import resolve_model
from parathinker.outcome import Narrator
from parathinker.params import ThinkingParams
from parathinker.prepare import Prepared, Preparer, Question
from parathinker.prompt import PromptCodec

CPU_BATCH_TOKENS, GPU_BATCH_TOKENS = 256, 2048
"""Tokens of a forward, by default: what others wait for while a long prompt is read."""


class ParaThinker:
    """A model that thinks along several paths at once and sums them up.

    Make one with :meth:`from_pretrained`. Any threads and event loops may use it at once: their
    requests run together in one engine.
    """

    def __init__(
        self,
        runner: Runner,
        codec: PromptCodec,
        end_ids: frozenset[int],
        options: EngineOptions,
    ) -> None:
        self.config = runner.config
        largest = max(codec.tokenizer.get_vocab().values())
        if largest >= self.config.vocab_size:
            raise CheckpointError(
                f"the tokenizer's largest id is {largest}, but the model's vocabulary has "
                f"{self.config.vocab_size} entries; resize its embedding to the tokenizer"
            )
        self._codec = codec
        # A model may have more rows than its tokenizer has tokens; those mean nothing.
        padding = frozenset(range(largest + 1, self.config.vocab_size))
        self._engine = Engine(runner, codec.control, codec.control.ids | padding, options)
        self._preparer = Preparer(self.config, codec, end_ids, options.kv_blocks * BLOCK_TOKENS)

    @classmethod
    def from_pretrained(
        cls,
        name: str | FilePath = "tiny",
        device: str = "auto",
        dtype: str = "auto",
        *,
        weights: str = "auto",
        thought_embeddings: bool = True,
        kv_cache_memory: int | float | str | None = None,
        max_batch_tokens: int | None = None,
        threads: int | None = None,
        compile: bool = False,
    ) -> ParaThinker:
        """Load a model.

        Args:
            name: an embedded model's name, a Hugging Face folder, or a hub id.
            device: ``auto`` (CUDA or MPS where there is one, else CPU) or a PyTorch device.
            dtype: ``float32``, ``bfloat16``, or ``auto`` (float32 on CPU, else bfloat16).
            weights: how matrices are kept: ``auto`` (as ``dtype``), ``float32``, or ``int8`` (on
                CPUs: a quarter of the memory and much faster, a little less exact).
            thought_embeddings: False leaves them out, to see what they are worth.
            kv_cache_memory: most memory for keys and values: bytes, a text such as ``"2GiB"``, or
                a share of memory as a float. By default a quarter of the memory.
            max_batch_tokens: tokens of a forward; longer prompts are read in several, so that
                other requests do not wait for them.
            threads: of the CPU kernels; by default one for each core this process may use.
            compile: let ``torch.compile`` fuse what runs in PyTorch; starting takes longer.

        Raises:
            CheckpointError: the model is unknown, damaged or unsupported, or has no control tokens.
            UsageError: an unknown device, dtype, format, or size.
        """
        folder = resolve_model(str(name))
        target = _device(device)
        types = {"float32": torch.float32, "bfloat16": torch.bfloat16}
        types["auto"] = torch.float32 if target.type == "cpu" else torch.bfloat16
        if dtype not in types:
            raise UsageError(f"dtype should be one of {', '.join(sorted(types))}; got {dtype!r}")
        if weights not in WEIGHT_FORMATS:
            raise UsageError(
                f"weights should be one of {', '.join(WEIGHT_FORMATS)}; got {weights!r}"
            )
        for field, value in (("max_batch_tokens", max_batch_tokens), ("threads", threads)):
            whole = isinstance(value, int) and not isinstance(value, bool)
            if value is not None and not (whole and value >= 1):
                raise UsageError(f"{field} should be a whole number from 1; got {value!r}")
        config = DecoderConfig.from_folder(folder)
        codec = PromptCodec.from_folder(folder)
        blocks = kv_blocks(kv_cache_memory, config, target, types[dtype])
        loaded = load_weights(folder, config, target, types[dtype])
        if not thought_embeddings:
            loaded = loaded.without_thoughts()
        rows = loaded.thought_rows
        if rows is not None and rows <= codec.control.max_paths:
            raise CheckpointError(
                f"the thought embeddings have {rows} rows; {codec.control.max_paths} paths need "
                f"{codec.control.max_paths + 1}"
            )
        runner = make_runner(config, loaded, weights, threads, compile)
        default = CPU_BATCH_TOKENS if target.type == "cpu" else GPU_BATCH_TOKENS
        options = EngineOptions(blocks, max_batch_tokens or default)
        return cls(runner, codec, _end_ids(folder), options)

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
    def think(  # type: ignore[overload-overlap]  # a text is a sequence of texts, too
        self,
        question: str,
        params: ThinkingParams | None = None,
        *,
        after: Answer | None = None,
    ) -> Answer: ...

    @overload
    def think(
        self, question: list[dict[str, str]], params: ThinkingParams | None = None
    ) -> Answer: ...

    @overload
    def think(
        self, question: Sequence[Question], params: ThinkingParams | None = None
    ) -> list[Answer]: ...

    def think(
        self,
        question: Question | Sequence[Question],
        params: ThinkingParams | None = None,
        *,
        after: Answer | None = None,
    ) -> Answer | list[Answer]:
        """Think about one question, or about a list of them together.

        Args:
            question: a text; or the messages of a chat, a list of mappings with ``role`` and
                ``content``; or a list of questions.
            after: the answer that this question follows up. Its question and its summary are seen,
                by their keys and values where these are still in memory, its paths are not.

        Raises:
            UsageError: an empty question, one that does not fit the context, too many paths.
            CapacityError: a request that the KV memory could never hold; it is a UsageError.
            EngineError: the model computes NaN, or the engine was closed.
        """
        questions, single = _questions(question)
        prepared = [self._prepare(q, params, after) for q in questions]
        done = run_all(self._engine, prepared)
        answers = [
            Narrator(one, self._codec).answer(running)
            for one, running in zip(prepared, done, strict=True)
        ]
        return answers[0] if single else answers

    def stream(
        self,
        question: Question,
        params: ThinkingParams | None = None,
        *,
        after: Answer | None = None,
    ) -> Iterator[StreamEvent]:
        """The same for one question, as events while it happens; the last one is ``Done``.

        Thinking begins when the iterator is first asked for an event. Closing it cancels the
        request and frees its memory.

        Raises:
            UsageError: as :meth:`think`, at once and not only when iterated.
        """
        prepared = self._prepare(question, params, after)
        return events(self._engine, prepared, Narrator(prepared, self._codec))

    @overload
    async def athink(  # type: ignore[overload-overlap]
        self,
        question: str,
        params: ThinkingParams | None = None,
        *,
        after: Answer | None = None,
    ) -> Answer: ...

    @overload
    async def athink(
        self, question: list[dict[str, str]], params: ThinkingParams | None = None
    ) -> Answer: ...

    @overload
    async def athink(
        self, question: Sequence[Question], params: ThinkingParams | None = None
    ) -> list[Answer]: ...

    async def athink(
        self,
        question: Question | Sequence[Question],
        params: ThinkingParams | None = None,
        *,
        after: Answer | None = None,
    ) -> Answer | list[Answer]:
        """:meth:`think` in an event loop; cancelling the task cancels the requests."""
        questions, single = _questions(question)
        prepared = [self._prepare(q, params, after) for q in questions]
        tasks = [
            asyncio.ensure_future(async_answer(self._engine, one, Narrator(one, self._codec)))
            for one in prepared
        ]
        try:
            answers = await asyncio.gather(*tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise
        return answers[0] if single else answers

    def astream(
        self,
        question: Question,
        params: ThinkingParams | None = None,
        *,
        after: Answer | None = None,
    ) -> AsyncGenerator[StreamEvent, None]:
        """:meth:`stream` in an event loop; ``aclose()`` cancels the request."""
        prepared = self._prepare(question, params, after)
        return async_events(self._engine, prepared, Narrator(prepared, self._codec))

    def summarize(
        self,
        questions: Sequence[str],
        paths: Sequence[Sequence[Sequence[int]]],
        params: ThinkingParams | None = None,
        *,
        layout: str = "parallel",
    ) -> list[Answer]:
        """Answer questions from paths that are given, not thought.

        What the summary makes of them shows whether it reads them: withhold paths, swap them
        between questions, plant a mistake.

        Args:
            paths: for each question, for each path, its token ids as in ``Path.token_ids`` (the
                opening and closing tokens may be left out); a path may be empty.
            layout: how the summary finds them. ``parallel``, as they are thought; or, to see what
                that is worth, ``flat-positions``, each at positions behind the one before; or
                ``chain``, one causal text in which each path reads those before it.

        Raises:
            UsageError: as :meth:`think`; or the numbers of questions and paths disagree, or a token
                id is not in the vocabulary.
        """
        if len(paths) != len(questions):
            raise UsageError(f"{len(questions)} questions need as many lists of paths")
        layouts = [one.value for one in Layout]
        if layout not in layouts:
            raise UsageError(f"layout should be one of {', '.join(layouts)}; got {layout!r}")
        prepared = [
            self._preparer.with_paths(question, params or ThinkingParams(), given, Layout(layout))
            for question, given in zip(questions, paths, strict=True)
        ]
        done = run_all(self._engine, prepared)
        return [
            Narrator(one, self._codec).answer(running)
            for one, running in zip(prepared, done, strict=True)
        ]

    def encode(self, text: str) -> list[int]:
        """Token ids of text as a path could say it: never a control token's, whatever it says."""
        return self._codec.encode_text(text)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of token ids, without control tokens."""
        return self._codec.decode(token_ids)

    def prompt_tokens(self, question: Question) -> int:
        """How many tokens a question's prompt has, chat template included.

        Raises:
            UsageError: an empty question.
        """
        return len(self._preparer.prompt(question))

    def load(self) -> EngineLoad:
        """How many requests run and wait, and what the KV memory holds."""
        return self._engine.load()

    def forget_prefixes(self) -> None:
        """Drop the keys and values that are kept for prompts that begin alike."""
        self._engine.forget_prefixes()

    def close(self) -> None:
        """End the engine; requests under way fail. Not needed for memory to be freed."""
        self._engine.close()

    def __enter__(self) -> ParaThinker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _prepare(
        self, question: object, params: ThinkingParams | None, after: Answer | None
    ) -> Prepared:
        prepared = self._preparer.prepare(question, params or ThinkingParams(), after)
        self._engine.check(prepared.request)
        return prepared


def _questions(question: object) -> tuple[Sequence[object], bool]:
    """A list of questions, and whether there was just one."""
    if isinstance(question, str):
        return [question], True
    if not isinstance(question, (list, tuple)):
        raise UsageError(f"a question should be a text, messages, or a list of these: {question!r}")
    if question and all(isinstance(part, Mapping) for part in question):
        return [question], True
    return question, False


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
