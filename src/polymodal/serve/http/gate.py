"""The gate that every request passes: its id, who asks, how often, how much, how slowly; and what is written down."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import itertools
import json
import re
import secrets
import sys
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from polymodal.core.errors import UserError, saving
from polymodal.serve.http.meters import Meters
from polymodal.serve.http.problems import Problem, busy
from polymodal.serve.http.settings import ServeSettings

SANE = re.compile(rb"[A-Za-z0-9._:-]{1,64}")
OPEN = frozenset({"/", "/health", "/ready", "/favicon.ico"})  # for everybody
PATIENCE = 5.0  # seconds for the rest of a body that is refused
CLIENTS = 10_000  # whose rates are remembered
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self' blob: data:; connect-src 'self'; font-src 'self'; manifest-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SAFE = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(self), microphone=(self), geolocation=()"),
    (b"content-security-policy", POLICY.encode()),
]
Told = Callable[[dict[str, Any]], object]
Direct = Mapping[tuple[str, str], Callable[[Request], Awaitable[Response]]]


class Visit:
    """A request as it is written down."""

    __slots__ = ("began", "bytes", "errors", "id", "path", "problem", "rows", "status")

    def __init__(self, id: str) -> None:
        self.id, self.began = id, time.perf_counter()
        self.status, self.rows, self.errors, self.bytes = 0, 0, 0, 0
        self.path = ""  # of the route
        self.problem = ""


class Keys:
    """Bearer tokens; only their digests are kept."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        self.digests = [hashlib.sha256(key.encode()).digest() for key in keys]

    def admit(self, given: bytes | None) -> str:
        """Who asks: a short name of the token. Raises Problem."""
        kind, _, token = (given or b"").partition(b" ")
        found = hashlib.sha256(token.strip()).digest()
        equal = [hmac.compare_digest(found, digest) for digest in self.digests]  # all of them, in the same time
        if kind.lower() != b"bearer" or not any(equal):
            raise Problem(401, "authorization", "needs a token that is known here",
                          advice="send the header Authorization: Bearer TOKEN")  # fmt: skip
        return found.hex()[:8]


class Rates:
    """A bucket of tokens for every client: `rate` come in a second, at most `burst` are kept (token bucket)."""

    def __init__(self, rate: float, burst: int) -> None:
        self.rate, self.burst = rate, float(burst)
        self.left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> None:
        """Raises Problem when the client's bucket is empty."""
        now = time.monotonic()
        left, then = self.left.pop(client, (self.burst, now))
        left = min(self.burst, left + (now - then) * self.rate)
        self.left[client] = max(left - 1.0, 0.0) if left >= 1.0 else left, now
        if len(self.left) > CLIENTS:
            self.left.popitem(last=False)
        if left < 1.0:
            raise Problem(429, "rate", f"more than {self.rate:g} requests a second",
                          advice="ask less often", after=(1.0 - left) / self.rate)  # fmt: skip


class Gate:
    """ASGI: what is refused here never reaches a route.

    `direct` are endpoints by method and path that are called from here: what the framework does between here and there
    takes longer than a small model.
    """

    def __init__(self, app: Any, settings: ServeSettings, meters: Meters, told: Told, direct: Direct) -> None:
        self.app, self.settings, self.meters, self.told, self.direct = app, settings, meters, told, direct
        self.prefix, self.count = secrets.token_hex(6), itertools.count()
        self.keys = Keys(settings.keys) if settings.keys else None
        self.rates = Rates(settings.rate, settings.burst) if settings.rate else None
        self.most, self.room = int(settings.body_mb * 2**20), int(settings.bodies_mb * 2**20)
        self.held = 0  # bytes of bodies

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        visit = Visit(given.decode() if SANE.fullmatch(given) else f"{self.prefix}-{next(self.count)}")
        scope["visit"] = visit
        passing = Passing(self, visit, receive, send, b"expect" in headers)
        self.meters.open.inc()
        client = scope["client"][0] if scope.get("client") else ""
        try:
            try:
                client = self._admit(scope, headers, client)
                await self._pass(scope, passing)
            except Problem as problem:
                await passing.refuse(problem, scope["path"].startswith(OPENAI))
            except UserError as error:
                await passing.refuse(Problem.of(error), scope["path"].startswith(OPENAI))
        except (ClientDisconnect, ConnectionError, TimeoutError):
            visit.status = visit.status or 499  # the client is gone
        except BaseException:
            visit.status = visit.status or 500
            raise
        finally:
            self.held -= visit.bytes
            self.meters.open.dec()
            self._note(scope, visit, client)

    async def _pass(self, scope: Any, passing: Passing) -> None:
        endpoint = self.direct.get((scope["method"], scope["path"]))
        if endpoint is None:
            await self.app(scope, passing.receive, passing.send)
        else:
            passing.visit.path = scope["path"]
            response = await endpoint(Request(scope, passing.receive))
            await response(scope, passing.receive, passing.send)

    def _admit(self, scope: Any, headers: dict[bytes, bytes], client: str) -> str:
        """Who asks. Raises Problem for one who may not, too often, or with too much."""
        path = scope["path"]
        if path not in OPEN and not path.startswith("/page/") and scope["method"] != "OPTIONS":
            if self.keys is not None:
                client = self.keys.admit(headers.get(b"authorization"))
            if self.rates is not None:
                self.rates.take(client)
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self.most:
            raise self.too_large()
        if headers.get(b"content-encoding", b"identity") not in (b"identity", b""):
            raise Problem(415, "content-encoding", "bodies are taken as they are",
                          given=headers[b"content-encoding"].decode("latin-1"), advice="leave it out")  # fmt: skip
        return client

    def too_large(self) -> Problem:
        return Problem(413, "body", f"is larger than {self.settings.body_mb:g} MB", advice="send less at once")

    def _note(self, scope: Any, visit: Visit, client: str) -> None:
        seconds = time.perf_counter() - visit.began
        route = scope.get("route")
        path = visit.path or getattr(route, "path", None) or ("/page" if scope["path"].startswith("/page") else "other")
        self.meters.answered(path, scope["method"] if path != "other" else "any", visit.status, seconds)
        line = {"time": stamp(), "id": visit.id, "client": client, "method": scope["method"],
                "path": scope["path"][:200], "status": visit.status, "ms": round(seconds * 1000, 2),
                "bytes": visit.bytes}  # fmt: skip
        if visit.rows:
            line |= {"rows": visit.rows, "errors": visit.errors}
        if visit.problem:
            line["problem"] = visit.problem
        self.told(line)


