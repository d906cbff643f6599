"""How the rows of well-known data sets are laid out: a small declaration each.

A layout is told by its columns. It says where the question and the reference answer are; where the
answer has to be found in a solution, it is what the solution boxes, or calls its answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from parathinker.data.sources.teacher_text import TeacherText, join_reasoning
from parathinker.data.teacher.reasoning import CLOSE
from parathinker.errors import UsageError

Row = Mapping[str, Any]

NICKNAMES = {
    "openr1": "open-r1/OpenR1-Math-220k",
    "deepmath": "zwhe99/DeepMath-103K",
    "s1k": "simplescaling/s1K",
    "s1k-1.1": "simplescaling/s1K-1.1",
    "limo": "GAIR/LIMO",
}
"""Short names of data sets on the hub."""

R1 = "deepseek-ai/DeepSeek-R1"
GEMINI = "gemini-2.0-flash-thinking-exp"

LONGEST_BARE_ANSWER = 100
"""Characters of a solution of one line which may be nothing but the answer."""
_MARKS = ("\\boxed", "\\fbox", "####")
"""Any of them in an answer's column: it holds a solution."""


def _no_texts(row: Row) -> list[TeacherText]:
    return []


@dataclass(frozen=True)
class Layout:
    """Where the rows of one kind of data set keep what is wanted of them."""

    name: str
    columns: tuple[str, ...]
    """All of these are there, which tells the layout."""
    question: tuple[str, ...] = ("question",)
    """Columns, of which the first that says something counts; so with those below."""
    answer: tuple[str, ...] = ()
    """Of the reference answer."""
    solution: tuple[str, ...] = ()
    """Of a solution, in which the answer is found where there is none of its own."""
    exact: bool = False
    """It is told only where there are no other columns."""
    no_answers: tuple[str, ...] = ()
    """What the answer's column says for none."""
    difficulty: str | None = None
    kept: tuple[str, ...] = ()
    """Columns that are kept as a question's metadata."""
    texts: Callable[[Row], list[TeacherText]] = _no_texts
    """What a teacher wrote about the question."""

    def columns_read(self, there: Iterable[str]) -> list[str]:
        """Those of the columns there that a question takes; the others need not be fetched."""
        if self is QUESTIONS:
            return list(there)
        read = {*self.question, *self.answer, *self.solution, *self.kept, self.difficulty}
        return [column for column in there if column in read]

    def question_of(self, row: Row) -> str | None:
        """The text that is asked; None if there is none."""
        return _first(row, self.question)

    def answer_of(self, row: Row) -> str | None:
        """The reference answer; None if there is none, or none can be told."""
        answer, solution = _first(row, self.answer), _first(row, self.solution)
        if answer is not None and answer.casefold() not in self.no_answers:
            return _marked(answer) or answer if any(m in answer for m in _MARKS) else answer
        if solution is None:
            return None
        # A solution of one short line may be the answer; beside "proof" it is a short proof.
        bare = answer is None and len(solution) <= LONGEST_BARE_ANSWER and "\n" not in solution
        return _marked(solution) or (solution if bare else None)

    def difficulty_of(self, row: Row) -> float | None:
        """How hard the question is, by the data set's own measure."""
        try:
            return float(row[self.difficulty]) if self.difficulty else None
        except (KeyError, TypeError, ValueError):
            return None


def text_of(value: Any) -> str | None:
    """A value as text, None if it says nothing; of chat messages, what the user said last."""
    if isinstance(value, list):
        users = [m for m in value if isinstance(m, dict) and m.get("role") == "user"]
        value = users[-1].get("content") if users else None
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value != value:
        return None  # NaN is what tables have for nothing
    # What JSON may hold and UTF-8 may not: half a surrogate pair.
    text = str(value).encode("utf-16", "surrogatepass").decode("utf-16", "replace").strip()
    return text or None


def _first(row: Row, columns: tuple[str, ...]) -> str | None:
    found = (text_of(row.get(column)) for column in columns)
    return next((text for text in found if text is not None), None)


def _marked(text: str) -> str | None:
    from parathinker.scoring.extract import marked_answer

    return marked_answer(text)


def _flags(row: Row, column: str, count: int) -> list[Any]:
    """A column that says something about each generation; None where it does not."""
    values = row.get(column)
    values = list(values) if isinstance(values, list) else []
    return (values + [None] * count)[:count]


def _openr1_texts(row: Row) -> list[TeacherText]:
    generations = row.get("generations")
    generations = generations if isinstance(generations, list) else []
    reasons = _flags(row, "finish_reasons", len(generations))
    complete = _flags(row, "is_reasoning_complete", len(generations))
    found = []
    for value, reason, done in zip(generations, reasons, complete, strict=True):
        text = text_of(value)
        if text is not None:
            cut = done is False or CLOSE not in text
            found.append(TeacherText(text, R1, "length" if cut else reason or "stop"))
    return found


def _deepmath_texts(row: Row) -> list[TeacherText]:
    texts = (text_of(row.get(f"r1_solution_{i}")) for i in (1, 2, 3))
    return [TeacherText(text, R1) for text in texts if text is not None]


