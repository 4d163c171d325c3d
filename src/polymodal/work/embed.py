"""Rows as vectors: what a run's space holds of each, in bounded memory; and what is asked, as one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch.nn import functional as F

from polymodal.assemble import Assembly
from polymodal.core.errors import RunError, TableError, UserError, suggest
from polymodal.core.schema import Json
from polymodal.core.streams import Batch, Embedded, Stream, Streams, pool
from polymodal.data.dataset import Dataset
from polymodal.data.ledger import Ledger
from polymodal.data.loader import Loader
from polymodal.data.splits import Part
from polymodal.data.tables import open_table
from polymodal.model import on_device
from polymodal.work.predict import reasons_of
from polymodal.work.runtime import Runtime

ROW = "row"  # the space of a run that learned none: its fused vectors


class Lot(NamedTuple):
    """Some rows of a table, in its order, as vectors; K columns may give a row several in a space."""

    rows: Int[np.ndarray, " n"]
    vectors: dict[str, Float[np.ndarray, "n _K E"]]  # float32, of length 1; zeros where not present
    present: dict[str, Bool[np.ndarray, "n _K"]]
    errors: dict[int, str]  # row number -> what could not be read


class Embedder:
    """What a run knows of rows as vectors: the space of its task that embeds, or its fused vectors.

    `names` are what can be embedded (for `retrieve` its inputs), `columns` the columns of a table that each is made of,
    `width` the length of the vectors.
    """

    def __init__(self, assembly: Assembly, runtime: Runtime, task: str | None = None) -> None:
        self.assembly, self.runtime = assembly, runtime
        self.task = _task_of(assembly, task)
        self.embeds: Any = None if self.task is None else assembly.model.tasks[self.task]
        own = {name: one.columns for name, one in assembly.spec.inputs.items()}
        self.names: tuple[str, ...] = (ROW,) if self.embeds is None else tuple(self.embeds.spaces)
        made_of = getattr(self.embeds, "made_of", lambda space, columns: columns.get(space) or _all(columns))
        self.columns: dict[str, tuple[str, ...]] = {name: tuple(made_of(name, own)) for name in self.names}
        assembly.model.eval()

    @property
    def width(self) -> int:
        """E."""
        if self.embeds is not None:
            return int(self.embeds.dim)
        model: Any = self.assembly.model
        own = self.assembly.spec.model.width or max(encoder.width for _, encoder in model.encoders.items())
        return int(own if model.fusion is None else model.fusion.width)

    def rows(
        self, part: Part, ledger: Ledger, *, names: Sequence[str] | None = None, on_bad: str | None = "missing",
        step: Callable[[int], None] | None = None, begin: int = 0, size: int | None = None,
    ) -> Iterator[Lot]:  # fmt: skip
        """Every row of the part once, in order, from the `begin`-th on; `size` rows at a time.

        Only the columns of `names` (all when not given) are read; those that the table lacks are missing. Bad cells go
        to the ledger. Raises UserError for a name that is not there, TableError where a column of it is missing.
        """
        wanted = self._wanted(names)
        part = Part(part.table, part.rows[begin:])
        dataset = self._dataset(part, ledger, wanted, on_bad)
        size = size or max(64, self.assembly.spec.train.batch)
        loader = Loader(dataset, batch=size, seed=0, shuffle=False, augment=False, buckets=False)
        for number, micro in enumerate(loader.epoch(0)):
            batch, entries = micro[0]
            ledger.extend(entries)
            rows = part.rows[number * size : (number + 1) * size]
            yield self._lot(rows, batch, wanted, reasons_of(entries))
            if step is not None:
                step(len(rows))

    def batch(self, rows: Sequence[Mapping[str, object]], names: Sequence[str] | None = None) -> Lot:
        """Rows of one's own: cells by the name of their column, or of their input where it has one column.

        A cell of a file is a path, bytes or a PIL picture. Raises UserError for a name that is neither.
        """
        wanted, columns = self._wanted(names), self._all_columns()
        table = open_table([{**dict.fromkeys(columns), **self._by_column(row)} for row in rows])
        dataset = self._dataset(Part(table, np.arange(len(table))), Ledger(), wanted, "missing")
        batch, entries = dataset.load(np.arange(len(table)))
        return self._lot(np.arange(len(table)), batch, wanted, reasons_of(entries))

    def query(self, given: Mapping[str, object]) -> dict[str, Float[np.ndarray, "n E"]]:
        """The vectors of one row, for every space in which it holds something. Raises UserError for what is bad."""
        lot = self.batch([given])
        if lot.errors:
            raise UserError("query", f"cannot be read: {lot.errors[0]}", advice="another file")
        found = {name: lot.vectors[name][0][lot.present[name][0]] for name in self.names}
        return {name: vectors for name, vectors in found.items() if len(vectors)}

    def _wanted(self, names: Sequence[str] | None) -> tuple[str, ...]:
        for name in names or ():
            if name not in self.names:
                raise UserError("embed", "nothing of this name can be embedded", given=name,
                                advice=suggest(name, self.names))  # fmt: skip
        return self.names if names is None else tuple(names)

    def _all_columns(self) -> tuple[str, ...]:
        return _all({name: one.columns for name, one in self.assembly.spec.inputs.items()})

    def _by_column(self, row: Mapping[str, object]) -> dict[str, object]:
        inputs, known = self.assembly.spec.inputs, self._all_columns()
        found = {}
        for name, cell in row.items():
            column = name if name in known else inputs[name].columns[0] if name in inputs else None
            if column is None:
                raise UserError("query", "no input or column of this name", given=name,
                                advice=suggest(name, [*inputs, *known]))  # fmt: skip
            found[column] = cell
        return found

    def _dataset(self, part: Part, ledger: Ledger, names: Sequence[str], on_bad: str | None) -> Dataset:
        """The part with the columns of these names alone; all others are missing."""
        there = {column for name in names for column in self.columns[name] if column in part.table.columns}
        for name in names:
            if not there & set(self.columns[name]):
                raise TableError(part.table.name, f"has no column of {name!r}", given=list(self.columns[name]),
                                 advice=f"one of {part.table.columns}")  # fmt: skip
        table = part.table.only(there, self._all_columns())
        return self.assembly.dataset(Part(table, part.rows), ledger, targets=False, on_bad=on_bad)

    def _lot(self, rows: np.ndarray, batch: Batch | None, names: Sequence[str], errors: dict[int, str]) -> Lot:
        """The batch's vectors at the places of their rows; nothing at those that could not be read."""
        found = {} if batch is None else self._embedded(batch)
        at = np.searchsorted(rows, [row.number for row in batch.rows]) if batch is not None else np.zeros(0, np.int64)
        vectors, present = {}, {}
        for name in names:
            shape = found[name].vectors.shape[1:] if found else (1, self.width)
            vectors[name] = np.zeros((len(rows), *shape), np.float32)
            present[name] = np.zeros((len(rows), shape[0]), bool)
            if found:
                vectors[name][at] = found[name].vectors.float().cpu().numpy()
                present[name][at] = found[name].present.cpu().numpy()
        return Lot(rows, vectors, present, errors)

    @torch.inference_mode()
    def _embedded(self, batch: Batch) -> dict[str, Embedded]:
        model = self.assembly.model
        with self.runtime.autocast():
            batch = on_device(batch, self.runtime.move)
            streams, fused, _ = model.join(model.recalled(batch.inputs), batch.inputs)
            if self.embeds is None:
                return {ROW: fused_vector(streams, fused)}
            return self.embeds.embed(streams, fused)


