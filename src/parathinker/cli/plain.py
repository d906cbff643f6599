"""An answer as ordinary text, for pipes, files and ``--plain``."""

from __future__ import annotations

from parathinker.answer import Answer, Round
from parathinker.cli.outcome import closing_line, path_states, printable
from parathinker.data.tasks import Verdict
from parathinker.params import ThinkingParams


def plain_text(answer: Answer, verdict: Verdict) -> str:
    """Every path under its heading, the summary, the closing line; the question is not repeated."""
    several = len(answer.rounds) > 1
    blocks = [
        block
        for number, one in enumerate(answer.rounds, 1)
        for block in _round(one, f"round {number}, " if several else "", answer.params)
    ]
    return "\n\n".join([*blocks, closing_line(answer, verdict)])


def _round(one: Round, which: str, params: ThinkingParams) -> list[str]:
    ends = {path.thought_id: (path.finish_reason, len(path.token_ids)) for path in one.paths}
    states = path_states(ends, params)
    blocks = [
        f"[{which}path {path.thought_id}: {states[path.thought_id].label}]\n"
        f"{printable(path.text).strip()}"
        for path in one.paths
    ]
    cut = ": out of tokens" if one.summary.finish_reason == "length" else ""
    return [*blocks, f"[{which}summary{cut}]\n{printable(one.summary.text).strip()}"]
