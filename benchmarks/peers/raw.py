"""All that was measured, one JSON object a line: a header, then settings, cells and failures."""

from __future__ import annotations

import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any


class RawFile:
    """Measurements of one job on one machine; grows by a line at a time."""

    def __init__(self, path: Path, header: dict[str, Any] | None = None, fresh: bool = False):
        self.path = path
        if fresh:
            path.unlink(missing_ok=True)
        self._rows = _read(path)
        if header and not self._rows:
            self.add({"header": header})
        self.header: dict[str, Any] = self._rows[0]["header"] if self._rows else {}
        if header and header != self.header:
            sys.exit(
                f"{path} holds measurements of another job or machine; "
                "--fresh starts anew, --output names another folder"
            )

    def add(self, row: dict[str, Any]) -> None:
        """Append a line."""
        self._rows.append(row)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def done(self, contestant: str, round_number: int) -> set[int]:
        """The numbers of paths that a contestant has run in a round."""
        return {row["paths"] for row in self._cells(contestant) if row["round"] == round_number}

    def contestants(self) -> set[str]:
        """Everyone who took part or failed to."""
        return {row["contestant"] for row in self._rows if "contestant" in row}

    def paths(self) -> list[int]:
        """Every number of paths that somebody ran."""
        return sorted({row["paths"] for row in self._rows if "paths" in row})

    def settings(self, contestant: str) -> dict[str, Any]:
        """The last that a contestant stated."""
        return self._last(contestant, "settings", {})

    def missing(self, contestant: str) -> str | None:
        """Why a contestant has no cells, or not all; None where nothing failed last."""
        rows = [row for row in self._rows if row.get("contestant") == contestant]
        return rows[-1].get("missing") if rows else None

    def values(self, contestant: str, figure: str) -> dict[int, list[float]]:
        """By number of paths, a figure's value in each round."""
        values = defaultdict(list)
        for row in self._cells(contestant):
            if figure in row:
                values[row["paths"]].append(row[figure])
        return dict(values)

    def medians(self, contestant: str, figure: str) -> dict[int, float]:
        """By number of paths, a figure's median over all rounds."""
        values = self.values(contestant, figure)
        return {paths: statistics.median(found) for paths, found in sorted(values.items())}

    def _cells(self, contestant: str) -> list[dict[str, Any]]:
        return [r for r in self._rows if r.get("contestant") == contestant and "paths" in r]

    def _last(self, contestant: str, key: str, default: Any) -> Any:
        found = [r[key] for r in self._rows if r.get("contestant") == contestant and key in r]
        return found[-1] if found else default


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
