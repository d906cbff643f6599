"""The parts that stand alone: an answer's text, the queue, settings."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parathinker import UsageError
from parathinker.serving.admission import Admission
from parathinker.serving.errors import ApiError, unavailable
from parathinker.serving.settings import load_settings
from parathinker.serving.text import AnswerText

TEXTS = st.text(alphabet="ab \n", max_size=20)


@given(TEXTS, st.lists(st.integers(0, 20)), st.lists(st.text("ab ", min_size=1, max_size=3)))
def test_pieces_of_an_answer_add_up_whatever_the_pieces(
    text: str, cuts: list[int], stops: list[str]
) -> None:
    # A character at a time, the earliest stop to be complete is the one that ends the text.
    end = min((at + len(stop) for stop in stops if (at := text.find(stop)) >= 0), default=len(text))
    read = text[:end]
    starts = [read.find(stop) for stop in stops if stop in read]
    expected = read[: min(starts, default=len(read))].strip()
    answer = AnswerText(stops)
    given_out = [answer.push(character) for character in read]
    assert "".join([*given_out, answer.close()]) == expected
    if not stops:
        edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
        other = AnswerText(())
        parts = [other.push(text[a:b]) for a, b in itertools.pairwise(edges)]
        assert "".join([*parts, other.close()]) == text.strip()


def test_what_was_given_out_never_holds_a_part_of_a_stop_text() -> None:
    answer = AnswerText(["END"])
    assert [answer.push(piece) for piece in (" a E", "N", "x E", "ND b", "c")] == [
        "a",
        "",
        " ENx",
        "",
        "",
    ]
    assert answer.stopped


def test_stop_texts_are_not_looked_for_in_what_was_forced() -> None:
    answer = AnswerText([":", "is so"])
    pieces = [("It: ", True), ("is", True), (" so", False), (" a", False), (": b", False)]
    given_out = "".join(answer.push(text, forced) for text, forced in pieces)
    assert given_out + answer.close() == "It: is so a"
    assert answer.stopped
    assert answer.length == answer.sure == len("It: is so a")


def test_the_queue_is_fair_and_bounded() -> None:
    async def run() -> list[str]:
        queue, order = Admission(running=2, queued=2), list[str]()

        async def enter(name: str, answers: int) -> None:
            places = await queue.enter(answers, 5)
            order.append(name)
            await asyncio.sleep(0.01)
            queue.leave(places)

        tasks = [asyncio.create_task(enter(n, k)) for n, k in (("a", 1), ("b", 9), ("c", 1))]
        await asyncio.sleep(0)
        assert queue.queued == 2
        with pytest.raises(ApiError) as full:
            await queue.enter(1, 5)
        assert full.value.status == 429
        assert full.value.headers["Retry-After"]
        await asyncio.gather(*tasks)
        assert (queue.taken, queue.queued) == (0, 0)
        return order

    # The large one is not overtaken by the small one behind it.
    assert asyncio.run(run()) == ["a", "b", "c"]


def test_those_who_leave_the_queue_give_their_place_to_others() -> None:
    async def run() -> None:
        queue = Admission(running=1, queued=5)
        await queue.enter(1, 5)
        with pytest.raises(ApiError) as late:
            await queue.enter(1, 0.01)
        assert late.value.status == 504
        gone = asyncio.create_task(queue.enter(1, 5))
        stays = asyncio.create_task(queue.enter(1, 5))
        await asyncio.sleep(0)
        queue.leave(1)  # the turn comes in the moment in which its client leaves
        gone.cancel()
        assert await stays == 1
        waits = asyncio.create_task(queue.enter(1, 5))
        await asyncio.sleep(0)
        queue.close(unavailable("over"))
        with pytest.raises(ApiError, match="over"):
            await waits
        with pytest.raises(ApiError, match="over"):
            await queue.enter(1, 5)
        queue.leave(1)
        assert queue.taken == 0

    asyncio.run(run())


def test_flags_win_over_the_environment_and_that_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text("port: 1\nrounds: 2\nlimit_rounds: 3\npaths: auto\ncors_origins: [http://a]\n")
    monkeypatch.setenv("PARATHINKER_SERVE_CONFIG", str(file))
    monkeypatch.setenv("PARATHINKER_SERVE_ROUNDS", "4")
    monkeypatch.setenv("PARATHINKER_SERVE_LIMIT_ROUNDS", "5")
    monkeypatch.setenv("PARATHINKER_SERVE_ALLOWED_HOSTS", "a.lan,b.lan")
    settings = load_settings({"limit_rounds": 6})
    assert (settings.port, settings.rounds, settings.limit_rounds) == (1, 4, 6)
    assert settings.paths == "auto"
    assert settings.cors_origins == ["http://a"]
    assert settings.allowed_hosts == ["a.lan", "b.lan"]


@pytest.mark.parametrize(
    ("text", "named"),
    [("frobnicate: 1\n", "frobnicate"), ("port: many\n", "port"), ("port: [\n", "settings")],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, named: str) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match=named):
        load_settings({"config": file})


def test_a_setting_nobody_knows_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="none at"):
        load_settings({"config": "nowhere.yaml"})
    with pytest.raises(UsageError, match="paths"):
        load_settings({"paths": 0})
    monkeypatch.setenv("PARATHINKER_SERVE_PROT", "80")
    with pytest.raises(UsageError, match="PARATHINKER_SERVE_PROT"):
        load_settings({})
