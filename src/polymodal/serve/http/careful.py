"""A connection as uvicorn has it, that does not wait for ever: for headers, for a client to read, for its end."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

LONGEST = 64 << 10  # bytes of headers
LATE = 0.25  # seconds in which a request that was on its way already is still taken at the end
FIRST = 1.0  # the same for a connection that has not asked yet
FULL = (b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n"
        b"connection: close\r\ncontent-length: %d\r\n\r\n%s")  # fmt: skip
TOLD = b'{"error": {"where": "connections", "problem": "too many are open", "given": null, "advice": ""}, "id": ""}'
Protocol: Any = AutoHTTPProtocol


class Careful(Protocol):
    """`slow` and `most` are seconds and connections, told by a class made for a server, see `careful`."""

    slow = 20.0
    most = 2048

    def connection_made(self, transport: Any) -> None:
        self.watch: asyncio.TimerHandle | None = None
        self.stuck: asyncio.TimerHandle | None = None
        self.unread = 0  # bytes of headers that are not whole yet
        self.leaving = False
        super().connection_made(transport)
        if len(self.connections) > self.most:
            transport.write(FULL % (len(TOLD), TOLD))
            self._end()
        else:
            self._expect()

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        super().data_received(data)
        cycle = self.cycle
        if cycle is None or (cycle is before and cycle.response_complete):
            self.unread += len(data)
            if self.unread > LONGEST:
                self._end()
            elif self.watch is None:
                self._expect()
        elif self.watch is not None or self.unread:
            self._unexpect()
        if self.leaving and cycle is not None:
            cycle.keep_alive = False

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self.watch, self.stuck):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client does not take what it is sent."""
        super().pause_writing()
        self.stuck = self.loop.call_later(self.slow, self.transport.abort)

    def resume_writing(self) -> None:
        if self.stuck is not None:
            self.stuck.cancel()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        self._end()

    def shutdown(self) -> None:
        """No further requests, but those that are here or on their way."""
        self.leaving = True
        if self.cycle is None or self.cycle.response_complete:
            self.loop.call_later(FIRST if self.cycle is None else LATE, self._leave)
        else:
            self.cycle.keep_alive = False

    def _leave(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self._end()

    def _expect(self) -> None:
        self.watch = self.loop.call_later(self.slow, self._end)

    def _unexpect(self) -> None:
        self.unread = 0
        if self.watch is not None:
            self.watch.cancel()
            self.watch = None

    def _end(self) -> None:
        """Closed, and if the client does not take what is left, cut off."""
        if not self.transport.is_closing():
            self.transport.close()
        self.stuck = self.loop.call_later(self.slow, self.transport.abort)


def careful(slow: float, most: int) -> type[Careful]:
    """The protocol with these limits."""
    return type("Limited", (Careful,), {"slow": slow, "most": most})
