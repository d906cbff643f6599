"""The public class: load a model, think about questions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from pathlib import Path as FilePath
from types import TracebackType
from typing import Any, overload

from parathinker.answer import Answer, StreamEvent
from parathinker.conversation import Question, one_or_many
from parathinker.delivery import async_answer, async_events, events, run_all
from parathinker.engine.protocol import EngineLoad
from parathinker.errors import UsageError
from parathinker.graph import Layout
from parathinker.loading import Loaded, load_model
from parathinker.outcome import Narrator
from parathinker.params import ThinkingParams
from parathinker.prepare import Prepared, Preparer
from parathinker.prompt import RawPrompt


class ParaThinker:
    """A model that thinks along several paths at once and sums them up.

    Make one with :meth:`from_pretrained`. Any threads and event loops may use it at once: their
    requests run together in one engine.
    """

    def __init__(self, loaded: Loaded) -> None:
        self.config = loaded.config
        self._codec, self._engine = loaded.codec, loaded.engine
        self._preparer = Preparer(loaded.config, loaded.codec, loaded.end_ids, loaded.kv_tokens)

    @classmethod
    def from_pretrained(
        cls,
        name: str | FilePath = "tiny",
        device: str = "auto",
        dtype: str = "auto",
        *,
        weights: str = "auto",
        plain: bool = False,
        thought_embeddings: bool = True,
        kv_cache_memory: int | float | str | None = None,
        max_batch_tokens: int | None = None,
        threads: int | None = None,
        compile: bool = False,
        backend: str = "native",
        **engine_args: Any,
    ) -> ParaThinker:
        """Load a model.

        Args:
            name: an embedded model's name, a Hugging Face folder, or a hub id.
            device: ``auto`` (CUDA or MPS where there is one, else CPU) or a PyTorch device.
            dtype: ``float32``, ``bfloat16``, or ``auto`` (float32 on CPU, else bfloat16).
            weights: how matrices are kept: ``auto`` (as ``dtype``), ``float32``, or ``int8`` (on
                CPUs: a quarter of the memory and much faster, a little less exact).
            plain: take an ordinary language model too, one without control tokens: it cannot think
                in parallel, but :meth:`complete`.
            thought_embeddings: False leaves them out, to see what they are worth.
            kv_cache_memory: most memory for keys and values: bytes, a text such as ``"2GiB"``, or
                a share of memory as a float. By default a quarter of the memory.
            max_batch_tokens: tokens of a forward; longer prompts are read in several, so that
                other requests do not wait for them.
            threads: of the CPU kernels; by default OMP_NUM_THREADS, or one for each core this
                process may use.
            compile: let ``torch.compile`` fuse what runs in PyTorch; starting takes longer.
            backend: ``native``, or ``vllm`` for larger machines and many of them (docs/vllm.md).
            engine_args: vLLM's own, such as ``tensor_parallel_size``, ``gpu_memory_utilization`` or
                ``max_model_len``. What it has a name of its own for is set by that name, so of the
                arguments above only ``dtype``, ``max_batch_tokens``, ``plain`` and
                ``thought_embeddings`` go with it.

        Raises:
            CheckpointError: the model is unknown, damaged or unsupported, or has no control tokens
                and is not to be ``plain``.
            MissingExtraError: the backend is not installed.
            UsageError: an unknown device, dtype, format, or size, or an argument that the backend
                cannot honour.
        """
        return cls(
            load_model(
                str(name),
                device,
                dtype,
                weights=weights,
                plain=plain,
                thought_embeddings=thought_embeddings,
                kv_cache_memory=kv_cache_memory,
                max_batch_tokens=max_batch_tokens,
                threads=threads,
                compile=compile,
                backend=backend,
                engine_args=engine_args,
            )
        )

    @property
    def max_paths(self) -> int:
        """P_max: the largest number of paths this model can tell apart; 0 of a plain model."""
        return self._codec.max_paths

    @property
    def alive(self) -> bool:
        """Whether questions are taken: the engine was not closed, and did not break down."""
        return self._engine.alive

    @property
    def task(self) -> str | None:
        """The task that the model was made for, if it was made for one."""
        task = self.config.parathinker.get("task")
        return None if task is None else str(task)

    @overload
    def think(  # type: ignore[overload-overlap]  # a text is a sequence of texts, too
        self,
        question: str | RawPrompt,
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
                ``content``; or a :class:`RawPrompt`, without chat template; or a list of these.
            after: the answer that this question follows up. Its question and its summary are seen,
                by their keys and values where these are still in memory, its paths are not.

        Raises:
            UsageError: an empty question, one that does not fit the context, too many paths.
            CapacityError: a request that the KV memory could never hold; it is a UsageError.
            EngineError: the model computes NaN, or the engine was closed.
        """
        questions, single = one_or_many(question)
        answers = self._run([self._prepare(q, params, after) for q in questions])
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
        question: str | RawPrompt,
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
        questions, single = one_or_many(question)
        answers = await self._arun([self._prepare(q, params, after) for q in questions])
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
        return self._run(prepared)

    @overload
    def complete(  # type: ignore[overload-overlap]
        self, question: str | RawPrompt, params: ThinkingParams | None = None
    ) -> Answer: ...

    @overload
    def complete(
        self, question: list[dict[str, str]], params: ThinkingParams | None = None
    ) -> Answer: ...

    @overload
    def complete(
        self, question: Sequence[Question], params: ThinkingParams | None = None
    ) -> list[Answer]: ...

    def complete(
        self, question: Question | Sequence[Question], params: ThinkingParams | None = None
    ) -> Answer | list[Answer]:
        """Write on from a prompt as any language model does: no paths, no control tokens.

        It is one chain of thought, and ``params`` says of it what it says of a path:
        ``max_path_tokens`` and ``min_path_tokens`` (its end-of-sequence token included),
        ``temperature``, ``continuation`` in place of an end that comes too early, and all of
        sampling and stopping. It ends at an end-of-sequence token, ``stop_token_ids``, ``stop``, or
        the limit. What is about several paths or a summary has to be left as it is.

        Returns:
            An answer without paths; its ``summary`` is what was written.

        Raises:
            UsageError: an empty question, one that does not fit the context, or a parameter that
                means nothing here.
        """
        questions, single = one_or_many(question)
        answers = self._run([self._prepare_plain(q, params) for q in questions])
        return answers[0] if single else answers

    @overload
    async def acomplete(  # type: ignore[overload-overlap]
        self, question: str | RawPrompt, params: ThinkingParams | None = None
    ) -> Answer: ...

    @overload
    async def acomplete(
        self, question: list[dict[str, str]], params: ThinkingParams | None = None
    ) -> Answer: ...

    @overload
    async def acomplete(
        self, question: Sequence[Question], params: ThinkingParams | None = None
    ) -> list[Answer]: ...

    async def acomplete(
        self, question: Question | Sequence[Question], params: ThinkingParams | None = None
    ) -> Answer | list[Answer]:
        """:meth:`complete` in an event loop; cancelling the task cancels the requests."""
        questions, single = one_or_many(question)
        answers = await self._arun([self._prepare_plain(q, params) for q in questions])
        return answers[0] if single else answers

    def stream_complete(
        self, question: Question, params: ThinkingParams | None = None
    ) -> Iterator[StreamEvent]:
        """:meth:`complete` as :meth:`stream` does it: ``SummaryToken`` events, then ``Done``."""
        prepared = self._prepare_plain(question, params)
        return events(self._engine, prepared, Narrator(prepared, self._codec))

    def astream_complete(
        self, question: Question, params: ThinkingParams | None = None
    ) -> AsyncGenerator[StreamEvent, None]:
        """:meth:`stream_complete` in an event loop; ``aclose()`` cancels the request."""
        prepared = self._prepare_plain(question, params)
        return async_events(self._engine, prepared, Narrator(prepared, self._codec))

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

    def _prepare_plain(self, question: object, params: ThinkingParams | None) -> Prepared:
        prepared = self._preparer.completion(question, params or ThinkingParams())
        self._engine.check(prepared.request)
        return prepared

    def _run(self, prepared: Sequence[Prepared]) -> list[Answer]:
        done = run_all(self._engine, prepared)
        return [
            Narrator(one, self._codec).answer(running)
            for one, running in zip(prepared, done, strict=True)
        ]

    async def _arun(self, prepared: Sequence[Prepared]) -> list[Answer]:
        tasks = [
            asyncio.ensure_future(async_answer(self._engine, one, Narrator(one, self._codec)))
            for one in prepared
        ]
        try:
            return await asyncio.gather(*tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise
