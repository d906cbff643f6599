"""OpenAI's client for JavaScript, against a whole server."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from serving_client import KEY, running

FOLDER = Path(__file__).parent / "openai_js"

pytestmark = [pytest.mark.slow, pytest.mark.e2e]


def test_the_npm_client_works_unchanged() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node, which is not installed")
    if not (FOLDER / "node_modules" / "openai").is_dir():
        pytest.skip("needs the npm package openai: make test-clients installs it")
    with running(PARATHINKER_SERVE_API_KEYS=KEY) as server:
        command = [node, str(FOLDER / "client.mjs"), server.url, KEY]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ok: ") == 13
