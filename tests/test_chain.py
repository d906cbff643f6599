"""The whole chain: what its parts promise here, and all of it at a small size where vLLM is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
sys.path.insert(0, str(SCRIPTS))

from chain.accuracy import Thought, path_rows, text_row  # noqa: E402
from chain.evidence import Interruption, asking, logged_losses, resumption, rows, wanted_seeds  # noqa: E402
from chain.ledger import ChainError, Ledger, alone, start_over  # noqa: E402
from chain.processes import run  # noqa: E402
from chain.teacher import CACHE, asked_seeds  # noqa: E402

from parathinker.data.schema import Question  # noqa: E402
from parathinker.errors import UsageError  # noqa: E402

QUESTIONS = [Question(f"q{i}", f"Calculate {i} + 1.", answer=str(i + 1)) for i in range(3)]
SEEDS = sorted(wanted_seeds(QUESTIONS, 2))


def python(tmp_path: Path, code: str, kill_when: object = None) -> object:
    command = [sys.executable, "-c", code]
    return run(command, tmp_path / "out", tmp_path / "log", kill_when)  # type: ignore[arg-type]


class TestRunning:
    def test_what_a_command_says_comes_back(self, tmp_path: Path) -> None:
        for _ in range(2):
            ended = python(tmp_path, "print('some words')")
            assert (ended.output, ended.killed) == ("some words\n", False)

    def test_a_command_that_fails_is_an_error_that_says_what_it_said_last(
        self, tmp_path: Path
    ) -> None:
        with pytest.raises(ChainError, match="code 3: no such thing"):
            python(tmp_path, "import sys; print('no such thing', file=sys.stderr); sys.exit(3)")

    def test_a_command_is_killed_as_soon_as_it_is_time(self, tmp_path: Path) -> None:
        mark = tmp_path / "mark"
        code = f"open({str(mark)!r}, 'w'); import time; time.sleep(60)"
        began = time.monotonic()
        ended = python(tmp_path, code, mark.exists)
        assert ended.killed
        assert not ended.orphans
        assert time.monotonic() - began < 30

    def test_workers_that_outlive_their_killed_parent_are_noticed_and_ended(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("chain.processes.ORPHANS_S", 0.2)
        mark = tmp_path / "mark"
        code = (
            "import subprocess, sys, time\n"
            "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
            f"open({str(mark)!r}, 'w').write(str(child.pid))\n"
            "time.sleep(60)\n"
        )
        ended = python(tmp_path, code, lambda: mark.exists() and mark.read_text() != "")
        assert ended.killed
        assert ended.orphans
        assert not is_running(int(mark.read_text()))


def is_running(process: int) -> bool:
    """Whether it is there and no zombie."""
    state = Path(f"/proc/{process}/stat")
    return state.is_file() and state.read_text().rpartition(")")[2].split()[0] != "Z"


class TestAsking:
    KILL = Interruption(frozenset(SEEDS[:4]), frozenset(SEEDS[:2]))

    def test_what_was_in_flight_may_be_asked_for_twice(self) -> None:
        asked = Counter([*SEEDS, *SEEDS[2:4], 12345])
        found = asking(set(SEEDS), asked, [self.KILL])
        assert (found.wanted, found.requests, found.twice, found.in_flight_at_kill) == (6, 8, 2, 2)

    def test_and_again_after_each_further_interruption(self) -> None:
        asked = Counter([*SEEDS, *SEEDS[2:4], SEEDS[3]])
        later = Interruption(frozenset(SEEDS), frozenset(SEEDS[:3]))
        assert asking(set(SEEDS), asked, [self.KILL, later]).requests == 9

    @pytest.mark.parametrize(
        "asked",
        [[*SEEDS, SEEDS[0]], [*SEEDS, SEEDS[2], SEEDS[2]], SEEDS[:-1]],
        ids=["one that was stored", "one three times", "one never"],
    )
    def test_asking_again_for_anything_else_is_an_error(self, asked: list[int]) -> None:
        with pytest.raises(ChainError):
            asking(set(SEEDS), Counter(asked), [self.KILL])

    def test_the_teachers_log_tells_the_seeds(self, tmp_path: Path) -> None:
        log = tmp_path / "teacher.log"
        line = "INFO [request_logger.py] Received request chatcmpl-{}: params: SamplingParams(n=1, "
        log.write_text(
            "".join(
                line.format(i) + f"top_k=0, seed={seed}, stop=[])\nAdded request chatcmpl-{i}.\n"
                for i, seed in enumerate((7, 8, 7))
            )
        )
        assert asked_seeds(log) == Counter({7: 2, 8: 1})


class TestTraining:
    LOG = "parallel: step {}/60  loss {}  paths 1.2  2 min left\n"

    def losses(self, *pairs: tuple[int, str]) -> dict[int, str]:
        log = "".join(self.LOG.format(step, loss) for step, loss in pairs)
        return logged_losses("Training chain into runs\n" + log)

    def test_a_run_that_goes_on_from_its_checkpoint_with_the_same_losses_is_fine(self) -> None:
        before = self.losses((10, "1.5000"), (11, "1.4000"), (12, "1.3000"))
        after = self.losses((11, "1.4000"), (12, "1.3000"), (13, "1.2000"))
        found = resumption(before, after, 10)
        assert (found.killed_at, found.went_on_from, found.repeated) == (12, 10, 2)

    def test_other_losses_or_another_start_are_errors(self) -> None:
        before = self.losses((10, "1.5000"), (11, "1.4000"))
        for after in (self.losses((11, "1.4001")), self.losses((1, "2.0000"), (11, "1.4000"))):
            with pytest.raises(ChainError, match="not go on exactly"):
                resumption(before, after, 10)


class TestAccuracy:
    def test_votes_paths_and_the_best_of_them_are_told_apart(self) -> None:
        paths = [
            ["0 + 1 = 1", "It is 1.", "It is 5."],
            ["3", "The sum is 3.", "1 + 1 = 2"],
            ["no idea", "none", "1 + 2 is 3"],
        ]
        thoughts = [[Thought(text, 4) for text in group] for group in paths]
        one, vote, best = path_rows("base", QUESTIONS, thoughts)
        assert one.accuracy == pytest.approx(100 * (2 + 1 + 1) / 9)
        assert vote.accuracy == pytest.approx(100 * 2 / 3)
        assert best.accuracy == pytest.approx(100)
        assert (one.tokens, vote.tokens, vote.paths) == (4, 12, 3)
        row = text_row("summary", 3, QUESTIONS, ["1", "2", "7"], [1, 2, 3])
        assert (row.accuracy, row.tokens) == (pytest.approx(200 / 3), 2)
        assert row.standard_error == pytest.approx(100 / 3)


class TestLedger:
    def test_a_step_that_is_done_is_not_done_again(self, tmp_path: Path) -> None:
        for expected in (True, False):
            with Ledger(tmp_path, {"size": 1}).step("first") as step:
                assert (step is not None) == expected
                if step:
                    step.facts = {"found": [1, 2]}
        assert Ledger(tmp_path, {"size": 1}).facts("first") == {"found": [1, 2]}

    def test_a_step_that_fails_is_not_done(self, tmp_path: Path) -> None:
        ledger = Ledger(tmp_path, {})
        with pytest.raises(ChainError), ledger.step("first"):
            raise ChainError("no")
        assert Ledger(tmp_path, {}).done == {}

    def test_other_sizes_need_a_fresh_start(self, tmp_path: Path) -> None:
        folder = tmp_path / "chain"
        folder.mkdir()
        with Ledger(folder, {"size": 1}).step("first"):
            pass
        with pytest.raises(UsageError, match="--fresh"):
            Ledger(folder, {"size": 2})
        start_over(folder)
        assert not folder.exists()

    def test_two_chains_do_not_share_a_folder(self, tmp_path: Path) -> None:
        with (
            alone(tmp_path / "chain"),
            pytest.raises(UsageError, match="another chain"),
            alone(tmp_path / "chain"),
        ):
            pass
        with alone(tmp_path / "chain"):
            pass

    def test_starting_over_deletes_nothing_but_a_chain(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.txt").write_text("years of work")
        with pytest.raises(UsageError, match="no chain"):
            start_over(tmp_path)
        assert (tmp_path / "thesis.txt").exists()


def test_a_database_that_is_not_there_yet_has_no_rows(tmp_path: Path) -> None:
    assert rows(tmp_path / "none.sqlite", "samples") == 0
    (tmp_path / "empty.sqlite").touch()
    assert rows(tmp_path / "empty.sqlite", "samples") == 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(
    not (CACHE / "vllm" / "installed.json").is_file(),
    reason="takes vLLM's environment, which `make bench` and `make chain` make",
)
def test_the_whole_chain_holds_at_a_small_size_even_stopped_and_started_again(
    tmp_path: Path,
) -> None:
    output = tmp_path / "chain"
    command = [sys.executable, str(SCRIPTS / "chain.py"), "--output", str(output)]
    command += ["--questions", "60", "--held-out", "10", "--paths", "4", "--threads", "1"]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    for line in first.stdout:
        if line.startswith("✓ teacher starts"):
            break
    first.send_signal(signal.SIGINT)
    first.stdout.close()
    assert first.wait(60) == 130
    second = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ}, timeout=1700
    )
    assert second.returncode == 0, second.stdout + second.stderr
    assert "✓ data questions: done before" in second.stdout
    report = (output / "report.md").read_text("utf-8")
    assert "none that the store had" in report
    assert "with the same losses" in report
    assert "trained, 4 paths + summary" in report
