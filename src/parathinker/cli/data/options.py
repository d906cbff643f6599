"""How options of ``parathinker data`` are declared: a panel of the help page, and what it says."""

from __future__ import annotations

from typing import Any

import typer


def declare(panel: str | None, text: str, *names: str, **more: Any) -> Any:
    """An option without an own default in the help page's panel ``panel``; None: the first one."""
    return typer.Option(*names, help=text, rich_help_panel=panel, **more)
