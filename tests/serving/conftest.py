"""A server that several tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from serving_client import ServerProcess, running


@pytest.fixture(scope="session")
def tiny_server() -> Iterator[ServerProcess]:
    """The embedded model, served as it comes."""
    with running() as server:
        yield server
