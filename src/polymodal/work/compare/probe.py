"""A trained model asked in many ways about the same rows: whole, without inputs, with inputs shuffled, with noise."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from polymodal.assemble import Assembly
from polymodal.core.contracts import Records
from polymodal.core.seeds import Rng, generator
from polymodal.core.streams import Batch
from polymodal.data.dataset import Dataset
from polymodal.data.loader import Loader
from polymodal.work import folder as folders
from polymodal.work.collect import Change, Collected, collect_changed, without
from polymodal.work.compare.contribution import wanted
from polymodal.work.compare.robust import LEVELS
from polymodal.work.features import Features
from polymodal.work.pooling import Scores
from polymodal.work.runtime import Runtime

BATCH = 256  # rows among which an input is shuffled
FILE = "answered.safetensors"


@dataclass
class Answered:
    """Records of the rows in the table's order: `whole`, and `ways`, each by a word and what it is about.

    Ways are ("given", "a+b"), only these inputs; ("shuffled", "a"); ("noise", "a", "0.25").
    """

    whole: Scores
    ways: dict[tuple[str, ...], Scores] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Ways in fp32: they are only measured."""
        tensors = {}
        for way, scores in {(): self.whole, **self.ways}.items():
            for task, records in scores.records.items():
                for name, column in records.items():
                    small = bool(way) and column.dtype == np.float64
                    values = column.astype(np.float32) if small else column
                    named_so, tensor = folders.as_tensor("\x1f".join([name, task, *way]), values)
                    tensors[named_so] = tensor
        rows = {"\x1f".join(["", task]): torch.from_numpy(rows) for task, rows in self.whole.rows.items()}
        folders.write_tensors(folder / FILE, tensors | rows)

    @classmethod
    def read(cls, folder: Path) -> Answered:
        found = cls(Scores({}, {}))
        for name, tensor in folders.read_tensors(folder / FILE).items():
            whole, values = folders.as_column(name, tensor)
            column, task, *way = whole.split("\x1f")
            if not column:
                found.whole.rows[task] = values
                continue
            scores = found.ways.setdefault(tuple(way), Scores({}, found.whole.rows)) if way else found.whole
            scores.records.setdefault(task, {})[column] = values
        return found

    def given(self, inputs: frozenset[str], task: str) -> Records:
        """The records of the rows when only these inputs are given."""
        return self.ways["given", named(inputs)].records[task]


def named(inputs: frozenset[str]) -> str:
    return "+".join(sorted(inputs))


def probe(assembly: Assembly, dataset: Dataset, runtime: Runtime, *, whole: bool = False, noise: bool = True,
          features: Features | None = None) -> Answered:  # fmt: skip
    """One pass over the rows, each batch encoded once and answered in every way; only as it is with `whole`.

    The rows are gone over in a random order, the same for every model, so that an input is shuffled among strangers.
    `features` remembers what frozen encoders say of noisy cells, for the next candidate.
    """
    rows, inputs = dataset.rows, list(assembly.spec.inputs)
    dataset.rows = generator(0, "shuffled").permutation(rows)
    loader = Loader(dataset, batch=max(BATCH, assembly.spec.train.batch), seed=0, shuffle=False, augment=False,
                    buckets=False)  # fmt: skip
    changes: dict[Hashable, Change] = {}
    if not whole and len(inputs) > 1:
        every = frozenset(inputs)
        changes |= {("given", named(some)): without(tuple(sorted(every - some)))
                    for some in wanted(inputs) if some != every}  # fmt: skip
        changes |= {("shuffled", name): _shuffled(name) for name in inputs}
    if not whole and noise:
        readers = {n: r for n, r in assembly.readers.items() if hasattr(r, "corrupt")}
        changes |= {("noise", name, str(level)): _noisy(name, reader, level)
                    for name, reader in readers.items() for level in LEVELS[1:]}  # fmt: skip
    try:
        found, ways = collect_changed(assembly.model, loader, runtime, changes, features=features)
    finally:
        dataset.rows = rows
    return Answered(_sorted(found), {way: _sorted(one) for way, one in ways.items()})  # type: ignore[misc]


def _sorted(found: Collected) -> Scores:
    order = {task: np.argsort(rows, kind="stable") for task, rows in found.rows.items()}
    records = {t: {n: column[order[t]] for n, column in records.items()} for t, records in found.records.items()}
    return Scores(records, {task: rows[order[task]] for task, rows in found.rows.items()})


def _shuffled(name: str) -> Change:
    """Every row that has the input gets that of another such row of its batch."""

    def change(batch: Batch) -> Batch:
        cells = batch.inputs[name]
        there = (cells.index >= 0).any(1).nonzero()[:, 0]
        order = torch.from_numpy(_rng("shuffle", name, batch).permutation(len(there))).to(there.device)
        index = cells.index.clone()
        index[there] = cells.index[there[order]]
        return batch._replace(inputs={**batch.inputs, name: cells._replace(index=index)})

    return change


def _noisy(name: str, reader: Any, level: float) -> Change:
    """The input's cells with noise of this level."""

    def change(batch: Batch) -> Batch:
        cells = batch.inputs[name]
        plain = {k: v.cpu().numpy() for k, v in cells.data.items()}
        noisy: Mapping[str, np.ndarray] = reader.corrupt(plain, level, _rng("noise", name, batch))
        data = {k: torch.from_numpy(np.ascontiguousarray(v)).to(cells.data[k].device) for k, v in noisy.items()}
        return batch._replace(inputs={**batch.inputs, name: cells._replace(data=data)})

    return change


def _rng(purpose: str, name: str, batch: Batch) -> Rng:
    """A function of what is done and of the rows: every model meets the same noise, at every level the same lots."""
    return generator(purpose, name, *(row.number for row in batch.rows))
