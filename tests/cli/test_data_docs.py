"""docs/data.md shows commands and options that there are."""

from __future__ import annotations

import re
from pathlib import Path

import click
import typer.main

from parathinker.cli.app import app

DOCUMENT = Path(__file__).parents[2] / "docs" / "data.md"


def commands() -> dict[str, click.Command]:
    group = typer.main.get_command(app)
    data = group.commands["data"]  # type: ignore[attr-defined]
    return dict(data.commands)


def test_every_option_in_the_document_is_one_of_some_command() -> None:
    known = {name for command in commands().values() for one in command.params for name in one.opts}
    shown = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", DOCUMENT.read_text("utf-8")))
    assert len(shown) > 40
    assert shown <= known


def test_every_command_line_in_the_document_has_options_of_its_command() -> None:
    lines = DOCUMENT.read_text("utf-8").replace("\\\n", " ").splitlines()
    seen = set()
    for line in lines:
        found = re.match(r"(?:\$ )?parathinker data (\w+) (.*)", line)
        if found:
            known = {name for one in commands()[found[1]].params for name in one.opts}
            assert set(re.findall(r"(?<!\S)--?[a-z][a-z-]*", found[2])) <= known, line
            seen.add(found[1])
    assert seen == set(commands())


def test_the_schema_in_the_document_is_the_schema() -> None:
    from parathinker.data.schema import Example, PathText

    text = DOCUMENT.read_text("utf-8").partition("## The schema")[2].partition("```python")[0]
    columns = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    assert columns == [*Example.__dataclass_fields__, *PathText.__dataclass_fields__]


def test_steps_of_a_build_in_the_document_are_those_it_tells() -> None:
    from parathinker.data.build.assemble import Assembler
    from parathinker.data.build.settings import BuildSettings

    told = [tally.step for tally in Assembler(BuildSettings()).tallies]
    shown = DOCUMENT.read_text("utf-8")
    assert all(step in shown for step in told if not step.startswith("keep "))
