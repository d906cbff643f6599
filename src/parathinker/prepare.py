"""From a question and its parameters to a request in token ids, every default filled in."""

from __future__ import annotations

import dataclasses
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from parathinker.agreement import agree, answer_in
from parathinker.answer import Answer
from parathinker.conversation import context_of, prompt_of, turns_up_to
from parathinker.data.tasks import TASKS
from parathinker.engine.batch import BLOCK_TOKENS
from parathinker.engine.request import (
    AutoWidth,
    EngineRequest,
    Growth,
    PastTurn,
    Penalties,
    Tokens,
)
from parathinker.errors import CheckpointError, UsageError
from parathinker.graph import Layout
from parathinker.modeling.config import DecoderConfig
from parathinker.params import (
    AUTO,
    AUTO_WAVE,
    DEFAULT_AUTO_PATHS,
    DEFAULT_MAX_PATH_TOKENS,
    DEFAULT_MAX_SUMMARY_TOKENS,
    DEFAULT_TEMPERATURE,
    DEFAULT_TERMINATION,
    ThinkingParams,
    paths_to_finish,
)
from parathinker.prompt import PromptCodec
from parathinker.stopping import stop_check

_T = TypeVar("_T")
OWN_DEFAULTS = (
    *("temperature", "summary_temperature", "max_path_tokens", "max_summary_tokens"),
    *("termination", "summary_prefix"),
)
"""Which parameters a checkpoint may have defaults of its own for."""


@dataclass(frozen=True)
class Prepared:
    """A request, and the caller's parameters with every default filled in."""

    request: EngineRequest
    params: ThinkingParams
    after: Answer | None = None


