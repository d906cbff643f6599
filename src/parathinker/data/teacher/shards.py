"""Shares of the questions, so that several machines can sample at once without talking."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from parathinker.errors import UsageError


@dataclass(frozen=True)
class Shard:
    """Share ``number`` of ``of``, from 1. Every question belongs to exactly one."""

    number: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            raise UsageError(
                f"a shard should be from 1/{max(self.of, 1)} to {max(self.of, 1)}/"
                f"{max(self.of, 1)}; got {self}"
            )

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``3/16``.

        Raises:
            UsageError: it is something else, or there is no such share.
        """
        found = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", text)
        if not found:
            raise UsageError(f"a shard should look like 3/16, the third of sixteen; got {text!r}")
        return cls(int(found[1]), int(found[2]))

    def takes(self, question_id: str) -> bool:
        """Whether a question belongs to this share; goes by its id alone, not by its place."""
        digest = hashlib.blake2b(question_id.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.of == self.number - 1
