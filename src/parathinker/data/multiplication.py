"""Teachers of multiplication: one does it in writing, one in the head, one also checks itself.

All write digits with the ones first, so that carries run the way the text does, and zero-pad every
number to one width: the same step stands at the same place in every path. The last line is the
answer, read normally.

**In writing** is what a model learns first: one line for each digit of the second factor with the
partial product and the running total without the ones that are done. ``37 * 58`` with two digits::

    73*85            both factors
    73*8=692>692     37 * 8 = 296; running total 296
    73*5=581>412     37 * 5 = 185; 185 + 29 = 214
    Answer:  2146    the last total, then the ones that were dropped

**In the head** only running totals are noted. Whoever does that has to carry in the head, and slips
now and then. The thought id decides the *route*: which factor stands first, at which digit the path
begins and which way it goes. A greedy path repeats its own mistakes; paths on other routes pass
through other totals, and so make others. The digits of the second factor are numbered::

    73*0:8 1:5       the factors
    1:5*0730>0581    50 * 37 = 1850; running total 1850
    0:8*7300>6412    8 * 37 = 296; running total 2146
    Answer: 2146

**Casting out nines** is done by who does not trust his head. Numbers leave the same remainder by 9
as their digits added up; one is noted after each digit of the factors and of the total. Where the
product of the factors' remainders is not that of the total, the path says that its answer is wrong
(``!``); where it is (``=``), the answer is right, or one of the wrong ones in nine that pass::

    9:71*84=4>6124=  7, 37 leave 7, 1; 8, 58 leave 8, 4; 1 * 4 = 4; 6, 46, 146, 2146 leave 6 to 4
    Answer: 2146

**Casting out sevens, too**, lets one wrong answer in 63 pass. The next digit up is added to the
remainder, and that taken five times, which is a tenth of it by sevens (five tens leave 1); after
six digits, or twelve, it is the number's own. The last mark is for both checks.
"""

from __future__ import annotations

import random
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import accumulate
from typing import ClassVar, TypeAlias

Slip: TypeAlias = Callable[[int], int]
"""What becomes of a number that is noted: itself, or one with a wrong digit."""


class Teacher(ABC):
    """Works a product out, line by line."""

    digits: ClassVar[int]
    """Width of the factors; shorter ones are zero-padded."""
    routes: ClassVar[int]
    """How many thought ids have a route of their own; 0 if all go the same way."""

    @abstractmethod
    def trace(self, a: int, b: int, slip: Slip, thought_id: int) -> str:
        """What a path writes."""

    def finished(self, a: int, b: int, text: str, thought_id: int) -> tuple[str, int] | None:
        """A path of anyone's as far as it works the product out, and behind it what this teacher
        would write then; and how many characters were worked out. None if that is not to be taught.
        """
        return None

    def said_from(self, text: str) -> int | None:
        """Where in a path of this teacher's that begins what is said of its last total: the check
        and the answer. None where that takes more than the total.
        """
        return None

    def trusts(self, text: str) -> bool:
        """Whether a path says of itself that it is right."""
        return False

    def last_lines(self, first: int, second: int, total: int) -> list[str]:
        """What is written when the last total is there; a summary needs to read no more."""
        return [self.answer_line(total)]

    def answer_line(self, answer: int) -> str:
        """The last line of a path, which is also the whole summary."""
        return f"Answer:{answer:>{2 * self.digits + 1}}"


