"""The two clients: who carries requests, and who waits."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any, Concatenate, ParamSpec, TypeVar

from polymodal.client.asking import Asking, Pause, Steps
from polymodal.client.asks import Ask, Row
from polymodal.client.replies import Reply, error_of, event, nothing
from polymodal.client.results import Answer, Piece
from polymodal.core.schema import Json

P = ParamSpec("P")
T = TypeVar("T")


def _now(steps: Callable[Concatenate[Any, P], Steps[T]]) -> Callable[Concatenate[Client, P], T]:
    @functools.wraps(steps)
    def method(self: Client, *args: P.args, **kwargs: P.kwargs) -> T:
        going = steps(self, *args, **kwargs)
        try:
            step = next(going)
            while True:
                step = going.send(self._do(step))
        except StopIteration as done:
            return done.value

    return method


def _later(steps: Callable[Concatenate[Any, P], Steps[T]]) -> Callable[Concatenate[AsyncClient, P], Awaitable[T]]:
    @functools.wraps(steps)
    async def method(self: AsyncClient, *args: P.args, **kwargs: P.kwargs) -> T:
        going = steps(self, *args, **kwargs)
        try:
            step = next(going)
            while True:
                step = going.send(await self._do(step))
        except StopIteration as done:
            return done.value

    return method


class Client(Asking):
    """`Client("http://127.0.0.1:8000").predict([{"photo": Path("cat.jpg"), "title": "a cat"}])`."""

    about, ready = _now(Asking._about), _now(Asking._ready)
    predict, embed = _now(Asking._predict), _now(Asking._embed)
    search, preview = _now(Asking._search), _now(Asking._preview)

    def stream(self, row: Row, *, respond: Mapping[str, Json] | None = None, seed: int | None = None
               ) -> Iterator[Piece | Answer]:  # fmt: skip
        """What is said of a row, piece by piece while it is said, and at last the whole answer."""
        import httpx

        ask, headers = self._sentence(row, respond, seed)
        try:
            with self.http.stream(ask.method, self.url + ask.path, headers=headers, **ask.options()) as reply:
                if reply.status_code != 200:
                    raise error_of(self.url, ask, Reply(reply.status_code, reply.read(), reply.headers))
                for line in reply.iter_lines():
                    yield from event(line, self.url, reply.headers)
        except httpx.TransportError as error:
            raise error_of(self.url, ask, nothing(error)) from None

    def close(self) -> None:
        self.http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _connect(self) -> Any:
        import httpx

        return httpx.Client(timeout=self.timeout)

    def _do(self, step: Ask | Pause) -> Reply:
        import httpx

        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return Reply(0, b"", {})
        try:
            reply = self.http.request(step.method, self.url + step.path, headers=self.headers, **step.options())
        except httpx.TransportError as error:
            return nothing(error)
        return Reply(reply.status_code, reply.content, reply.headers)


class AsyncClient(Asking):
    """As `Client`, awaited: `await client.predict(rows)`, `async for piece in client.stream(row)`."""

    about, ready = _later(Asking._about), _later(Asking._ready)
    predict, embed = _later(Asking._predict), _later(Asking._embed)
    search, preview = _later(Asking._search), _later(Asking._preview)

    async def stream(self, row: Row, *, respond: Mapping[str, Json] | None = None, seed: int | None = None
                     ) -> AsyncIterator[Piece | Answer]:  # fmt: skip
        """As `Client.stream`."""
        import httpx

        ask, headers = self._sentence(row, respond, seed)
        try:
            async with self.http.stream(ask.method, self.url + ask.path, headers=headers, **ask.options()) as reply:
                if reply.status_code != 200:
                    raise error_of(self.url, ask, Reply(reply.status_code, await reply.aread(), reply.headers))
                async for line in reply.aiter_lines():
                    for piece in event(line, self.url, reply.headers):
                        yield piece
        except httpx.TransportError as error:
            raise error_of(self.url, ask, nothing(error)) from None

    async def close(self) -> None:
        await self.http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _connect(self) -> Any:
        import httpx

        return httpx.AsyncClient(timeout=self.timeout)

    async def _do(self, step: Ask | Pause) -> Reply:
        import httpx

        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return Reply(0, b"", {})
        try:
            reply = await self.http.request(step.method, self.url + step.path, headers=self.headers, **step.options())
        except httpx.TransportError as error:
            return nothing(error)
        return Reply(reply.status_code, reply.content, reply.headers)
