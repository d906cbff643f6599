"""The script that samples training examples from a model's own paths."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from parathinker.data import products
from parathinker.data.schema import Example, read_examples
from parathinker.modeling.folders import EMBEDDED

SCRIPT = Path(__file__).parents[2] / "scripts" / "own_paths.py"


def own_paths(output: Path, problems: int, teacher: str = "head") -> str:
    command = [sys.executable, SCRIPT, EMBEDDED / "tiny", output, "--problems", str(problems)]
    command += ["--teacher", teacher]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_own_paths_become_examples_and_a_killed_run_goes_on(tmp_path: Path) -> None:
    own_paths(tmp_path / "own", 2)
    log = tmp_path / "own.log.jsonl"
    first, second = log.read_text("utf-8").splitlines(keepends=True)
    log.write_text(first + second[:-20], "utf-8")  # killed in the middle of a line
    assert "3 problems" in own_paths(tmp_path / "own", 3)
    assert log.read_text("utf-8").startswith(first + second)

    whole: list[Example] = list(read_examples(tmp_path / "own.jsonl"))
    read = [example for example in whole if len(example.paths) == 16]
    late = [example for example in whole if len(example.paths) == 4]
    assert len(read) == len(late) == 3
    for example in whole:
        problem = products.parse_question(example.question)
        assert problem is not None
        assert not products.is_held_out(problem.a, problem.b)
        for path in example.paths:
            assert path.thought_id is not None
            right = path.text == products.work_out(problem, path.thought_id)
            assert (path.learn, right) == ((False, True) if example in late else (right, right))
        assert all(len(reading) <= 8 for reading in example.readings)
    corrections = [example for example in whole if example not in (*read, *late)]
    assert all(path.learn for example in corrections for path in example.paths)

    parts = list(read_examples(tmp_path / "own-parts.jsonl"))
    assert max(len(example.paths) for example in parts) <= 8
    texts = {path.text for example in parts for path in example.paths}
    assert texts >= {path.text for example in read for path in example.paths}


def test_of_wrong_paths_the_check_is_learned_where_the_teacher_has_one(tmp_path: Path) -> None:
    own_paths(tmp_path / "own", 1, "nines")
    (whole,) = (one for one in read_examples(tmp_path / "own.jsonl") if len(one.paths) == 16)
    problem = products.parse_question(whole.question)
    assert problem is not None
    for path in whole.paths:  # the embedded model checks nothing: its paths are given all checks
        assert path.thought_id is not None
        assert path.learn
        text = products.work_out(problem, path.thought_id, teacher=products.NINES)
        assert path.given == (0 if path.text == text else text.index("9:", -60))
        assert products.NINES.trusts(path.text) == (
            int(products.parse_answer(path.text) or -1) % 9 == problem.answer % 9
        )