class Passing:
    """What goes through the gate for one request, either way."""

    __slots__ = ("_receive", "_send", "began", "deadline", "expects", "gate", "visit", "whole")

    def __init__(self, gate: Gate, visit: Visit, receive: Any, send: Any, expects: bool) -> None:
        self.expects = expects  # to be told to go on before it sends the body
        self.gate, self.visit, self._receive, self._send = gate, visit, receive, send
        self.deadline = asyncio.get_running_loop().time() + gate.settings.slow
        self.whole = self.began = False

    async def receive(self) -> Any:
        """A piece of the body, counted. Raises Problem when it is too much, or comes too slowly."""
        if self.whole:
            return await self._receive()  # only the news that the client is gone
        try:
            async with asyncio.timeout_at(self.deadline):
                message = await self._receive()
        except TimeoutError:
            raise Problem(408, "body", "does not come", advice="send it faster") from None
        if message["type"] == "http.request":
            size = len(message.get("body", b""))
            self.visit.bytes += size
            self.gate.held += size
            self.whole = not message.get("more_body", False)
            if self.visit.bytes > self.gate.most:
                raise self.gate.too_large()
            if self.gate.held > self.gate.room and self.gate.held > self.visit.bytes:
                raise busy("body", "too much is being received at once")
        return message

    async def send(self, message: Any) -> None:
        """On to the client."""
        if message["type"] == "http.response.start":
            self.began, self.visit.status = True, message["status"]
            message["headers"] = [*message["headers"], (b"x-request-id", self.visit.id.encode()), *SAFE]
        await self._send(message)

    async def refuse(self, problem: Problem, openai: bool = False) -> None:
        self.visit.problem = problem.told()
        if self.began:
            raise ConnectionError  # it was being answered: nothing sensible can be said any more
        if problem.status != 408 and not self.expects:
            await self._discard()
        body = problem.body(self.visit.id, openai=openai)
        found = {**problem.headers(), "content-length": str(len(body))}
        if not self.whole:
            found["connection"] = "close"  # what is left of the body is not waited for
        listed = [(k.encode(), v.encode()) for k, v in found.items()]
        await self.send({"type": "http.response.start", "status": problem.status, "headers": listed})
        await self.send({"type": "http.response.body", "body": body})

    async def _discard(self) -> None:
        """What is left of a body of bearable size: many clients read no answer before they have sent everything."""
        left = 2 * self.gate.most
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(PATIENCE, self.gate.settings.slow)):
                while not self.whole and left > 0:
                    message = await self._receive()
                    left -= len(message.get("body", b""))
                    self.whole = message["type"] != "http.request" or not message.get("more_body", False)


OPENAI = ("/v1/models", "/v1/embeddings", "/v1/chat/")


def stamp() -> str:
    """Now, in UTC."""
    now = time.time()
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now % 1 * 1000):03d}Z"


def writer(settings: ServeSettings) -> Told:
    """Where requests are written: one JSON object a line."""
    if settings.access_log == "none":
        return lambda line: None
    file = sys.stderr
    if settings.access_log is not None:
        with saving(settings.access_log):
            file = open(settings.access_log, "a", encoding="utf-8")  # noqa: SIM115  it stays open

    def told(line: dict[str, Any]) -> None:
        file.write(json.dumps(line) + "\n")
        file.flush()

    return told
