"""Runs the server: socket, model, signals, shutdown."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Callable
from types import FrameType

import uvicorn

from parathinker.errors import UsageError
from parathinker.serving import logs
from parathinker.serving.app import create_app
from parathinker.serving.host import Host
from parathinker.serving.settings import ServeSettings

_LAST_WORDS_S = 2
"""For connections to close after everything was said."""
log = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """uvicorn's server, which at a signal stays to say so until its requests are done."""

    def __init__(self, config: uvicorn.Config, host: Host) -> None:
        super().__init__(config)
        self._host = host
        self._draining: asyncio.Task[None] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal ends things in good order, the second one at once."""
        if self._draining is not None or not self.started:
            self.should_exit = self.force_exit = True
            return
        # A signal comes between any two instructions; what it sets off waits for the loop.
        self._loop.call_soon_threadsafe(self._begin_to_drain)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then load the model."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self._host.load_in_background(self._load_failed)

    def _begin_to_drain(self) -> None:
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain())

    async def _drain(self) -> None:
        log.info("stopping", extra={"fields": {"grace_s": self._host.settings.shutdown_grace_s}})
        grace_s = self._host.settings.shutdown_grace_s
        end = time.monotonic() + grace_s
        await self._host.drain(grace_s)
        while self.server_state.tasks and time.monotonic() < end:
            await asyncio.sleep(0.02)  # what was thought is still being read
        self.should_exit = True

    def _load_failed(self) -> None:
        self.should_exit = True


def serve(settings: ServeSettings, listening: Callable[[str], None]) -> None:
    """Serve until a signal comes.

    Args:
        listening: called with the server's address once it is bound.

    Raises:
        UsageError: the address cannot be had, or a setting does not fit the model.
        CheckpointError: the model cannot be loaded.
    """
    logs.set_up(settings.log_level, settings.log_text)
    host = Host(settings)
    app = create_app(host)
    bound = _bind(settings)
    config = uvicorn.Config(
        app,
        http="h11",  # it limits how long a request's head may be
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_LAST_WORDS_S,
    )
    name = f"[{settings.host}]" if ":" in settings.host else settings.host
    url = f"http://{name}:{bound.getsockname()[1]}"
    listening(url)
    log.info("listening", extra={"fields": {"url": url, "model": settings.served_name}})
    Server(config, host).run([bound])
    if host.failure is not None:
        raise host.failure
    log.info("stopped")
    if host.is_loading:
        for child in multiprocessing.active_children():
            child.kill()  # vLLM's, which would outlive us
        # The interpreter cannot end while another thread is inside PyTorch's own code.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    host.close()


def _bind(settings: ServeSettings) -> socket.socket:
    try:
        found = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, address = found[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        raise UsageError(
            f"cannot listen at {settings.host} port {settings.port}: {error.strerror or error}; "
            "choose another with --host and --port"
        ) from None
    return bound
