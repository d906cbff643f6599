"""The options of ``parathinker ask``, in the panels that its help shows them in."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from parathinker.errors import UsageError
from parathinker.params import AUTO, TERMINATIONS

THINKING, LIMITS, SAMPLING = "Thinking", "Limits", "Sampling"
MODEL, OUTPUT = "Model and engine", "Output"


def _option(panel: str | None, text: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, **more)


Question = Annotated[
    str | None,
    typer.Argument(help="What to think about; - or nothing reads standard input."),
]
Paths = Annotated[
    str,
    _option(None, f"Paths that think side by side; {AUTO}: more only while they disagree."),
]
Then = Annotated[
    list[str] | None,
    _option(None, "A question that follows up the answer; may be given again."),
]
Example = Annotated[
    bool, _option(None, "Take a held-out problem that comes with the model.", "--example")
]
ExampleNumber = Annotated[
    int | None, _option(None, "Take this one of them, from 1.", show_default=False)
]
Reference = Annotated[
    str | None,
    _option(None, "The right answer, to check against.", "--answer", show_default=False),
]

MaxPaths = Annotated[int | None, _option(THINKING, f"With --paths {AUTO}: how many at most.")]
ThoughtIds = Annotated[
    str | None,
    _option(THINKING, "Which <think i> open the paths, as 3,1,8; by default the first ones."),
]
Rounds = Annotated[int, _option(THINKING, "How often to think; later rounds read the ones before.")]
Termination = Annotated[
    str | None,
    _option(
        THINKING,
        f"When to sum up: {', '.join(TERMINATIONS)}; by default the model's own, else the first.",
    ),
]
PathPrefix = Annotated[
    list[str] | None,
    _option(THINKING, "Text that each path begins with; given P times, one for each path."),
]
SummaryPrefix = Annotated[str | None, _option(THINKING, "Text that the summary begins with.")]
Continuation = Annotated[
    str | None,
    _option(THINKING, 'Text in place of ends before --min-path-tokens, such as "Wait".'),
]

MaxPathTokens = Annotated[int | None, _option(LIMITS, "Tokens a path may have.")]
MinPathTokens = Annotated[int, _option(LIMITS, "Tokens a path has to have.")]
MaxSummaryTokens = Annotated[int | None, _option(LIMITS, "Tokens the summary may have.")]
MinSummaryTokens = Annotated[int, _option(LIMITS, "Tokens the summary has to have.")]
Budget = Annotated[int | None, _option(LIMITS, "Tokens all paths of a round together may have.")]
Stop = Annotated[
    list[str] | None,
    _option(LIMITS, "Text that ends a path or the summary; may be given again."),
]
StopTokenId = Annotated[
    list[int] | None,
    _option(LIMITS, "Token that ends a path or the summary; may be given again."),
]

Temperature = Annotated[
    float | None,
    _option(SAMPLING, "Of the paths; 0 is greedy; by default the model's own."),
]
SummaryTemperature = Annotated[float | None, _option(SAMPLING, "Of the summary.")]
TopP = Annotated[float, _option(SAMPLING, "Sample from the likeliest tokens of this probability.")]
TopK = Annotated[int, _option(SAMPLING, "Sample from so many likeliest tokens; 0: all.")]
MinP = Annotated[float, _option(SAMPLING, "Leave out tokens below this share of the likeliest.")]
RepetitionPenalty = Annotated[
    float, _option(SAMPLING, "Divides logits of tokens that were there before; 1: off.")
]
FrequencyPenalty = Annotated[
    float, _option(SAMPLING, "Taken off logits for each time a token was written.")
]
PresencePenalty = Annotated[
    float, _option(SAMPLING, "Taken off logits of tokens that were written.")
]
Seed = Annotated[int | None, _option(SAMPLING, "Same seed, same answer.")]

Model = Annotated[str, _option(MODEL, "An embedded model's name, a folder, or a hub id.")]
Device = Annotated[str, _option(MODEL, "auto, cpu, cuda or mps.")]
Dtype = Annotated[str, _option(MODEL, "auto, float32 or bfloat16.")]
Weights = Annotated[
    str, _option(MODEL, "auto, float32, or int8: a quarter of the memory, less exact.")
]
KVCacheMemory = Annotated[
    str | None,
    _option(MODEL, "Memory for keys and values, such as 2GiB, or 0.25 of all there is."),
]
Threads = Annotated[
    int | None, _option(MODEL, "CPU threads; by default OMP_NUM_THREADS, or one for each core.")
]
Backend = Annotated[str, _option(MODEL, "Engine: native, or vllm (docs/vllm.md).")]
EngineArg = Annotated[
    list[str] | None,
    _option(MODEL, "vLLM's own argument, as tensor_parallel_size=2; may be repeated."),
]

Json = Annotated[
    bool,
    _option(OUTPUT, "Print the whole answer as JSON; with --then, a line for each.", "--json"),
]
Plain = Annotated[
    bool,
    _option(OUTPUT, "Ordinary text, no live view; also when the output is no terminal.", "--plain"),
]


def read_paths(text: str) -> int | str:
    """What ``--paths`` says, as :class:`~parathinker.ThinkingParams` takes it.

    Raises:
        UsageError: it is neither a whole number nor ``auto``.
    """
    if text == AUTO:
        return text
    try:
        return int(text)
    except ValueError:
        raise UsageError(
            f'paths should be a whole number from 1, or "{AUTO}"; got {text!r}'
        ) from None


def read_path_prefixes(texts: list[str] | None) -> str | tuple[str, ...] | None:
    """What ``--path-prefix`` says: one text is for all paths."""
    if not texts:
        return None
    return texts[0] if len(texts) == 1 else tuple(texts)
