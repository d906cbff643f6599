"""What every section works with: the options, the model, the machine, the rounds already run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from parathinker import ParaThinker, ThinkingParams, Timings
from parathinker.bench.machine import Machine, cache_bytes
from parathinker.bench.roofline import Roofline
from parathinker.bench.rounds import Round, run_rounds
from parathinker.bench.workload import exactly, text_of
from parathinker.engine.native import library
from parathinker.engine.runner import WEIGHT_FORMATS, Runner, TorchRunner, make_runner
from parathinker.errors import UsageError
from parathinker.modeling.checkpoint import load_weights
from parathinker.modeling.config import DecoderConfig
from parathinker.modeling.folders import resolve_model
from parathinker.prompt import PromptCodec

EMBEDDED = "tiny"
DEFAULT_PATHS = (1, 4, 8, 16)
USUAL_PATHS = 8
"""Paths where a section measures one number of them only."""

Progress = Callable[[str, int, int], None]
"""Called with what is being measured, how much of it is done, and how much there is."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    repeats: int = 5
    prompt: int = 64
    path: int = 128
    summary: int = 32
    lengths: tuple[int, ...] = (128, 512, 2048)
    """Path lengths at which the summary's first token is timed."""
    long: int = 2048
    """Tokens of the prompt and of each path in the section on long contexts."""
    fresh: int = 33
    """Tokens that such paths write themselves; the others are forced."""
    requests: int = 8
    starts: int = 3
    text: int = 4096
    """Tokens whose log-probabilities are compared between weight formats."""
    problems: int = 100
    seeds: int = 3
    read: int = 2**30
    """Bytes read in a probe of the machine."""
    side: int = 2048
    """Of the matrices in a probe."""


QUICK = Sizes(
    repeats=2,
    path=24,
    summary=8,
    lengths=(128, 512),
    long=512,
    fresh=9,
    requests=4,
    starts=1,
    text=512,
    problems=6,
    seeds=1,
    read=2**28,
    side=1024,
)


@dataclass(frozen=True)
class BenchOptions:
    """What to measure."""

    model: str = EMBEDDED
    paths: tuple[int, ...] | None = None
    """None: the usual numbers, as far as the model has them."""
    weights: str = "auto"
    device: str = "auto"
    threads: int | None = None
    repeats: int | None = None
    only: tuple[str, ...] = ()
    """Names of sections; none for all."""
    quick: bool = False


def shown_name(model: str) -> str:
    """A model's name for people: of a folder, its last part."""
    return Path(model).resolve().name if Path(model).is_dir() else model


class Bench:
    """One benchmark: everything is made when a section first asks for it.

    Raises:
        UsageError: options that do not fit the model.
        CheckpointError: there is no such model.
    """

    def __init__(self, options: BenchOptions, progress: Progress = lambda *_: None) -> None:
        self.options, self.progress = options, progress
        sizes = QUICK if options.quick else Sizes()
        if options.repeats is not None:
            if options.repeats < 1:
                raise UsageError(f"repeats should be a whole number from 1; got {options.repeats}")
            sizes = dataclasses.replace(sizes, repeats=options.repeats)
        self.sizes = sizes
        if options.weights not in WEIGHT_FORMATS:
            raise UsageError(
                f"weights should be one of {', '.join(WEIGHT_FORMATS)}; got {options.weights!r}"
            )
        self.folder = resolve_model(options.model)
        self.config = DecoderConfig.from_folder(self.folder)
        self.codec = PromptCodec.from_folder(self.folder)
        most = self.codec.control.max_paths
        wanted = options.paths or tuple(p for p in DEFAULT_PATHS if p <= most)
        for count in wanted:
            if not 1 <= count <= most:
                raise UsageError(
                    f"numbers of paths should be from 1 to {most} for this model; got {count}"
                )
        self.paths = tuple(sorted(set(wanted)))
        self.usual_paths = min(USUAL_PATHS, most)
        self.engine: str | None = None
        """What the model runs on, once that is known."""
        _ = self.model  # loaded at once: it may not go with the device or the weights asked for

    @cached_property
    def model(self) -> ParaThinker:
        """The model as users load it."""
        return self.load(self.options.model, self.options.weights)

    def load(self, name: str, weights: str) -> ParaThinker:
        """Any model, on the device and the threads of this benchmark."""
        return ParaThinker.from_pretrained(
            name, self.options.device, weights=weights, threads=self.options.threads
        )

    @cached_property
    def runner(self) -> Runner:
        """What computes, a second time and by itself, for what the public door does not offer."""
        return self.make_runner(self.options.weights)

    def make_runner(self, weights: str) -> Runner:
        """The model's decoder with weights of a format."""
        loaded = load_weights(self.folder, self.config, self.device, self.dtype)
        runner = make_runner(self.config, loaded, weights, self.options.threads)
        plain = isinstance(runner, TorchRunner)
        self.engine = "PyTorch" if plain else f"compiled kernels ({library.build_name()})"
        return runner

    @cached_property
    def device(self) -> torch.device:
        """Where the model runs."""
        if self.options.device != "auto":
            return torch.device(self.options.device)
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")

    @property
    def dtype(self) -> torch.dtype:
        """Of activations, keys and values."""
        return torch.float32 if self.device.type == "cpu" else torch.bfloat16

    @cached_property
    def rounds(self) -> list[Round]:
        """The job at every number of paths, time and again; several sections read off it."""
        return run_rounds(self)

    @cached_property
    def machine(self) -> Machine:
        """The machine's limits."""
        sizes = self.sizes
        self.progress("the machine's limits", 0, 1)
        machine = Machine(
            self.device, self.dtype, sizes.read, sizes.side, self.options.threads, sizes.repeats
        )
        self.progress("the machine's limits", 1, 1)
        return machine

    @cached_property
    def roofline(self) -> Roofline:
        """The least time of a step."""
        return Roofline(self.config, self.dtype, self.options.weights)

    @property
    def why_no_roofline(self) -> str:
        """Why a step's time should not be held against the roofline; empty if it should."""
        if self.roofline.weight_bytes > cache_bytes():
            return ""
        return "the weights fit into the processor's cache, so memory is not what limits them"

    def question(self, tokens: int | None = None, start: str = "") -> str:
        """A question whose prompt has so many tokens; by default the usual number."""
        wanted = self.sizes.prompt if tokens is None else tokens
        return text_of(wanted, self.codec.encode_question, start)

    def run(self, question: str, params: ThinkingParams) -> Timings:
        """Timings of one request whose prompt is not in memory yet."""
        self.model.forget_prefixes()
        return self.model.think(question, params).timings

    def warm_up(self, paths: tuple[int, ...]) -> None:
        """Let every kernel run once before it is timed."""
        question = self.question()
        for count in paths:
            self.run(question, exactly(count, 4, 2, seed=0))

    def need_context(self, tokens: int, what: str) -> None:
        """Raise UsageError where the model cannot read so many positions."""
        if tokens > self.config.max_context:
            raise UsageError(
                f"{what} takes a context of {tokens:,} tokens, and this model has "
                f"{self.config.max_context:,}"
            )

    def release(self) -> None:
        """Let go of the model, for sections that need the memory."""
        if "model" in self.__dict__:
            self.model.close()
        for name in ("model", "runner"):
            self.__dict__.pop(name, None)
