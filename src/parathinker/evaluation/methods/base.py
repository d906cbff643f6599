"""What a method is: one way to spend a budget of tokens on a question."""

from __future__ import annotations

import dataclasses
import difflib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from parathinker.errors import UsageError
from parathinker.evaluation.generations import Written
from parathinker.evaluation.lab import Case, Lab
from parathinker.evaluation.store import Outcome


@dataclass(frozen=True)
class Method(ABC):
    """One way to spend tokens. Its fields are its options; ``label`` names it with them."""

    name: ClassVar[str]
    uses_confidences: ClassVar[bool] = False
    """Whether it asks for the confidence of sampled tokens."""
    timed: ClassVar[bool] = True
    """Whether somebody would use it, so that its latency means something."""
    model: str = ""
    """Another model to do it with: an embedded one's name, a folder or a hub id."""

    @abstractmethod
    async def answer(self, case: Case, lab: Lab) -> Outcome:
        """Answer one question within ``case.tokens`` generated tokens."""

    async def run_alone(self, case: Case, lab: Lab) -> None:
        """Do all that an answer takes, for the clock; ``lab`` remembers nothing."""
        await self.answer(case, lab)

    def check(self, case: Case, lab: Lab) -> None:
        """Raise UsageError where the method cannot work with this model, width or budget."""
        if self.native and not lab.thinks:
            raise UsageError(
                f"{self.label}: {lab.name} has no control tokens, so it cannot think in parallel; "
                "sequential, majority, confidence, likeliest, short and best work with it"
            )

    @property
    def native(self) -> bool:
        """Whether it takes a model with control tokens."""
        return True

    def remark(self, case: Case, lab: Lab) -> str | None:
        """What there is to know about the method at this width and budget, if anything."""
        return None

    @property
    def label(self) -> str:
        """Its name, with the options that are not the default ones."""
        changed = [
            f"{field.name}={_shown(getattr(self, field.name))}"
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        ]
        return self.name + (":" + ",".join(changed) if changed else "")


def depth(paths: list[Written], summary: Written | None = None) -> int:
    """Tokens one after another: what the answer's latency is made of."""
    return max((path.tokens for path in paths), default=0) + (summary.tokens if summary else 0)


def option_of(method: type[Method], name: str, text: str) -> Any:
    """An option's value from text, by the type of its default.

    Raises:
        UsageError: there is no such option, or the text is no value of it.
    """
    fields = {field.name: field for field in dataclasses.fields(method)}
    if name not in fields:
        close = difflib.get_close_matches(name, fields, 1)
        hint = f"did you mean {close[0]}?" if close else f"it has: {', '.join(fields) or 'none'}"
        raise UsageError(f"method {method.name} has no option {name!r}; {hint}")
    default = fields[name].default
    if isinstance(default, bool):
        values = {"true": True, "yes": True, "false": False, "no": False}
        if text.lower() in values:
            return values[text.lower()]
    elif isinstance(default, (int, float)):
        try:
            return type(default)(text)
        except ValueError:
            pass
    else:
        return text
    kind = "a whole number" if isinstance(default, int) else "a number"
    kind = "true or false" if isinstance(default, bool) else kind
    raise UsageError(f"method {method.name}: option {name} should be {kind}; got {text!r}")


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
