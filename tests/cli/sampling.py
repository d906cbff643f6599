"""What tests of ``parathinker data sample`` share: questions, a command, and what a store holds."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from parathinker.data.samples import SampleStore
from parathinker.data.schema import Question, question_id, write_questions
from teacher_server import TeacherServer

CommandLine = Callable[..., tuple[int, str, str]]
PATHS = 4


def questions_file(file: Path, count: int) -> Path:
    texts = [f"What is {number}?" for number in range(count)]
    write_questions(file, [Question(question_id(text), text) for text in texts])
    return file


def command(questions: Path, store: Path, server: TeacherServer, *more: object) -> list[str]:
    options = ("--endpoint", server.url, "--model", "m", "--paths", PATHS, *more)
    return ["data", "sample", str(questions), "-o", str(store), *map(str, options)]


def start(arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "parathinker", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def held(store: Path) -> dict[tuple[str, int], Any]:
    with SampleStore(store) as there:
        return {(one.question_id, one.index): one for one in there.samples()}
