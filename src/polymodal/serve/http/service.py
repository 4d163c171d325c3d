"""What all endpoints share: the run, the queue, the index, the log; and whether the server is ready."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from polymodal import __version__
from polymodal.core.errors import UserError
from polymodal.core.schema import Json
from polymodal.serve.form import form
from polymodal.serve.http import bodies, columns
from polymodal.serve.http.answerer import Answerer, Ask, Lot, split
from polymodal.serve.http.bodies import Cells
from polymodal.serve.http.engine import Engine
from polymodal.serve.http.gate import Visit
from polymodal.serve.http.journal import Journal
from polymodal.serve.http.meters import Meters
from polymodal.serve.http.problems import Problem, busy
from polymodal.serve.http.settings import ServeSettings
from polymodal.work.predict import Line

END = object()


class Service:
    """One run, answered by one model thread."""

    def __init__(self, run: Any, index: Any, settings: ServeSettings, meters: Meters) -> None:
        self.settings, self.meters, self.index = settings, meters, index
        self.answerer = Answerer(run, settings)
        self.run = copy.copy(run)  # with readers that keep to the limits
        self.run.assembly = self.answerer.assembly
        self.run.__dict__.pop("embedder", None)
        self.name = run.folder.resolve().name
        self.slots = columns.slots(self.answerer.assembly)
        self.rows = bodies.Rows(self.slots, settings)
        witnesses = run.witnesses
        able = {"draws": self.answerer.draws, "sets": any(w.scores is not None for w in witnesses.values()),
                "abstains": any(w.confidence is not None for w in witnesses.values())}  # fmt: skip
        self.Predict = bodies.asking(settings, self.rows, most=settings.rows, **able)
        self.Stream = bodies.asking(settings, self.rows, most=1, **able)
        self.Embed, self.Search = bodies.embedding(settings, self.rows), bodies.searching(settings, self.slots)
        self.engine = Engine(self.answerer.load, self._answer, batch=settings.batch, wait=settings.wait_ms / 1000,
                             limit=settings.queue, start=self._begin_thread)  # fmt: skip
        self.journal = None
        if settings.log is not None:
            self.journal = Journal(Path(settings.log), int(settings.log_mb * 2**20), meters.dropped)
        self.warmed = self.draining = False
        self.streams = self.calls = 0
        self.models: tuple[str, ...] = ()  # as clients of OpenAI's API call it
        self.searcher: Any = None if index is None else _searcher(self.run, index)

    def _begin_thread(self) -> None:
        if self.settings.threads:
            torch.set_num_threads(self.settings.threads)

    def _answer(self, lot: Lot) -> list[list[Any]]:
        begun = time.perf_counter()
        self.meters.queue.set(self.engine.rows)
        found = self.answerer.answer(lot)
        self.meters.model.observe(time.perf_counter() - begun)
        self.meters.batches.observe(len(lot.numbers))
        return found

    @property
    def ready(self) -> bool:
        return self.warmed and not self.draining

    async def warm(self) -> None:
        """Answer an empty row, so that the first client does not wait for what is made when first used."""
        await self.engine.alone(self.answerer.warm)
        self.warmed = True

    async def close(self) -> None:
        """Everything that was accepted is answered and written down."""
        await self.engine.idle()
        self.engine.close()
        if self.journal is not None:
            await asyncio.to_thread(self.journal.close)

    async def predict(self, rows: list[Cells], ask: Ask, seed: int, visit: Visit, path: str) -> list[Line]:
        """A line for every row. Raises Problem."""
        self._check(ask)
        lines = await self._in_time(self.engine.ask(split(rows, ask, seed, self.settings.batch)))
        self._note(rows, lines, visit, path)
        return lines

    async def embed(self, rows: list[Cells], visit: Visit, path: str) -> list[tuple[dict[str, Any], str | None]]:
        """For every row its vectors by space, and what was bad in it. Raises Problem."""
        found = await self._in_time(self.engine.ask(split(rows, Ask("embed"), 0, self.settings.batch)))
        visit.rows, visit.errors = len(rows), sum(error is not None for _, error in found)
        self.meters.told(path, visit.rows, visit.errors)
        return found

    def _note(self, rows: list[Cells], lines: list[Line], visit: Visit, path: str) -> None:
        visit.rows, visit.errors = len(rows), sum(line["error"] is not None for line in lines)
        self.meters.told(path, visit.rows, visit.errors)
        if self.journal is not None:
            self.journal.note(visit.id, rows, lines)
        self.warmed = True

    def _check(self, ask: Ask) -> None:
        try:
            self.answerer.check(ask)
        except UserError as error:
            raise Problem.of(error) from None

    async def _in_time(self, work: Any) -> Any:
        try:
            async with asyncio.timeout(self.settings.timeout):
                return await work
        except TimeoutError:
            raise busy("queue", f"not answered within {self.settings.timeout:g} seconds", 2.0) from None

    async def in_model(self, call: Callable[[], Any]) -> Any:
        """A call in the model's thread, of which only so many may wait. Raises Problem."""
        if self.calls >= self.settings.queue:
            raise busy("queue", f"{self.calls} requests wait already")
        self.calls += 1
        try:
            return await self._in_time(self.engine.alone(call))
        except UserError as error:
            raise Problem.of(error) from None
        finally:
            self.calls -= 1

    async def stream(self, row: Cells, ask: Ask, seed: int, visit: Visit, path: str) -> Any:
        """Pieces of what is said of a row, and its line at the end; each step between other batches. Raises Problem."""
        self._check(ask)
        if self.streams >= self.settings.streams:
            raise busy("streams", f"{self.streams} answers are being said already")
        pieces: Iterator[Any] = self.answerer.pieces(row, ask, seed)
        self.streams += 1
        try:
            while (piece := await self.in_model(lambda: next(pieces, END))) is not END:
                if isinstance(piece, dict):
                    self._note([row], [piece], visit, path)
                yield piece
        finally:
            self.streams -= 1

    def about(self) -> dict[str, Json]:
        """What `/v1/run` says."""
        embedder, s = self.answerer.embedder, self.settings
        return {
            "name": self.name,
            "inputs": columns.inputs(self.answerer.assembly),
            "form": form(self.answerer.assembly),
            "tasks": columns.tasks(self.answerer.assembly, self.answerer.speaking),
            "space": {"task": embedder.task, "names": list(embedder.names)},
            "index": None if self.index is None else self.about_index(),
            "limits": {"body_mb": s.body_mb, "rows": s.rows, "pixels": s.pixels, "seconds": s.seconds, "text": s.text,
                       "tokens": s.tokens, "hits": s.hits, "rate": s.rate or None, "timeout": s.timeout},
            "version": __version__,
        }  # fmt: skip

    def about_index(self) -> dict[str, Json]:
        """Rows, columns with their types, and those with a preview."""
        about = self.index.about
        return {"rows": about.get("count"), "columns": about.get("columns", []), "pictures": about.get("pictures", [])}


def _searcher(run: Any, index: Any) -> Any:
    """Raises RunError where the index is of another run."""
    from polymodal.serve.index import Searcher

    return Searcher(run, index)