def _pair(model: str, reasoning: Any, answer: Any) -> Iterable[TeacherText]:
    thought, said = text_of(reasoning), text_of(answer)
    if thought is not None:
        yield TeacherText(
            join_reasoning(thought, said or ""), model, "length" if said is None else "stop"
        )


def _s1k_texts(row: Row) -> list[TeacherText]:
    thoughts = row.get("thinking_trajectories")
    thoughts = thoughts if isinstance(thoughts, list) else [thoughts]
    return [text for one in thoughts for text in _pair(GEMINI, one, row.get("attempt"))]


def _s1k_11_texts(row: Row) -> list[TeacherText]:
    return [
        *_pair(R1, row.get("deepseek_thinking_trajectory"), row.get("deepseek_attempt")),
        *_pair(GEMINI, row.get("gemini_thinking_trajectory"), row.get("gemini_attempt")),
    ]


LAYOUTS = (
    Layout(
        "openr1",
        columns=("problem", "solution", "answer", "generations", "is_reasoning_complete"),
        question=("problem",),
        answer=("answer",),
        solution=("solution",),
        no_answers=("proof", "notfound", "not found"),
        kept=("problem_type", "question_type"),
        texts=_openr1_texts,
    ),
    Layout(
        "deepmath",
        columns=("question", "final_answer", "difficulty", "r1_solution_1"),
        answer=("final_answer",),
        difficulty="difficulty",
        kept=("difficulty", "topic"),
        texts=_deepmath_texts,
    ),
    Layout(
        "s1k-1.1",
        columns=("question", "solution", "deepseek_thinking_trajectory"),
        solution=("solution",),
        kept=("cot_type", "source_type"),
        texts=_s1k_11_texts,
    ),
    Layout(
        "s1k",
        columns=("question", "solution", "thinking_trajectories"),
        solution=("solution",),
        kept=("cot_type", "source_type"),
        texts=_s1k_texts,
    ),
    Layout(
        "limo",
        columns=("question", "solution", "answer"),
        answer=("answer",),
        solution=("solution",),
        exact=True,
    ),
    Layout("questions", columns=("id", "question", "metadata"), answer=("answer",)),
)
"""From the most telling to the least; what none of them fits is :data:`GENERIC`."""

QUESTIONS = LAYOUTS[-1]
"""What `data questions` itself writes; ids, sources and metadata are taken over."""

GENERIC = "generic"
"""Any file with a question's column, of the names below or of one that is given."""
GENERIC_QUESTIONS = ("question", "problem", "prompt")
GENERIC_ANSWERS = ("answer", "final_answer")
GENERIC_SOLUTIONS = ("solution",)
NAMES = (*(layout.name for layout in LAYOUTS), GENERIC)


def layout_for(
    columns: Iterable[str],
    where: str,
    name: str | None = None,
    question: str | None = None,
    answer: str | None = None,
    texts: str | None = None,
) -> Layout:
    """The layout of rows with these columns.

    Args:
        columns: the first row's.
        where: the source, for errors.
        name: a layout asked for, which then has to fit.
        question, answer, texts: columns asked for, of the generic layout.

    Raises:
        UsageError: none fits; names the columns that are there.
    """
    there = tuple(columns)
    if name is not None and name not in NAMES:
        raise UsageError(f"there is no layout {name!r}; known: {', '.join(NAMES)}")
    if (question, answer, texts) != (None, None, None):
        if name not in (None, GENERIC):
            raise UsageError(f"columns can be named for the layout {GENERIC} only, not for {name}")
        return _generic(there, where, question, answer, texts)
    for layout in LAYOUTS:
        lacking = [column for column in layout.columns if column not in there]
        if name == layout.name and lacking:
            raise UsageError(
                f"{where} is not of the layout {name}: it lacks {', '.join(lacking)}; its columns: "
                f"{', '.join(there)}"
            )
        if name == layout.name:
            return layout
        if name is None and not lacking and (len(there) == len(layout.columns) or not layout.exact):
            return layout
    return _generic(there, where, question, answer, texts)


def _generic(
    there: tuple[str, ...], where: str, question: str | None, answer: str | None, texts: str | None
) -> Layout:
    for column in (question, answer, texts):
        if column is not None and column not in there:
            raise UsageError(f"{where} has no column {column!r}; its columns: {', '.join(there)}")
    if question is None and not set(GENERIC_QUESTIONS) & set(there):
        raise UsageError(
            f"{where} has no column {' or '.join(GENERIC_QUESTIONS)}; name the question's with "
            f"--question-column. Its columns: {', '.join(there) or 'none'}"
        )

    def listed(row: Row) -> list[TeacherText]:
        values = row.get(texts) if texts else None
        found = map(text_of, values if isinstance(values, list) else [values])
        return [
            TeacherText(text, finish_reason="stop" if CLOSE in text else "length")
            for text in found
            if text is not None
        ]

    return Layout(
        GENERIC,
        columns=(),
        question=(question,) if question else GENERIC_QUESTIONS,
        answer=(answer,) if answer else GENERIC_ANSWERS,
        solution=() if answer else GENERIC_SOLUTIONS,
        difficulty="difficulty" if "difficulty" in there else None,
        texts=listed,
    )
