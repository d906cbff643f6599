"""Teachers of multiplication: in writing, in the head, and in the head by ways that differ more.

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

**Complements**: routes share the products of digits, and who is not sure of 7 * 8 is not on any of
them. So every other route puts what the first factor lacks of the next power of ten in its place,
which has other digits, and takes the product away in the end, 37 * 58 = 5800 - 63 * 58::

    36*0:8 1:5       100 - 37, and 58
    1:5*0360>0513    50 * 63 = 3150
    0:8*3600>4563    8 * 63 = 504; running total 3654
    9:30*84=0>4000=  the check is of this product
    -:0085>6412      5800 - 3654; on other routes, +:0000 and the total
    Answer: 2146
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

    def trusts(self, text: str) -> bool:
        """Whether a path says of itself that it is right."""
        return False

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
        first, second = self.factors(a, b, thought_id)
        lines, total = [self._first_line(first, second)], 0
        for place in self.order(thought_id):
            total = slip(self._added(first, second, place, total))
            lines.append(self._noted(first, second, place, total))
        return "\n".join([*lines, *self.last_lines(a, b, total, slip, thought_id)])

    def _first_line(self, first: int, second: int) -> str:
        numbered = enumerate(ones_first(second, self.digits))
        named = " ".join(f"{place}:{digit}" for place, digit in numbered)
        return f"{ones_first(first, self.digits)}*{named}"

    def _added(self, first: int, second: int, place: int, total: int) -> int:
        """The running total with that of one more digit."""
        digit = second // 10**place % 10
        return (total + first * 10**place * digit) % 10 ** (2 * self.digits)

    def _noted(self, first: int, second: int, place: int, total: int) -> str:
        """The line that a running total ends."""
        width = 2 * self.digits
        shifted = ones_first(first * 10**place, width)
        return f"{place}:{second // 10**place % 10}*{shifted}>{ones_first(total, width)}"

    def last_lines(self, a: int, b: int, total: int, slip: Slip, thought_id: int) -> list[str]:
        """What is written when the last total is there."""
        return [self.answer_line(total)]

    def factors(self, a: int, b: int, thought_id: int) -> tuple[int, int]:
        """Those that a route multiplies."""
        return (a, b) if thought_id % 2 else (b, a)

    def order(self, thought_id: int) -> list[int]:
        """Of the second factor's digits."""
        start, backwards = divmod((thought_id - 1) // 2, 2)
        return self._around(start, -1 if backwards else 1)

    def _around(self, start: int, step: int) -> list[int]:
        return [(start + step * i) % self.digits for i in range(self.digits)]


class CastingOutNines(InTheHead):
    """In the head, checked before it is answered."""

    def last_lines(self, a: int, b: int, total: int, slip: Slip, thought_id: int) -> list[str]:
        """The check, and the answer."""
        return [self._check(*self.factors(a, b, thought_id), total), self.answer_line(total)]

    def finished(self, a: int, b: int, text: str, thought_id: int) -> tuple[str, int] | None:
        """With a check of the total that the path came to, and that as its answer. Worked out is
        all behind the last line that is wrong by what stands before it."""
        first, second = self.factors(a, b, thought_id)
        worked = text.split("\n")[: 1 + self.digits]
        right, total = 0, 0
        if len(worked) <= self.digits:
            return None
        for i, (place, line) in enumerate(zip(self.order(thought_id), worked[1:], strict=True), 1):
            found = re.fullmatch(rf".*>(\d{{{2 * self.digits}}})", line)
            if not found:
                return None
            due = self._added(first, second, place, total)
            total = int(found[1][::-1])
            if line != self._noted(first, second, place, due):
                right = i + 1
        if not right and worked[0] != self._first_line(first, second):
            right = 1
        last = self.last_lines(a, b, total, no_slip, thought_id)
        given = "".join(f"{line}\n" for line in worked[:right])
        return "\n".join([*worked, *last]), len(given)

    def trusts(self, text: str) -> bool:
        """Whether the check agreed."""
        return "=\n" in text

    def _check(self, first: int, second: int, total: int) -> str:
        factors = [self._remainders(factor, self.digits) for factor in (first, second)]
        product = int(factors[0][-1]) * int(factors[1][-1]) % 9
        found = self._remainders(total, 2 * self.digits)
        verdict = "=" if product == int(found[-1]) else "!"
        return f"9:{'*'.join(factors)}={product}>{found}{verdict}"

    @staticmethod
    def _remainders(value: int, width: int) -> str:
        """By 9, of the first digit, the first two and so on, from the ones up."""
        added = accumulate(map(int, ones_first(value, width)))
        return "".join(str(one % 9) for one in added)


class Complements(CastingOutNines):
    """In the head and checked, on every other route with the first factor's complement."""

    def last_lines(self, a: int, b: int, total: int, slip: Slip, thought_id: int) -> list[str]:
        """The check, the product from that with the complement, and the answer."""
        first, second = self.factors(a, b, thought_id)
        whole = second * 10**self.digits if self._complements(a, b, thought_id) else 0
        product = slip((whole - total if whole else total) % 10 ** (2 * self.digits))
        width = 2 * self.digits
        noted = f"{'-' if whole else '+'}:{ones_first(whole, width)}>{ones_first(product, width)}"
        return [self._check(first, second, total), noted, self.answer_line(product)]

    def factors(self, a: int, b: int, thought_id: int) -> tuple[int, int]:
        """Those that a route multiplies."""
        first, second = self._given(a, b, thought_id)
        if self._complements(a, b, thought_id):
            return 10**self.digits - first, second
        return first, second

    def order(self, thought_id: int) -> list[int]:
        """Of the second factor's digits."""
        halfway, backwards = divmod((thought_id - 1) // 4, 2)
        return self._around(self.digits // 2 * halfway, -1 if backwards else 1)

    def _complements(self, a: int, b: int, thought_id: int) -> bool:
        """Where one of the factors is 0, no product is to be taken away."""
        return thought_id % 2 == 0 and a > 0 and b > 0

    @staticmethod
    def _given(a: int, b: int, thought_id: int) -> tuple[int, int]:
        return (b, a) if (thought_id - 1) // 2 % 2 else (a, b)


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