class Preparer:
    """Makes requests for one model.

    Args:
        end_ids: the model's end-of-sequence tokens.
        kv_tokens: tokens that the KV memory holds; limits that the caller left open fit into it.
    """

    def __init__(
        self, config: DecoderConfig, codec: PromptCodec, end_ids: frozenset[int], kv_tokens: int
    ) -> None:
        self._config, self._codec, self._kv_tokens = config, codec, kv_tokens
        self._end_ids = end_ids - codec.control_ids
        self._defaults = own_defaults(config)
        task = TASKS.get(str(config.parathinker.get("task", "")))
        self._answer_of = task.parse_answer if task else answer_in

    def prepare(
        self, question: object, params: ThinkingParams, after: Answer | None = None
    ) -> Prepared:
        """Check a question against the model and fill in every default.

        Raises:
            UsageError: an empty question, one that does not fit the context, too many paths.
            CheckpointError: the model has no control tokens.
        """
        own, codec = self._defaults, self._codec
        thought_ids = self._thought_ids(params)
        temperature = _first(params.temperature, own.temperature, DEFAULT_TEMPERATURE)
        summary_temperature = _first(
            params.summary_temperature, own.summary_temperature, temperature
        )
        prefix = _first(params.summary_prefix, own.summary_prefix, "")
        seed = _seed(params)
        history = self._history(after)
        prompt = self.prompt(question, after)
        prefix_ids = codec.encode_text(prefix)
        path_prefixes = self._path_prefixes(params, len(thought_ids))
        path_tokens, summary_tokens = self._token_limits(
            params, history, len(prompt), len(prefix_ids), len(thought_ids)
        )
        self._check_path_prefixes(params, path_prefixes, path_tokens)
        first = path_prefixes[: AUTO_WAVE if params.paths == AUTO else len(path_prefixes)]
        forced = sum(len(ids) + 1 for ids in first)
        if params.budget is not None and params.budget < forced:
            raise UsageError(
                f"budget should be at least {forced} with this path_prefix, {len(first)} paths and "
                f"their closing tokens; got {params.budget}"
            )
        auto, max_paths = None, params.max_paths
        if params.paths == AUTO:
            auto = AutoWidth(min(AUTO_WAVE, len(thought_ids)), self._agree)
            max_paths = max(AUTO_WAVE, len(thought_ids))
        termination = _first(
            params.termination, own.termination if not auto else None, DEFAULT_TERMINATION
        )
        request = EngineRequest(
            prompt=tuple(prompt),
            thought_ids=thought_ids,
            paths_to_finish=sys.maxsize if auto else paths_to_finish(len(thought_ids), termination),
            path=Growth(path_tokens, params.min_path_tokens, temperature),
            summary=Growth(summary_tokens, params.min_summary_tokens, summary_temperature),
            budget=params.budget,
            summary_prefix=tuple(prefix_ids),
            seed=seed,
            path_prefixes=path_prefixes,
            summary_stop=stop_check(params.summary_stop, self._codec),
            rounds=params.rounds,
            auto=auto,
            history=history,
            **self._choices(params),
        )
        resolved = dataclasses.replace(
            params,
            max_paths=max_paths,
            max_path_tokens=path_tokens,
            max_summary_tokens=summary_tokens,
            termination=termination,
            temperature=temperature,
            summary_temperature=summary_temperature,
            summary_prefix=prefix,
            seed=seed,
        )
        return Prepared(request, resolved, after)

    def with_paths(
        self,
        question: object,
        params: ThinkingParams,
        paths: Sequence[Sequence[int]],
        layout: Layout = Layout.PARALLEL,
    ) -> Prepared:
        """The same for paths that are given, not thought.

        Raises:
            UsageError: as :meth:`prepare`; or a token id is not in the vocabulary; or the paths do
                not fit the context one behind another, where the layout puts them so.
        """
        control, vocabulary = self._codec.control.ids, self._config.vocab_size
        bodies = tuple(tuple(t for t in path if t not in control) for path in paths)
        for token in (t for body in bodies for t in body):
            if not 0 <= token < vocabulary:
                raise UsageError(
                    f"token ids of paths should be from 0 to {vocabulary - 1}; got {token!r}"
                )
        longest = max((len(body) for body in bodies), default=0)
        given = dataclasses.replace(
            params,
            paths=len(bodies),
            max_paths=None,
            max_path_tokens=longest + 1,
            min_path_tokens=0,
            continuation=None,
            path_prefix=None,
            termination="last-finish",
            rounds=1,
            budget=None,
        )
        found = self.prepare(question, given)
        request = dataclasses.replace(found.request, given_paths=bodies, layout=layout)
        if layout is not Layout.PARALLEL:
            self._check_flat(request)
        return dataclasses.replace(found, request=request)

    def completion(self, question: object, params: ThinkingParams) -> Prepared:
        """The same for a prompt that is just written on: what is said of a path is said of it.

        Raises:
            UsageError: an empty question, one that does not fit the context, or a parameter that
                means nothing without paths and summary.
        """
        params.check_plain()
        temperature = _first(params.temperature, self._defaults.temperature, DEFAULT_TEMPERATURE)
        seed, prompt = _seed(params), self.prompt(question)
        room, limit = self._config.max_context - len(prompt), params.max_path_tokens
        least = limit or max(1, params.min_path_tokens)
        if room < 1:
            have = f"{len(prompt)} tokens, and this model's context has {self._config.max_context}"
            raise UsageError(f"the question is too long: {have}")
        if least > room:
            raise UsageError(
                f"{'max' if limit else 'min'}_path_tokens {least} does not fit: beside a prompt of "
                f"{len(prompt)} tokens this model's context of {self._config.max_context} leaves "
                f"{room}"
            )
        if limit is None:
            wanted = self._defaults.max_path_tokens or 0
            if wanted <= params.min_path_tokens:
                wanted = DEFAULT_MAX_PATH_TOKENS
            memory = self._kv_tokens - len(prompt) - 1 - 2 * BLOCK_TOKENS
            limit = max(least, min(wanted, room, memory))
        growth = Growth(limit, params.min_path_tokens, temperature)
        request = EngineRequest(
            prompt=tuple(prompt),
            thought_ids=(),
            paths_to_finish=0,
            path=growth,
            summary=growth,
            budget=None,
            summary_prefix=(),
            seed=seed,
            plain=True,
            **self._choices(params),
        )
        resolved = dataclasses.replace(
            params, paths=1, max_path_tokens=limit, temperature=temperature, seed=seed
        )
        return Prepared(request, resolved)

    def prompt(self, question: object, after: Answer | None = None) -> list[int]:
        """Token ids of a question's prompt, or of what it adds to the turns before.

        Raises:
            UsageError: an empty question, or one of the wrong form.
        """
        return prompt_of(question, self._codec, after)

    # -- pieces ---------------------------------------------------------------------------------

    def _choices(self, params: ThinkingParams) -> dict[str, Any]:
        """How tokens are chosen and what ends a text, in a request's fields."""
        vocabulary = self._config.vocab_size
        for token in params.stop_token_ids:
            if token >= vocabulary:
                raise UsageError(f"stop_token_ids should be below {vocabulary}; got {token}")
        return {
            "top_k": params.top_k,
            "top_p": params.top_p,
            "min_p": params.min_p,
            "top_logprobs": min(params.top_logprobs, vocabulary),
            "continuation": tuple(self._codec.encode_text(params.continuation or "")),
            "penalties": Penalties(
                params.repetition_penalty, params.frequency_penalty, params.presence_penalty
            ),
            "end_ids": self._end_ids | (frozenset(params.stop_token_ids) - self._codec.control_ids),
            "stop": stop_check(params.stop, self._codec),
        }

    def _check_flat(self, request: EngineRequest) -> None:
        """Paths one behind another must fit the context, as the parallel ones were found to."""
        tokens = len(request.prompt) + sum(len(body) + 2 for body in request.given_paths or ())
        tokens += 1 + len(request.summary_prefix) + request.summary.max_tokens
        if tokens > self._config.max_context:
            raise UsageError(
                f"{len(request.thought_ids)} paths one behind another do not fit: with prompt and "
                f"summary they take {tokens} tokens, and this model's context has "
                f"{self._config.max_context}"
            )

    def _thought_ids(self, params: ThinkingParams) -> Tokens:
        most = self._codec.control.max_paths
        count = params.paths
        if not isinstance(count, int):
            count = params.max_paths or min(DEFAULT_AUTO_PATHS, most)
        if count > most:
            name = "paths" if params.paths != AUTO else "max_paths"
            raise UsageError(
                f"{name} should be at most {most} for this model; got {count}. "
                "More need control tokens and training: set model.max_paths in the recipe"
            )
        ids = params.thought_ids or tuple(range(1, count + 1))
        if max(ids) > most:
            raise UsageError(f"thought_ids should be at most {most} for this model; got {max(ids)}")
        return ids

    def _path_prefixes(self, params: ThinkingParams, count: int) -> tuple[Tokens, ...]:
        prefix = params.path_prefix
        if not prefix:
            return ()
        if isinstance(prefix, str):
            return (tuple(self._codec.encode_text(prefix)),) * count
        return tuple(
            tuple(self._codec.encode_text(one)) if isinstance(one, str) else self._checked(one)
            for one in prefix
        )

    def _checked(self, prefix: Tokens) -> Tokens:
        """Token ids that the caller wants a path to begin with."""
        control, vocabulary = self._codec.control.ids, self._config.vocab_size
        for token in prefix:
            if token >= vocabulary or token in control:
                raise UsageError(
                    f"token ids in path_prefix should be below {vocabulary}, and no control "
                    f"tokens; got {token}"
                )
        return prefix

    def _check_path_prefixes(
        self, params: ThinkingParams, prefixes: Sequence[Tokens], path_tokens: int
    ) -> None:
        """Forced beginnings count towards a path's limit, which must hold them."""
        lengths = [len(prefix) for prefix in prefixes]
        if max(lengths, default=0) >= path_tokens:
            raise UsageError(
                f"path_prefix has {max(lengths)} tokens, and max_path_tokens {path_tokens} leaves "
                "no room behind it"
            )

    def _history(self, after: object) -> tuple[PastTurn, ...]:
        """The turns up to an answer, as they lie in memory, if they can be this model's."""
        if after is None:
            return ()
        if not isinstance(after, Answer):
            raise UsageError(f"after should be an Answer; got {after!r}")
        history = turns_up_to(after)
        rounds = [one for turn in history for one in turn.rounds]
        tokens = [turn.prompt for turn in history] + [one.summary for one in rounds]
        tokens += [path for one in rounds for _, path in one.paths]
        largest = max(max(run, default=0) for run in tokens)
        paths = max((i for one in rounds for i, _ in one.paths), default=0)
        if largest >= self._config.vocab_size or paths > self._codec.control.max_paths:
            raise UsageError(
                "after should be an answer of this model; this one has tokens or paths that the "
                "model does not know"
            )
        return history

    def _agree(self, bodies: Sequence[Sequence[int]]) -> bool:
        return agree([self._codec.decode(body) for body in bodies], self._answer_of)

    def _token_limits(
        self,
        params: ThinkingParams,
        history: Sequence[PastTurn],
        prompt: int,
        prefix: int,
        paths: int,
    ) -> tuple[int, int]:
        """Most tokens of a path and of the summary; what the caller set must fit the context."""
        own, rounds = self._defaults, params.rounds
        past, begins = context_of(history)
        memory = self._kv_tokens - past.length - prompt
        memory -= BLOCK_TOKENS * (len(past.segments) + 1 + rounds * (paths + 1))
        prompt += begins
        # Beside their limits, a path has its opening token and a summary its forced beginning.
        room = (self._config.max_context - prompt) // rounds - prefix - 2
        each = "" if rounds == 1 else f" in each of {rounds} rounds"
        if room < 2:
            what = "conversation" if history else "question"
            what += " is" if rounds == 1 else " and its rounds are"
            raise UsageError(
                f"the {what} too long: {prompt} tokens, and this model's context of "
                f"{self._config.max_context} has to hold paths and summary too{each}"
            )
        path, summary = params.max_path_tokens, params.max_summary_tokens
        least_path = path or max(1, params.min_path_tokens)
        least_summary = summary or max(1, params.min_summary_tokens)
        if least_path + least_summary > room:
            asked = {
                "max_path_tokens" if path else "min_path_tokens": path or params.min_path_tokens,
                "max_summary_tokens" if summary else "min_summary_tokens": summary
                or params.min_summary_tokens,
            }
            named = " and ".join(f"{name} {value}" for name, value in asked.items() if value)
            raise UsageError(
                f"{named} do not fit: beside a prompt of {prompt} tokens this model's context of "
                f"{self._config.max_context} leaves {room} for a path and the summary{each}"
            )
        # What the caller left open gives way to what the caller set, down to one token.
        if summary is None:
            most = room - least_path
            if path is None:
                most = min(most, max(1, min(room, memory // rounds) // 4))
            else:
                most = min(most, max(1, memory // rounds - paths * (path + 1) - prefix - 1))
            wanted = own.max_summary_tokens or 0
            if wanted <= params.min_summary_tokens:
                wanted = DEFAULT_MAX_SUMMARY_TOKENS
            summary = max(least_summary, min(wanted, most))
        if path is None:
            most = max(1, (memory // rounds - summary - prefix - 1) // paths - 1)
            wanted = own.max_path_tokens or 0
            if wanted <= params.min_path_tokens:
                wanted = DEFAULT_MAX_PATH_TOKENS
            path = max(least_path, min(wanted, room - summary, most))
        return path, summary


def own_defaults(config: DecoderConfig) -> ThinkingParams:
    """Defaults that a checkpoint carries in its ``config.json``."""
    own = {name: v for name, v in config.parathinker.items() if name in OWN_DEFAULTS}
    try:
        return ThinkingParams(**own)
    except UsageError as error:
        raise CheckpointError(f"config.json, section parathinker: {error}") from error


def _seed(params: ThinkingParams) -> int:
    """The request's seed; drawn if it names none."""
    return random.SystemRandom().getrandbits(31) if params.seed is None else params.seed


def _first(*choices: _T | None) -> _T:
    """The first choice that was made."""
    return next(choice for choice in choices if choice is not None)
