"""The queue in front of the model: who is answered together, who is not, what a failure costs whom."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from polymodal.core.errors import UserError
from polymodal.serve.http.engine import Engine, Ticket
from polymodal.serve.http.problems import Problem


class Counting:
    """A model that doubles numbers, remembers its batches, fails at a number below 0, and takes its time."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.batches: list[list[int]] = []
        self.seconds = seconds

    def load(self, tickets: list[Ticket]) -> list[Ticket]:
        if any(n == -2 for t in tickets for n in t.rows):
            raise UserError("rows", "cannot be read")
        return tickets

    def answer(self, tickets: list[Ticket]) -> list[list[Any]]:
        time.sleep(self.seconds)
        self.batches.append([n for t in tickets for n in t.rows])
        if any(n == -1 for n in self.batches[-1]):
            raise ZeroDivisionError
        return [[2 * n for n in t.rows] for t in tickets]


def with_engine(work: Callable[[Engine], Awaitable[Any]], model: Counting, **settings: Any) -> Any:
    async def main() -> Any:
        engine = Engine(model.load, model.answer, **{"batch": 8, "wait": 0.01, "limit": 100, **settings})
        try:
            return await asyncio.wait_for(work(engine), 20)  # type: ignore[arg-type]
        finally:
            engine.close()

    return asyncio.run(main())


def ticket(*rows: int, ask: str = "a") -> Ticket:
    return Ticket(rows, range(len(rows)), ask)


def test_everybody_gets_their_own_and_batches_are_bounded() -> None:
    model = Counting(0.002)

    async def work(engine: Engine) -> Any:
        return await asyncio.gather(*(engine.ask([ticket(n, n + 100)]) for n in range(40)))

    found = with_engine(work, model)
    assert found == [[2 * n, 2 * n + 200] for n in range(40)]
    assert sorted(n for b in model.batches for n in b) == sorted([*range(40), *range(100, 140)])
    assert max(map(len, model.batches)) == 8  # full, never more
    assert len(model.batches) < 20  # not one by one


def test_only_rows_that_are_asked_alike_go_together() -> None:
    model = Counting(0.002)

    async def work(engine: Engine) -> Any:
        return await asyncio.gather(*(engine.ask([ticket(n, ask="ab"[n % 2])]) for n in range(16)))

    assert with_engine(work, model) == [[2 * n] for n in range(16)]
    assert all(len({n % 2 for n in b}) == 1 for b in model.batches)
    assert max(map(len, model.batches)) > 1


def test_a_row_waits_for_others_but_not_longer_than_told() -> None:
    model = Counting()

    async def work(engine: Engine) -> float:
        begun = time.perf_counter()
        first = asyncio.create_task(engine.ask([ticket(1)]))
        await asyncio.sleep(0.05)
        await asyncio.gather(first, engine.ask([ticket(2)]))
        return time.perf_counter() - begun

    assert 0.2 <= with_engine(work, model, wait=0.2) < 0.6
    assert model.batches == [[1, 2]]
    model.batches.clear()
    with_engine(work, model, wait=0.0)
    assert model.batches == [[1], [2]]


def test_a_failure_costs_nobody_else() -> None:
    model = Counting(0.002)

    async def work(engine: Engine) -> Any:
        asked = [engine.ask([ticket(n)]) for n in (1, -1, 2, -2, 3)]
        return await asyncio.gather(*asked, return_exceptions=True)

    found = with_engine(work, model)
    assert [found[0], found[2], found[4]] == [[2], [4], [6]]
    assert isinstance(found[1], ZeroDivisionError)
    assert isinstance(found[3], Problem)  # the client's mistake
    assert found[3].status == 422


def test_a_full_queue_refuses_and_a_large_request_alone_does_not() -> None:
    model = Counting(0.02)

    async def work(engine: Engine) -> Any:
        large = [ticket(*range(at, at + 8)) for at in range(0, 24, 8)]
        alone = asyncio.create_task(engine.ask(large))
        await asyncio.sleep(0)
        return await asyncio.gather(alone, *(engine.ask([ticket(n)]) for n in range(3)), return_exceptions=True)

    whole, *others = with_engine(work, model, limit=6)
    assert whole == [2 * n for n in range(24)]  # in order, though it came in several batches
    assert [(type(o), getattr(o, "status", o), getattr(o, "after", 0)) for o in others] == [(Problem, 503, 1.0)] * 3


def test_who_went_away_is_not_answered() -> None:
    model = Counting(0.05)

    async def work(engine: Engine) -> Any:
        first = [asyncio.create_task(engine.ask([ticket(n, ask=str(n))])) for n in (1, 2)]
        gone = asyncio.create_task(engine.ask([ticket(3, ask="b")]))
        await asyncio.sleep(0.02)
        gone.cancel()
        found = await asyncio.gather(*first)
        await engine.idle()
        assert engine.rows == 0
        return found

    assert with_engine(work, model, wait=0.0) == [[2], [4]]
    assert model.batches == [[1], [2]]


def test_idle_waits_for_what_was_accepted() -> None:
    model = Counting(0.02)

    async def work(engine: Engine) -> bool:
        asked = [asyncio.create_task(engine.ask([ticket(n)])) for n in range(20)]
        await asyncio.sleep(0)
        await engine.idle()
        await asyncio.sleep(0)
        return all(task.done() for task in asked)

    assert with_engine(work, model)


@pytest.mark.parametrize("seed", range(5))
def test_no_order_of_arrival_mixes_answers_up(seed: int) -> None:
    import random

    lot, model = random.Random(seed), Counting(0.0005)

    async def one(engine: Engine, at: int) -> bool:
        await asyncio.sleep(lot.random() * 0.05)
        rows = [at * 100 + k for k in range(lot.randint(1, 12))]
        tickets = [ticket(*rows[s : s + 8], ask=lot.choice("ab")) for s in range(0, len(rows), 8)]
        return await engine.ask(tickets) == [2 * n for n in rows]

    async def work(engine: Engine) -> Any:
        return await asyncio.gather(*(one(engine, at) for at in range(60)))

    assert all(with_engine(work, model, wait=0.002, limit=1000))
