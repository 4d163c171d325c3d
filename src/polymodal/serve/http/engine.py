"""Requests become batches: a bounded queue, a thread that reads the cells, and a thread that asks the model."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from polymodal.core.errors import UserError
from polymodal.serve.http.problems import Problem, busy

INSIDE = 2  # batches on their way at once: one is read while the other is answered


class Ticket:
    """Some rows of a request that wait to be answered together with others that are asked alike."""

    __slots__ = ("ask", "done", "numbers", "rows", "seed", "since")

    def __init__(self, rows: Sequence[Any], numbers: Sequence[int], ask: Hashable, seed: int = 0) -> None:
        self.rows, self.numbers, self.ask, self.seed = rows, numbers, ask, seed
        self.done: asyncio.Future[list[Any]]
        self.since = 0.0


class Engine:
    """`load` makes of tickets what `answer` takes, which gives one result for each row of each ticket.

    A batch has at most `batch` rows of tickets whose `ask` is equal; it leaves when it is full, or when its first row
    has waited `wait` seconds. Tickets are met in the order in which they came. Where a batch fails, each of its
    tickets is tried by itself, so that no request fails for another's sake.
    """

    def __init__(self, load: Callable[[list[Ticket]], Any], answer: Callable[[Any], list[list[Any]]], *,
                 batch: int, wait: float, limit: int, start: Callable[[], object] | None = None,
                 told: Callable[[int, float], object] | None = None) -> None:  # fmt: skip
        self.load, self.answer = load, answer
        self.batch, self.wait, self.limit, self.told = batch, wait, limit, told
        self.waiting: deque[Ticket] = deque()
        self.rows = 0  # that wait
        self.loading = self.inside = 0  # batches
        self.timer: asyncio.TimerHandle | None = None
        self.loader = ThreadPoolExecutor(1, "load", initializer=start)
        self.model = ThreadPoolExecutor(1, "model", initializer=start)
        self.loop: asyncio.AbstractEventLoop | None = None

    async def ask(self, tickets: Sequence[Ticket]) -> list[Any]:
        """The results of the rows of all tickets, in their order. Raises Problem when too many wait already."""
        count = sum(len(t.rows) for t in tickets)
        if self.rows + count > self.limit and self.rows:
            raise busy("queue", f"{self.rows} rows wait already")
        loop = self.loop = asyncio.get_running_loop()
        for ticket in tickets:
            ticket.done, ticket.since = loop.create_future(), loop.time()
        self.waiting.extend(tickets)
        self.rows += count
        self._wake()
        try:
            if len(tickets) == 1:
                return await tickets[0].done
            return [one for found in await asyncio.gather(*(t.done for t in tickets)) for one in found]
        finally:
            for ticket in tickets:
                ticket.done.cancel()

    async def alone(self, call: Callable[[], Any]) -> Any:
        """What a call in the model's thread gives; between batches."""
        return await asyncio.get_running_loop().run_in_executor(self.model, call)

    async def idle(self) -> None:
        """Wait until everything that was accepted is answered."""
        while self.waiting or self.inside:
            await asyncio.sleep(0.01)

    def close(self) -> None:
        self.loader.shutdown(wait=False, cancel_futures=True)
        self.model.shutdown(wait=False, cancel_futures=True)

    def _wake(self) -> None:
        """Send a batch on its way, if it is time."""
        while self.waiting and self.waiting[0].done.done():  # nobody waits for it any more
            self.rows -= len(self.waiting.popleft().rows)
        if not self.waiting or self.loading or self.inside >= INSIDE:
            return
        assert self.loop is not None
        left = self.waiting[0].since + self.wait - self.loop.time()
        if self.rows >= self.batch or left <= 0 or self.inside:
            self._send(self._next())
        elif self.timer is None:
            self.timer = self.loop.call_later(left, self._rung)

    def _rung(self) -> None:
        self.timer = None
        self._wake()

    def _next(self) -> list[Ticket]:
        """The first ticket, and those after it that are asked alike, as many as fit."""
        first = self.waiting.popleft()
        lot, count, kept = [first], len(first.rows), []
        while self.waiting and count < self.batch:
            ticket = self.waiting.popleft()
            if ticket.done.done():
                self.rows -= len(ticket.rows)
            elif ticket.ask == first.ask and count + len(ticket.rows) <= self.batch:
                lot.append(ticket)
                count += len(ticket.rows)
            else:
                kept.append(ticket)
        self.waiting.extendleft(reversed(kept))
        self.rows -= count
        return lot

    def _send(self, lot: list[Ticket]) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        self.loading += 1
        self.inside += 1
        self.loader.submit(self._loaded, lot).add_done_callback(lambda f: self._read(lot, f))

    def _loaded(self, lot: list[Ticket]) -> Any:
        return self.load(lot)

    def _read(self, lot: list[Ticket], found: Future[Any]) -> None:
        """In the thread that reads: on to the model, and the loop may send the next one."""
        assert self.loop is not None
        if found.exception() is None:
            self.model.submit(self.answer, found.result()).add_done_callback(lambda f: self._answered(lot, f))
            self.loop.call_soon_threadsafe(self._next_please)
        else:
            self.loop.call_soon_threadsafe(self._finish, lot, found, True)

    def _next_please(self) -> None:
        self.loading -= 1
        self._wake()

    def _answered(self, lot: list[Ticket], found: Future[Any]) -> None:
        assert self.loop is not None
        self.loop.call_soon_threadsafe(self._finish, lot, found, False)

    def _finish(self, lot: list[Ticket], found: Future[Any], loading: bool) -> None:
        """In the loop: everybody gets their own."""
        self.loading -= loading
        self.inside -= 1
        error = found.exception()
        if error is None:
            for ticket, result in zip(lot, found.result(), strict=True):
                if not ticket.done.done():
                    ticket.done.set_result(result)
        elif len(lot) > 1:
            for ticket in lot:
                self.model.submit(self._by_itself, ticket).add_done_callback(
                    lambda f, t=ticket: self._alone_answered(t, f)  # type: ignore[misc]
                )
            self.inside += len(lot)
        elif not lot[0].done.done():
            lot[0].done.set_exception(Problem.of(error) if isinstance(error, UserError) else error)
        self._wake()

    def _by_itself(self, ticket: Ticket) -> list[list[Any]]:
        return self.answer(self.load([ticket]))

    def _alone_answered(self, ticket: Ticket, found: Future[Any]) -> None:
        self._answered([ticket], found)