class InWriting(Teacher):
    """The schoolbook's way."""

    digits = 5
    routes = 0

    def trace(self, a: int, b: int, slip: Slip, thought_id: int) -> str:
        """The same for all thought ids."""
        width = self.digits + 1
        first, second = (ones_first(factor, self.digits) for factor in (a, b))
        lines = [f"{first}*{second}"]
        total, dropped = 0, ""
        for digit in second:
            partial = slip(a * int(digit)) % 10**width
            total = slip((partial + total // 10) % 10**width)
            dropped = str(total % 10) + dropped
            noted = f"{ones_first(partial, width)}>{ones_first(total, width)}"
            lines.append(f"{first}*{digit}={noted}")
        return "\n".join([*lines, self.answer_line(int(f"{total // 10}{dropped}"))])


class InTheHead(Teacher):
    """Running totals alone, along a route."""

    digits = 6
    routes = 16

    def trace(self, a: int, b: int, slip: Slip, thought_id: int) -> str:
        """Along the route of a thought id, from 1 to ``routes``."""
        swapped, order = self.route(thought_id)
        first, second = (b, a) if swapped else (a, b)
        width = 2 * self.digits
        places = ones_first(second, self.digits)
        numbered = " ".join(f"{place}:{digit}" for place, digit in enumerate(places))
        lines, total = [f"{ones_first(first, self.digits)}*{numbered}"], 0
        for place in order:
            shifted = first * 10**place
            total = slip((total + shifted * int(places[place])) % 10**width)
            noted = f"{ones_first(shifted, width)}>{ones_first(total, width)}"
            lines.append(f"{place}:{places[place]}*{noted}")
        return "\n".join([*lines, *self.last_lines(first, second, total)])

    def said_from(self, text: str) -> int:
        """The answer's line."""
        return text.rindex("\n") + 1

    def route(self, thought_id: int) -> tuple[bool, list[int]]:
        """How a path goes about it: whether factors change places, and the order of the digits."""
        turn, swapped = divmod(thought_id - 1, 2)
        start, backwards = divmod(turn, 2)
        step = -1 if backwards else 1
        return swapped == 1, [(start + step * i) % self.digits for i in range(self.digits)]


class CastingOutNines(InTheHead):
    """In the head, checked before it is answered."""

    moduli: ClassVar[tuple[int, ...]] = (9,)
    """What remainders are by, one line each."""

    def last_lines(self, first: int, second: int, total: int) -> list[str]:
        """The checks, and the answer."""
        lines, verdict = [], "="
        for modulus in self.moduli:
            factors = [self._remainders(factor, self.digits, modulus) for factor in (first, second)]
            product = int(factors[0][-1]) * int(factors[1][-1]) % modulus
            found = self._remainders(total, 2 * self.digits, modulus)
            if product != int(found[-1]):
                verdict = "!"
            lines.append(f"{modulus}:{'*'.join(factors)}={product}>{found}{verdict}")
        return [*lines, self.answer_line(total)]

    def finished(self, a: int, b: int, text: str, thought_id: int) -> tuple[str, int] | None:
        """With a check of the total that the path came to, and that as its answer."""
        worked = text.split("\n")[: 1 + self.digits]
        total = re.fullmatch(rf".*>(\d{{{2 * self.digits}}})", worked[-1])
        if len(worked) <= self.digits or not total:
            return None
        first, second = (b, a) if self.route(thought_id)[0] else (a, b)
        last = self.last_lines(first, second, int(total[1][::-1]))
        return "\n".join([*worked, *last]), len("\n".join(worked)) + 1

    def said_from(self, text: str) -> int:
        """The total's remainders."""
        return text.index(">", text.rindex(f"\n{self.moduli[0]}:")) + 1

    def trusts(self, text: str) -> bool:
        """Whether all checks agreed."""
        return "=\nAnswer" in text

    @staticmethod
    def _remainders(value: int, width: int, modulus: int) -> str:
        """Of the first digit, the first two and so on, from the ones up, each a digit.

        With each digit all that is there is taken by a tenth, so that no place has a rule of its
        own. After so many digits that ten to that power leaves 1, the remainder is the number's.
        """
        tenth = pow(10, -1, modulus)
        digits = map(int, ones_first(value, width))
        added = accumulate(digits, lambda below, one: (below + one) * tenth % modulus, initial=0)
        return "".join(map(str, added))[1:]


class CastingOutSevens(CastingOutNines):
    """Checked by sevens as well as by nines."""

    moduli = (9, 7)


def slips(rate: float, rng: random.Random) -> Slip:
    """Slip at this rate: one digit wrong, mostly by one, for that is how carries go wrong."""

    def slip(value: int) -> int:
        if rng.random() >= rate:
            return value
        unit = int(10 ** rng.randrange(len(str(value))))
        digit = value // unit % 10
        wrong = (digit + rng.choice((1, 9, 1, 9, 1, 9, rng.randint(1, 9)))) % 10
        return value + (wrong - digit) * unit

    return slip


def no_slip(value: int) -> int:
    """Note the number as it is."""
    return value


def ones_first(value: int, width: int) -> str:
    """The digits of a number back to front, padded with zeros to a width."""
    return str(value).zfill(width)[::-1]
