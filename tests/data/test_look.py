"""Looking at a dataset: its figures are right, its plots are there, its page is safe."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parathinker.data.look.page import page
from parathinker.data.look.plots import draw
from parathinker.data.look.reading import examples_of
from parathinker.data.look.stats import Spread, measure, share_histogram
from parathinker.data.samples import Sample, SampleStore, SamplingSettings
from parathinker.data.schema import Example, PathText, Question, question_id
from parathinker.errors import UsageError


def example(number: int, verdicts: list[bool | None], **more: str | None) -> Example:
    paths = tuple(
        PathText(
            f"Way {i} to {number}: " + "step " * (10 + i) + f"so {number + i}",
            learn=verdict is not False,
            answer=str(number),
            correct=verdict,
        )
        for i, verdict in enumerate(verdicts)
    )
    text = more.get("question") or f"What is {number} times one?"
    return Example(
        text,
        paths,
        more.get("summary", f"It is {number}."),
        question_id(text),
        str(number),
        more.get("source") or "test",
    )


DATASET = [
    example(1, [True, True]),
    example(2, [True, False, False, None], source="other"),
    example(3, [False, False], summary=None),
    example(1, [None]),
]


def test_a_dataset_is_measured_as_it_is() -> None:
    stats = measure(DATASET)
    assert (stats.examples, stats.paths, stats.summaries) == (4, 9, 3)
    assert (stats.right, stats.wrong, stats.unchecked, stats.learned) == (3, 4, 2, 5)
    assert stats.paths_per_example == {2: 2, 4: 1, 1: 1}
    assert stats.sources == {"test": 3, "other": 1}
    assert stats.right_shares == [1.0, 1 / 3, 0.0]
    assert (stats.duplicate_questions, stats.similar_questions) == (1, 0)
    assert stats.lengths["path"] == [len(p.text) for e in DATASET for p in e.paths]
    assert len(stats.lengths["right path"]) == 3
    assert sum(stats.lengths["example"]) == sum(
        sum(stats.lengths[what]) for what in ("question", "path", "summary")
    )
    assert json.loads(json.dumps(stats.to_dict()))["lengths"]["summary"]["total"] == 24


def test_what_repeats_itself_and_what_is_a_benchmarks_is_counted() -> None:
    from parathinker.benchmarks import load_benchmark

    leaked = load_benchmark("amc23")[0].question
    text = "the same path again, in just about the same words as before, all of it"
    repeated = Example(leaked, (PathText(text), PathText(f"{text} indeed"), PathText("other")))
    stats = measure([repeated])
    assert (stats.contaminated, stats.similar_paths) == (1, 1)


def test_lengths_are_in_tokens_where_there_is_a_tokenizer(tiny_random_model: Path) -> None:
    from parathinker.data.build.lengths import TokenCounter

    counter = TokenCounter(tiny_random_model)
    stats = measure(DATASET, counter)
    assert stats.unit == "tokens"
    assert stats.lengths["positions"] == [counter.example(e).positions for e in DATASET]


def test_an_empty_dataset_is_an_error() -> None:
    with pytest.raises(UsageError, match="no examples"):
        measure([])


@given(st.lists(st.integers(0, 100), min_size=1, max_size=50))
def test_a_spread_is_in_order(values: list[int]) -> None:
    spread = Spread.of(values)
    assert spread.least <= spread.median <= spread.p95 <= spread.most
    assert spread.total == sum(values)


@given(st.lists(st.floats(0, 1), max_size=30))
def test_every_example_is_in_one_bar_of_the_shares(shares: list[float]) -> None:
    assert sum(n for _, n in share_histogram(shares)) == len(shares)


def test_plots_are_drawn_for_print_and_for_the_web(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    files = draw(measure(DATASET), tmp_path / "plots")
    assert len(files) == 8
    for file in files:
        start = file.read_bytes()[:200]
        assert start.startswith(b"\x89PNG") if file.suffix == ".png" else b"<?xml" in start
    unchecked = measure([example(1, [None, None])])  # no verdicts: nothing to compare
    assert len(draw(unchecked, tmp_path / "more")) == 8


class Elements(HTMLParser):
    """All start tags, and the text of each script."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.scripts: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attributes: object) -> None:
        self.tags.append(tag)
        self._inside = tag == "script"
        if self._inside:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts[-1] += data


def elements(html: str) -> Elements:
    parser = Elements()
    parser.feed(html)
    parser.close()
    return parser


PLAIN = elements(page([example(1, [True])], "title"))


@given(
    st.lists(
        st.text(st.characters(codec="utf-8"), max_size=20)
        | st.sampled_from(
            ["</script><img src=x onerror=alert(1)>", "<!--", "]]>", "\u2028", "&lt;"]
        ),
        min_size=3,
        max_size=3,
    )
)
def test_whatever_a_model_writes_stays_text_on_the_page(texts: list[str]) -> None:
    written = Example(f"? {texts[0]}", (PathText(texts[1]),), texts[2], id="x", source=texts[0])
    html = page([written], texts[1])
    found = elements(html)
    assert found.tags == PLAIN.tags
    assert found.scripts[1] == PLAIN.scripts[1]
    assert json.loads(found.scripts[0]) == [written.to_dict()]


def test_the_page_loads_nothing_and_lets_only_its_own_script_run() -> None:
    import base64
    import hashlib

    html = page(DATASET, "my dataset")
    assert not re.search(r"(src|href|url\()\s*=?\s*[\"'(]?\s*(https?:)?//", html)
    digest = base64.b64encode(hashlib.sha256(PLAIN.scripts[1].encode()).digest()).decode()
    assert f"script-src &#x27;sha256-{digest}&#x27;" in html
    assert "innerHTML" not in html


def test_a_store_can_be_looked_at_before_anything_is_built(tmp_path: Path) -> None:
    asked = [Question(question_id(text), text, "42", "mine") for text in ("What?", "And what?")]
    with SampleStore.begin(tmp_path / "s.sqlite", SamplingSettings(("m",)), asked) as store:
        store.add(Sample(asked[0].id, 0, "Hm.", r"\boxed{42}", "stop", "m", "e", 1, 1, 0.1, None))
    (example,) = examples_of(tmp_path / "s.sqlite")
    assert (example.id, example.answer, example.split) == (asked[0].id, "42", "samples")
    assert example.paths == (PathText("Hm.\n\n\\boxed{42}", answer="42"),)
    assert measure([example]).unchecked == 1
    assert list(examples_of(tmp_path / "s.sqlite", "train")) == []
