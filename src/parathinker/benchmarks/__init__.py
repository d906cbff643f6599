"""The benchmarks that ParaThinker reports on, as questions; README.md says where they are from."""

from __future__ import annotations

import json
from pathlib import Path

from parathinker.data.schema import Question, question_id
from parathinker.errors import UsageError

BENCHMARKS = ("aime24", "aime25", "amc23", "math500")


def load_benchmark(name: str) -> list[Question]:
    """The questions of one benchmark, in their order.

    ``metadata`` has the benchmark's own ``id``, and where known ``url``, ``subject`` and ``level``.

    Raises:
        UsageError: there is no benchmark of that name.
    """
    if name not in BENCHMARKS:
        raise UsageError(
            f"there is no benchmark {name!r}; there are {', '.join(BENCHMARKS)}, and any JSONL "
            "file of questions can be one"
        )
    lines = (Path(__file__).parent / f"{name}.jsonl").read_text("utf-8").splitlines()
    questions = []
    for line in lines:
        row = json.loads(line)
        problem, answer = row.pop("problem"), row.pop("answer")
        questions.append(Question(question_id(problem), problem, str(answer), name, row))
    return questions
