"""From run folders to a report's files: read the runs, draw the figures, fill in the templates."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parathinker.errors import UsageError
from parathinker.evaluation.report import text
from parathinker.evaluation.report.answers import MOST_BYTES, Reader, Watch, answers_of
from parathinker.evaluation.report.figures import Drawn, draw
from parathinker.evaluation.report.findings import Finding, Standing, find
from parathinker.evaluation.store import RunStore

PAGE, MARKDOWN, FIGURES = "report.html", "report.md", "figures"
ANSWERS = 200
"""Questions of each benchmark whose answers the page shows."""


@dataclass(frozen=True)
class Shown:
    """A run, its figures and its answers."""

    finding: Finding
    figures: Sequence[Sequence[Drawn]]
    """Of each standing."""
    reader: Reader

    @property
    def standings(self) -> list[tuple[Standing, Sequence[Drawn]]]:
        """Each with its figures."""
        return list(zip(self.finding.standings, self.figures, strict=True))


@dataclass(frozen=True)
class Report:
    """What was written."""

    page: Path
    markdown: Path
    figures: Sequence[Path]
    findings: Sequence[Finding]


def write_report(
    folders: Sequence[Path],
    output: Path,
    answers: int = ANSWERS,
    watch: Watch = lambda *_: None,
) -> Report:
    """Write a report of one or more runs, a section each.

    Args:
        folders: of the runs; their settings may differ.
        output: the folder for the report; what an earlier one left there is replaced.
        answers: questions of each benchmark whose answers the page shows.

    Raises:
        UsageError: a folder holds no run, one of a newer version, or one without answers; or the
            output cannot be written.
        MissingExtraError: matplotlib or SciPy is not installed.
    """
    if not folders:
        raise UsageError("a report needs the folder of at least one run")
    if answers < 0:
        raise UsageError(f"answers should be 0 or more; got {answers}")
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise UsageError("each run should be named once")
    names = names_of(folders)
    slugs = slugs_of(names)
    findings, readers = [], []
    for folder, name, slug in zip(folders, names, slugs, strict=True):
        with RunStore(folder) as store:
            found = find(store, name, slug)
            findings.append(found)
            readers.append(answers_of(store, found, answers, MOST_BYTES // len(folders), watch))
    with _writing(output):
        (output / FIGURES).mkdir(parents=True, exist_ok=True)
        shown = []
        for done, (found, reader) in enumerate(zip(findings, readers, strict=True)):
            watch("figures", done, len(findings))
            drawn = [
                draw(standing, output / FIGURES, f"{found.slug}-{slug}")
                for standing, slug in zip(
                    found.standings,
                    slugs_of([one.benchmark for one in found.standings]),
                    strict=True,
                )
            ]
            shown.append(Shown(found, drawn, reader))
        watch("figures", len(findings), len(findings))
        page, markdown = output / PAGE, output / MARKDOWN
        # Half of a surrogate pair, as a file's name may have it, is no text.
        page.write_text(html_page(shown), "utf-8", errors="replace")
        markdown.write_text(markdown_page(shown, output), "utf-8", errors="replace")
    files = [
        file for one in shown for some in one.figures for fig in some for file in (fig.png, fig.svg)
    ]
    return Report(page, markdown, files, findings)


def html_page(shown: Sequence[Shown]) -> str:
    """One page that needs nothing else: style, script, figures and answers are in it."""
    from markupsafe import Markup

    templates = _templates(escape=True)
    style, script = (_source(templates, name) for name in ("page.css", "page.js"))
    templates.globals["inline"] = _inline
    page: str = templates.get_template("report.html.j2").render(
        shown=shown,
        title=title(shown),
        style=Markup(style),
        script=Markup(script),
        policy=(
            f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; "
            "img-src data:; base-uri 'none'; form-action 'none'"
        ),
    )
    return page


def markdown_page(shown: Sequence[Shown], folder: Path) -> str:
    """The same without the answers; figures are linked from ``folder``."""
    templates = _templates(escape=False)
    page: str = templates.get_template("report.md.j2").render(
        shown=shown, title=title(shown), link=lambda file: file.relative_to(folder).as_posix()
    )
    return page


def title(shown: Sequence[Shown]) -> str:
    """Models and benchmarks."""
    findings = [one.finding for one in shown]
    models = dict.fromkeys(one.model.split(" ")[0] for one in findings)
    benchmarks = dict.fromkeys(s.benchmark for one in findings for s in one.standings)
    return f"{', '.join(models)} on {', '.join(benchmarks)}"


def names_of(folders: Sequence[Path]) -> list[str]:
    """The folders' names, with as many of those above as it takes to tell them apart."""
    parts = [folder.resolve().parts for folder in folders]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(one[-count:]) for one in parts]
        if len(set(names)) == len(names):
            break
    return names


def slugs_of(names: Sequence[str]) -> list[str]:
    """Names as files and anchors may have them, each another."""
    slugs: list[str] = []
    for name in names:
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60] or "run"
        found, number = slug, 2
        while found in slugs:
            found, number = f"{slug}-{number}", number + 1
        slugs.append(found)
    return slugs


def _templates(escape: bool) -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    templates = Environment(
        loader=PackageLoader("parathinker.evaluation.report"),
        autoescape=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters.update(text.FILTERS)
    return templates


def _source(templates: Any, name: str) -> str:
    source, _, _ = templates.loader.get_source(templates, name)
    return str(source)


def _inline(file: Path) -> str:
    """A picture as an address that holds it."""
    return "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode()


def _digest(code: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()


@contextmanager
def _writing(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"the report cannot be written to {output}: {error.strerror or error}; "
            "choose another folder by --output"
        ) from error
