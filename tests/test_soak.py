"""The soak benchmark runs, and notices what it is there to notice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SOAK = Path(__file__).parent.parent / "benchmarks" / "soak.py"


def run(*arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
    script = f"import runpy, sys; {before}\nrunpy.run_path(sys.argv[0], run_name='__main__')"
    return subprocess.run(
        [sys.executable, "-c", f"import sys; del sys.argv[0]; {script}", str(SOAK), *arguments],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_a_few_seconds_of_random_load_leave_everything_in_order(tmp_path):
    report = tmp_path / "deep" / "report.md"
    done = run("--minutes", "0.06", "--clients", "6", "--report", str(report))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| violations | 0 |" in report.read_text()
    assert "| answered | 0 |" not in report.read_text()


def test_a_leak_is_noticed_and_the_exit_code_says_so():
    leak = (
        "from parathinker.engine.kv_pool import KVPool as P; release = P.release; "
        "P.release = lambda s, b, **o: release(s, list(b)[1:], **o)"
    )
    # What leaked may leave too little for the next request, which then waits for ever.
    done = run("--minutes", "0.02", "--clients", "2", "--patience", "5", before=leak)
    assert done.returncode == 1
    assert "something is left behind" in done.stdout
