"""An answer as ordinary text, for pipes, files and ``--plain``."""

from __future__ import annotations

from parathinker.answer import Answer
from parathinker.cli.outcome import closing_line, path_states, printable
from parathinker.data.tasks import Verdict


def plain_text(answer: Answer, verdict: Verdict) -> str:
    """Every path under its heading, the summary, the closing line; the question is not repeated."""
    blocks = [
        f"[path {path.thought_id}: {state.label}]\n{printable(path.text).strip()}"
        for path, state in zip(answer.paths, path_states(answer.paths), strict=True)
    ]
    cut = ": out of tokens" if answer.summary.finish_reason == "length" else ""
    blocks.append(f"[summary{cut}]\n{printable(answer.text)}")
    blocks.append(closing_line(answer, verdict))
    return "\n\n".join(blocks)
