"""Rows as clients send them -> what the run says of them: as `predict` and `embed` would, many requests at once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch

from polymodal.core.schema import Json
from polymodal.core.search import stream
from polymodal.core.seeds import row_keys
from polymodal.core.streams import Batch, Row
from polymodal.data.ledger import Ledger
from polymodal.data.splits import Part
from polymodal.data.tables import Table
from polymodal.model import on_device
from polymodal.serve.http.bodies import Cells
from polymodal.serve.http.engine import Ticket
from polymodal.serve.http.guard import guarded
from polymodal.serve.http.settings import ServeSettings
from polymodal.tasks.speaking import Speaking, chosen, draws
from polymodal.work.chat.pieces import pieces
from polymodal.work.embed import Embedder
from polymodal.work.predict import Line, answered, columns, line_of, reasons_of, refuse_options
from polymodal.work.reason import reasons
from polymodal.work.trust.terms import Terms, make_terms

DECODERS = 2  # threads that decode files


class Ask(NamedTuple):
    """What is asked of rows; rows that are asked alike can be answered together."""

    kind: str = "predict"  # or embed
    sets: float | None = None
    abstain: float | None = None
    reason: bool = False
    respond: str = "{}"  # JSON

    @property
    def options(self) -> dict[str, Json]:
        return json.loads(self.respond)


@dataclass
class Lot:
    """Tickets that were read: the batch, and for each of its rows where it stands among all of them."""

    ask: Ask
    numbers: list[int]  # of all rows, each in its own request
    sizes: list[int]  # of the tickets
    batch: Batch | None
    kept: list[int]
    errors: dict[int, str]
    rows: list[Cells]  # for embedding


class Answerer:
    """Knows the run. `load` may run beside `answer`; each of them in one thread at a time."""

    def __init__(self, run: Any, settings: ServeSettings) -> None:
        self.run, self.settings = run, settings
        self.pool = ThreadPoolExecutor(DECODERS, "decode")
        self.assembly = guarded(run.assembly, settings, self.pool)
        self.runtime = run.runtime
        self.columns = list(dict.fromkeys(c for one in self.assembly.spec.inputs.values() for c in one.columns))
        self.on_bad = "missing" if self.assembly.spec.data.on_bad == "missing" else "skip"
        self.speaking = {name: isinstance(task, Speaking) for name, task in self.assembly.model.tasks.items()}
        self.draws = any(getattr(task, "draws", False) for _, task in self.assembly.model.tasks.items())
        self.terms = lru_cache(16)(self._terms)
        self.assembly.model.eval()
        self._embedder: Embedder | None = None

    @property
    def embedder(self) -> Embedder:
        if self._embedder is None:
            self._embedder = Embedder(self.assembly, self.runtime)
        return self._embedder

    def _terms(self, sets: float | None, abstain: float | None) -> Terms:
        if sets is None and abstain is None:
            return Terms()
        return make_terms(self.assembly, self.run.witnesses, self.run.folder.name, sets=sets, abstain=abstain)

    def check(self, ask: Ask) -> Ask:
        """The same. Raises UserError for what this run cannot do."""
        self.terms(ask.sets, ask.abstain)
        options = ask.options
        refuse_options(self.assembly, options)
        for name, task in self.assembly.model.tasks.items():
            if self.speaking[name]:
                chosen(task.search, options)
        return ask

    def load(self, tickets: list[Ticket]) -> Lot:
        """Every row read by the run's readers."""
        ask: Any = tickets[0].ask
        rows = [row for ticket in tickets for row in ticket.rows]
        numbers = [number for ticket in tickets for number in ticket.numbers]
        sizes = [len(ticket.rows) for ticket in tickets]
        if ask.kind == "embed":
            return Lot(ask, numbers, sizes, None, [], {}, rows)
        table = Table("request", {column: [row.get(column) for row in rows] for column in self.columns})
        every = np.arange(len(rows))
        dataset = self.assembly.dataset(Part(table, every), Ledger(), targets=False, on_bad=self.on_bad)
        batch, entries = dataset.load(every)
        kept = [] if batch is None else [row.number for row in batch.rows]
        if batch is not None:
            own = [numbers[at] for at in kept]
            seeds = np.repeat([ticket.seed for ticket in tickets], sizes)[kept]
            batch = batch._replace(rows=tuple([Row(n) for n in own]), key=_keys(seeds, np.array(own, np.int64)))
        return Lot(ask, numbers, sizes, batch, kept, reasons_of(entries), [])

    def answer(self, lot: Lot) -> list[list[Any]]:
        """For each ticket what is said of each of its rows."""
        found = self._embed(lot) if lot.ask.kind == "embed" else self._predict(lot)
        ends = np.cumsum(lot.sizes).tolist()
        return [found[end - size : end] for end, size in zip(ends, lot.sizes, strict=True)]

    def _predict(self, lot: Lot) -> list[Line]:
        terms, options = self.terms(lot.ask.sets, lot.ask.abstain), lot.ask.options
        names = columns(self.assembly, terms)
        lines = [line_of(names, number, None, lot.errors.get(at, "")) for at, number in enumerate(lot.numbers)]
        if lot.batch is None:
            return lines
        for at, one in zip(lot.kept, answered(self.assembly, lot.batch, self.runtime, terms, options), strict=True):
            wrong = "; ".join(filter(None, (lot.errors.get(at), one.unsure)))
            lines[at] = line_of(names, lot.numbers[at], one.said, wrong)
        if lot.ask.reason:
            told = reasons(self.assembly, lot.batch, self.runtime, options=options)
            for at, why in zip(lot.kept, told, strict=True):
                lines[at]["reason"] = why
        return lines

    def _embed(self, lot: Lot) -> list[Any]:
        """By space the vectors of each row, or its error."""
        made = self.embedder.batch(lot.rows)
        found: list[Any] = []
        for at in range(len(lot.rows)):
            each = {name: made.vectors[name][at][made.present[name][at]] for name in made.vectors}
            found.append((each, made.errors.get(at)))
        return found

    def pieces(self, row: Cells, ask: Ask, seed: int) -> Iterator[tuple[str, str] | Line]:
        """What is said of one row: pieces of text with their task, and at the end the whole line.

        Every step may be taken in another moment, but in the model's thread. Sentences are said token by token, unless
        they are looked for with beams; put together the pieces are what `predict` says.
        """
        (lot, options) = self.load([Ticket([row], [0], ask, seed)]), ask.options
        if lot.batch is not None:
            batch = on_device(lot.batch, self.runtime.move)
            with torch.inference_mode(), self.runtime.autocast():
                model = self.assembly.model
                streams, fused, _ = model.join(model.recalled(batch.inputs), batch.inputs)
            for name, task in model.tasks.items():
                if isinstance(task, Speaking):
                    yield from ((name, piece) for piece in self._said(task, streams, fused, batch, options))
        with torch.inference_mode():
            yield self._predict(lot)[0]

    def _said(self, task: Speaking, streams: Any, fused: Any, batch: Batch, options: dict[str, Json]) -> Iterator[str]:
        """A sentence of the first language, token by token."""
        search = chosen(task.search, options)
        if search.way == "beam":
            return
        with torch.inference_mode(), self.runtime.autocast():
            memory = task.memory(streams, fused)
            start = torch.tensor([task.field["size"]], device=memory.mask.device)
            lot = draws(batch.key, 1, len(task.languages) * search.longest)[:, : search.longest].to(start.device)
            tokens = stream(task.decoder, memory, start, end=task.field["end"], banned=task.banned, search=search,
                            draws=lot)  # fmt: skip
        yield from pieces(task.words.say, (int(token) for token in self._steps(tokens)))

    def _steps(self, tokens: Iterator[Any]) -> Iterator[Any]:
        """Each step without gradients, which a generator that is put aside must not leave switched off."""
        while True:
            with torch.inference_mode(), self.runtime.autocast():
                token = next(tokens, None)
            if token is None:
                return
            yield token

    def warm(self) -> None:
        """Answer an empty row, so that the first client does not wait for what is made when first used."""
        for ask in (Ask(),):
            self.answer(self.load([Ticket([{}], [0], ask)]))


def _keys(seeds: np.ndarray, numbers: np.ndarray) -> torch.Tensor:
    """The key of each row, as `predict` has it for a table of the request's rows, with the request's seed."""
    keys = np.zeros(len(numbers), np.int64)
    for seed in np.unique(seeds).tolist():
        keys[seeds == seed] = row_keys(seed, 0, numbers[seeds == seed])
    return torch.from_numpy(keys)


def split(rows: Sequence[Cells], ask: Ask, seed: int, most: int) -> list[Ticket]:
    """The rows of a request in tickets of at most so many."""
    starts = range(0, len(rows), most)
    return [Ticket(rows[s : s + most], range(s, min(s + most, len(rows))), ask, seed) for s in starts]