def fused_vector(streams: Streams, fused: Stream | None) -> Embedded:
    """The mean of the fused tokens, of length 1: a vector for a row in which any input is there.

    Without a fusion it is that of the inputs' mean tokens, for the inputs that are there.
    """
    there = torch.stack([s.mask.any(1) for s in streams.values()], 1)
    if fused is None:
        means = torch.stack([pool(s.tokens, s.mask) for s in streams.values()], 1)
        vector = pool(means, there)
    else:
        vector = pool(fused.tokens, fused.mask)
    present = there.any(1, keepdim=True)
    return Embedded((F.normalize(vector.float(), dim=1) * present)[:, None], present)


def vectors_of(lots: Iterator[Lot], names: Sequence[str]) -> dict[str, Float[np.ndarray, "n _K E"]]:
    """All rows' vectors in memory; NaN where a row holds nothing."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for lot in lots:
        for name in names:
            found[name].append(np.where(lot.present[name][..., None], lot.vectors[name], np.float32(np.nan)))
    return {name: np.concatenate(each) for name, each in found.items()}


def describe(embedder: Embedder) -> Json:
    """The space, as plain JSON."""
    return {"task": embedder.task, "names": list(embedder.names)}


def _task_of(assembly: Assembly, task: str | None) -> str | None:
    able = [name for name, one in assembly.model.tasks.items() if hasattr(one, "embed")]
    if task is not None and task not in able:
        raise RunError("embed", "no task of this name embeds", given=task, advice=suggest(task, able))
    if task is None and len(able) > 1:
        raise RunError("embed", "this run has several spaces: say which task's", advice=f"one of {able}")
    return task or (able[0] if able else None)


def _all(columns: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(column for each in columns.values() for column in each))
