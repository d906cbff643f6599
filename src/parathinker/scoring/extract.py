r"""The answer that a text comes to: what it boxes, else what it calls its answer, else its last
number."""

from __future__ import annotations

import re
from fractions import Fraction

_BRACE = re.compile(r"(?P<box>\\(?:boxed|fbox)\s*\{)|\\.|(?P<open>\{)|(?P<close>\})", re.DOTALL)
_STATED = re.compile(r"\banswer\b[*_]*\s*(?:\bis\b|\bare\b|=|:)[\s*_:]*|####\s*", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)")
# A sign belongs to a number unless it stands between two operands, as in 12-7.
_NUMBER = re.compile(
    r"(?:(?<![\w)}])[-+])?"
    r"(?:(?<![\d,])[1-9]\d{0,2}(?:,\d{3})+(?!,?\d)|\d+)(?:\.\d+)?(?:/\d+)?"
)
_PLAIN_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:/\d+)?")
# Any other comma separates: 3,5,7 is a list, and not 357.
_THOUSANDS = r"(?<![\d.,])[1-9]\d{0,2}(?P<by>%s)\d{3}(?:(?P=by)\d{3})*(?!\d|,\d)"
_TYPESET = re.compile(_THOUSANDS % r"\{,\}|,\\!|\\[,!]")
_GROUPED = re.compile(_THOUSANDS % r"[,\s~]")
_BRACKET = re.compile(r"\{|(?<!\\)[(\[]")
_IDLE = re.compile(r"(?:\\[,!;: ]|~|\\?\$|\\[()\[\]]|\s)+")
_BETWEEN_DIGITS = re.compile(rf"(?<=\d){_IDLE.pattern}(?=\d)")
_TEXT_COMMAND = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox)\{([^{}]*)\}")


def extract_answer(text: str) -> str | None:
    r"""The answer in a reasoning text or in an answer to a user.

    The last complete ``\boxed{…}``; else what stands in the last ``<answer>…</answer>``; else what
    follows the last "answer is", "Answer:" or "####"; else the last number. None if a text has
    nothing of the kind.
    """
    marked = marked_answer(text)
    return last_number(text) if marked is None else marked


def marked_answer(text: str) -> str | None:
    """The answer that a text marks as such; None if it marks none."""
    boxed = last_boxed(text)
    if boxed is not None:
        return boxed
    tagged = _last_tagged(text)
    if tagged:
        return tagged
    for found in reversed(list(_STATED.finditer(text))):
        line = text[found.end() :].partition("\n")[0]
        stated = _unwrapped(_first_sentence(line))
        if stated:
            return stated
    return None


def last_boxed(text: str) -> str | None:
    r"""What the last complete, non-empty ``\boxed{…}`` holds, braces within braces included."""
    last, last_begin = None, -1
    open_braces: list[int | None] = []
    for brace in _BRACE.finditer(text):
        if brace["box"]:
            open_braces.append(brace.end())
        elif brace["open"]:
            open_braces.append(None)
        elif brace["close"] and open_braces:
            begin = open_braces.pop()
            if begin is not None and begin > last_begin:
                content = text[begin : brace.start()].strip()
                if content:
                    last, last_begin = content, begin
    return last


def last_number(text: str) -> str | None:
    """The last number in a text, without thousands separators."""
    numbers = _NUMBER.findall(text)
    return _without_separators(numbers[-1]) if numbers else None


def first_number(text: str) -> str | None:
    """The first number behind the last equals sign, without thousands separators."""
    found = _NUMBER.search(text[text.rfind("=") + 1 :])
    return _without_separators(found[0]) if found else None


def as_number(text: str) -> Fraction | None:
    r"""The value of a text that is one number, such as ``1,234``, ``-0.50``, ``$3/4$``."""
    bare = _bare(text)
    if not _PLAIN_NUMBER.fullmatch(bare):
        return None
    numerator, _, denominator = bare.partition("/")
    try:
        value = Fraction(numerator)
        return value / int(denominator) if denominator else value
    except (ValueError, ZeroDivisionError):  # thousands of digits, or a division by zero
        return None


def plain(answer: str) -> str:
    r"""An answer as two that are written alike come out the same: no dollars, spaces, ``\text``.

    Commas stay, unless they stand between the thousands of a number.
    """
    number = as_number(answer)
    if number is not None:
        return str(number)
    return _bare(_TEXT_COMMAND.sub(r"\1", _unwrapped(answer))).casefold()


def _bare(text: str) -> str:
    """Without what says nothing. Two numbers with a space between stay two; in brackets, where
    pairs and sets are, so do two with a comma."""
    text = _TYPESET.sub(_digits, text)
    if not _BRACKET.search(text):
        text = _GROUPED.sub(_digits, text)
    return _IDLE.sub("", _BETWEEN_DIGITS.sub("\0", text)).replace("\0", " ")


def _digits(number: re.Match[str]) -> str:
    return "".join(filter(str.isdigit, number[0]))


def _last_tagged(text: str) -> str:
    end = text.rfind("</answer>")
    begin = text.rfind("<answer>", 0, max(end, 0))
    return text[begin + len("<answer>") : end].strip() if begin >= 0 else ""


def _first_sentence(text: str) -> str:
    end = _SENTENCE_END.search(text)
    return text[: end.start()] if end else text


def _unwrapped(text: str) -> str:
    r"""Without the marks of Markdown and LaTeX around it: ``**$5$**`` is 5."""
    before = None
    while text != before:
        before = text
        text = text.strip().strip("*_`").strip().rstrip(".,;")
        for opening, closing in (("$", "$"), (r"\(", r"\)"), (r"\[", r"\]")):
            inner = text[len(opening) : -len(closing)]
            if text.startswith(opening) and text.endswith(closing) and opening not in inner:
                text = inner
    return text


def _without_separators(number: str) -> str:
    return number.replace(",", "")
