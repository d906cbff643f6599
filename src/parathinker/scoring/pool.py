"""Worker processes that score answers: kept for the next answer, replaced when one is lost."""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from queue import LifoQueue
from types import TracebackType
from typing import Any, TypeVar

from parathinker.data.schema import Question
from parathinker.errors import MissingExtraError, ParaThinkerError, UsageError
from parathinker.processors import usable_processors

Key = TypeVar("Key")

TIMED_OUT, CRASHED, NO_REFERENCE = "timed out", "crashed", "no reference"
START_S = 300.0
"""Seconds that a worker has to start and import what it needs."""
_OUT_OF_TIME = int(getattr(signal, "SIGPROF", 0))
"""What ends a worker at its limit, see :mod:`parathinker.scoring.worker`."""
WALL_FACTOR = 10
"""The limit is processor time; an answer may take so many times as long on the clock."""


@dataclass(frozen=True)
class Scored:
    """What came of checking one answer."""

    score: float | None
    """0 to 1; None where the question has neither a reference answer nor a task."""
    note: str = ""
    """Why there is no proper score: ``timed out``, ``crashed``, ``no reference``, …"""


class ScoringPool:
    """Scores answers in so many processes; each is started when it is first needed.

    Args:
        workers: processes; by default one for each processor that may be used.
        timeout_s: processor time for one answer, in seconds. An answer that takes longer, or that
            ends its process, scores 0: nobody can tell that it is right.
    """

    def __init__(self, workers: int | None = None, timeout_s: float = 5.0) -> None:
        self.workers = usable_processors() if workers is None else workers
        if self.workers < 1:
            raise UsageError(f"workers should be 1 or more, got {workers}")
        if not timeout_s > 0:
            raise UsageError(f"timeout_s should be more than 0, got {timeout_s}")
        self._timeout_s = timeout_s
        self._all = [_Worker() for _ in range(self.workers)]
        # The worker used last comes first, so that one is enough for whoever asks one by one.
        self._idle: LifoQueue[_Worker] = LifoQueue()
        for worker in self._all:
            self._idle.put(worker)
        atexit.register(self.close)

    def __enter__(self) -> ScoringPool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the processes."""
        atexit.unregister(self.close)
        for worker in self._all:
            worker.close()

    def check(self, question: Question, answer_text: str, timeout_s: float | None = None) -> Scored:
        """Score one answer; any thread may ask.

        Raises:
            UsageError: the question names a task that reasoning-gym does not have.
            MissingExtraError: math-verify or reasoning-gym is not installed.
        """
        request = _request(question, answer_text, timeout_s or self._timeout_s)
        if request is None:
            return Scored(None, NO_REFERENCE)
        worker = self._idle.get()
        try:
            return worker.ask(request)
        finally:
            self._idle.put(worker)

    def check_all(
        self, answers: Iterable[tuple[Key, Question, str]]
    ) -> Iterator[tuple[Key, Scored]]:
        """Score ``(key, question, answer text)`` in all processes, each as soon as it is done.

        A few answers are taken ahead at a time, by the thread that iterates.
        """
        threads = ThreadPoolExecutor(self.workers, "scoring")
        running: dict[Future[Scored], Key] = {}
        try:
            for key, question, text in answers:
                running[threads.submit(self.check, question, text)] = key
                if len(running) >= 2 * self.workers:
                    yield from _done(running)
            while running:
                yield from _done(running)
        finally:
            if running:  # whoever iterated stopped early: end what is being computed, too
                threads.shutdown(wait=False, cancel_futures=True)
                for worker in self._all:
                    worker.close()
            threads.shutdown()


class _Worker:
    """One process, started anew when the last one is gone."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._owner = 0
        self._too_long = False

    def ask(self, request: dict[str, Any]) -> Scored:
        """Let the process score; ends it if it takes too long."""
        process = self._started()
        try:
            assert process.stdin is not None
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            reply = self._reply(process, START_S)
            if reply is not None and reply.get("begun"):
                reply = self._reply(process, WALL_FACTOR * request["timeout_s"])
                if reply is None:
                    return Scored(0.0, self._lost(process))
        except (OSError, ValueError):  # the pipe broke, or was closed by another thread
            reply = None
        except BaseException:
            self.close()  # its reply would be taken for that to the next question
            raise
        if reply is None:
            raise ParaThinkerError(f"the process that scores answers {self._lost(process)}")
        if "missing" in reply:
            raise MissingExtraError(f"scoring answers (with {reply['missing']})", "eval")
        if "error" in reply:
            raise UsageError(f"this question's own scorer cannot be had: {reply['error']}")
        return Scored(float(reply["score"]), str(reply["note"]))

    def close(self) -> None:
        """End the process, whatever it does."""
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None and not pipe.closed:
                with suppress(OSError):  # what was not written yet cannot be written any more
                    pipe.close()

    def _started(self) -> subprocess.Popen[str]:
        process = self._process
        if process is None or process.poll() is not None or self._owner != os.getpid():
            self.close()
            process, self._owner = _start(), os.getpid()
            self._process, self._too_long = process, False
        return process

    def _reply(self, process: subprocess.Popen[str], limit_s: float) -> dict[str, Any] | None:
        """The next line, None if there is none: the process ended, or ran out of time."""

        def end() -> None:
            self._too_long = True
            process.kill()

        timer = threading.Timer(limit_s, end)
        timer.daemon = True
        timer.start()
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
        finally:
            timer.cancel()
        return dict(json.loads(line)) if line.endswith("\n") else None

    def _lost(self, process: subprocess.Popen[str]) -> str:
        """Why a process went, which is gone after that."""
        code = process.wait()
        self.close()
        return TIMED_OUT if self._too_long or -code == _OUT_OF_TIME else CRASHED


def _start() -> subprocess.Popen[str]:
    # Not multiprocessing: it would run the user's main module again, or fork beside threads.
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; "
        "from parathinker.scoring.worker import main; main()"
    )
    # Threads of linear algebra take address space by the gigabyte, and nothing here needs them.
    single = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
        env={**os.environ, **single},
    )


def can_score(question: Question) -> bool:
    """Whether a question has what its answers can be scored against."""
    return question.answer is not None or _task(question) is not None


def _task(question: Question) -> str | None:
    """reasoning-gym's name of the task whose scorer a question is for."""
    task, entry = question.metadata.get("task"), question.metadata.get("entry")
    return task if isinstance(task, str) and isinstance(entry, dict) else None


def _request(question: Question, text: str, timeout_s: float) -> dict[str, Any] | None:
    """What a worker is asked; None where there is nothing to check against."""
    if not can_score(question):
        return None
    task = _task(question)
    against = {"reference": question.answer} if task is None else question.metadata
    return {
        "task": task,
        "reference": against.get("reference"),
        "entry": against.get("entry"),
        "text": text,
        "timeout_s": timeout_s,
    }


def _done(running: dict[Future[Scored], Key]) -> Iterator[tuple[Key, Scored]]:
    """Take out what is done, waiting for one to be."""
    for future in wait(running, return_when=FIRST_COMPLETED).done:
        scored = future.result()
        yield running.pop(future), scored
