"""Running the application in this process; stopping without losing what was accepted."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import selectors
import signal
import socket
import sys
import time
from types import FrameType
from typing import Any

import uvicorn

from polymodal.serve.http.app import make_app
from polymodal.serve.http.careful import careful
from polymodal.serve.http.gate import stamp
from polymodal.serve.http.memory import give_back
from polymodal.serve.http.ports import BACKLOG, address, bind
from polymodal.serve.http.service import Service
from polymodal.serve.http.settings import ServeSettings
from polymodal.serve.http.workers import LISTENER

TURN = 0.001  # seconds after which a thread that computes lets another one go on
AT_DOOR = 1.0  # seconds in which connections that wait are still taken at the end
IDLE = 30  # seconds that a connection without requests is kept


def start(run: Any, *, index: Any = None, settings: ServeSettings | None = None, host: str = "127.0.0.1",
          port: int = 8000, listener: socket.socket | None = None) -> None:  # fmt: skip
    """Serve until SIGTERM or Ctrl-C; then answer what was accepted, and return. Raises UserError."""
    settings = settings or ServeSettings()
    sock = listener or bind(host, port)
    app = make_app(run, index=index, settings=settings)
    config = uvicorn.Config(
        app, http=careful(settings.slow, settings.connections), log_config=None, access_log=False,
        server_header=False, proxy_headers=False, ws="none", lifespan="on", timeout_keep_alive=IDLE, backlog=BACKLOG,
        timeout_graceful_shutdown=round(settings.timeout + settings.slow),
    )  # fmt: skip
    _log_as_json()
    give_back()
    sys.setswitchinterval(TURN)
    print(f"{app.state.service.name}: {address(sock)}", file=sys.stderr, flush=True)
    if not settings.keys and not sock.getsockname()[0].startswith(("127.", "::1")):
        print("warning: whoever can reach this address may ask; --token-file asks for a token", file=sys.stderr)
    Server(config, app.state.service).run(sockets=[sock])


class Server(uvicorn.Server):
    """Told to stop, it says that it is not ready, and after `drain` seconds takes no more connections."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self.service, self.parent = service, os.getppid()
        self.leave_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.leave_at is None:
            self._leave()
        elif sig == signal.SIGINT:
            self.force_exit = True

    def _leave(self) -> None:
        self.service.draining = True
        self.leave_at = time.monotonic() + self.service.settings.drain

    async def on_tick(self, counter: int) -> bool:
        if self.leave_at is None and os.getppid() != self.parent and LISTENER in os.environ:
            self._leave()  # who started the workers is gone
        if self.leave_at is not None and time.monotonic() >= self.leave_at:
            self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Connections that the system has made already are still taken; new ones are refused."""
        until = time.monotonic() + AT_DOOR
        while sockets and _wait(sockets) and time.monotonic() < until:
            await asyncio.sleep(0)  # the loop lets them in; what waits when the socket is closed would be cut off
        await super().shutdown(sockets)


def _wait(sockets: list[socket.socket]) -> bool:
    """Whether connections wait to be taken."""
    with selectors.DefaultSelector() as selector:
        for sock in sockets:
            selector.register(sock, selectors.EVENT_READ)
        return bool(selector.select(0))


class _Lines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {"time": stamp(), "level": record.levelname.lower(), "message": record.getMessage().strip()}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def _log_as_json() -> None:
    """What the server itself has to say, on standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Lines())
    logger = logging.getLogger("uvicorn")
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.ERROR)
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # what a client sends is told to the client
