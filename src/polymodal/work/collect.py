"""One pass over a table: every row answered once, and once more for each withheld input, without encoding it again."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from polymodal.core.contracts import Prediction, Records
from polymodal.core.streams import Answer, Batch, Cells, Streams, Target
from polymodal.data.ledger import Entry
from polymodal.data.loader import Loader
from polymodal.model import Model, on_device, withhold
from polymodal.work.features import Features
from polymodal.work.runtime import Runtime

Withheld = str | tuple[str, ...]  # an input, or several together
Key = TypeVar("Key", bound=Hashable)
Change = Callable[[Batch], Batch]  # what is done to a batch before it is answered


@dataclass
class Collected:
    """What one pass over a table leaves behind, per task: records and row numbers in step, predictions, losses."""

    records: dict[str, Records]
    rows: dict[str, np.ndarray]
    predictions: dict[str, list[Prediction]]
    losses: dict[str, float]
    entries: list[Entry] = field(default_factory=list)
    answered: int = 0


class _Pile:
    """Records of one task, growing batch by batch."""

    def __init__(self) -> None:
        self.columns: dict[str, list[np.ndarray]] = {}
        self.rows: list[np.ndarray] = []
        self.predictions: list[Prediction] = []
        self.loss = self.weight = 0.0

    def add(self, task: Any, answer: Answer, target: Target, loss: Tensor, batch: Batch, predict: bool) -> None:
        known = target.present.cpu().numpy()
        self.rows.append(np.array([r.number for r in batch.rows], dtype=np.int64)[known])
        for name, column in task.score(answer, target).items():
            self.columns.setdefault(name, []).append(column)
        if predict:
            answers = task.predict(answer, batch.rows)
            self.predictions += [a for a, k in zip(answers, known, strict=True) if k]
        weight = task.weight(target)
        self.loss += float((loss.float() * weight).sum())
        self.weight += float(weight.sum())


class _Piles(dict[str, _Pile]):
    """A pile for every task."""

    def add(self, model: Model, batch: Batch, runtime: Runtime, predict: bool, encoded: Streams | None) -> Streams:
        with runtime.autocast():
            out = model(batch, respond=True, encoded=encoded)
        for name, task in model.tasks.items():
            if name in batch.targets:
                answer, target = as_float(out.answers[name]), out.asked[name]
                self.setdefault(name, _Pile()).add(task, answer, target, out.losses[name], batch, predict)
        return out.encoded

    def collected(self) -> Collected:
        return Collected(
            records={n: {k: np.concatenate(v) for k, v in p.columns.items()} for n, p in self.items()},
            rows={n: np.concatenate(p.rows) for n, p in self.items()},
            predictions={n: p.predictions for n, p in self.items()},
            losses={n: p.loss / p.weight for n, p in self.items() if p.weight},
        )


def collect(
    model: Model, loader: Loader, runtime: Runtime, *, withheld: Sequence[Withheld] = (), predict: bool = False,
    step: Callable[[int], None] | None = None,
) -> tuple[Collected, dict[Withheld, Collected]]:  # fmt: skip
    """One pass in row order: with every input, and with each of `withheld` taken away, as if its cells were missing."""
    return collect_changed(model, loader, runtime, {w: without(w) for w in withheld}, predict=predict, step=step)


def as_float(answer: Answer) -> Answer:
    """The answer with its numbers in full precision; places, tokens and truth values as they are."""
    return {name: value.float() if value.is_floating_point() else value for name, value in answer.items()}


def without(inputs: Withheld) -> Change:
    """Batches as if every cell of these inputs were missing."""
    gone = (inputs,) if isinstance(inputs, str) else inputs
    return lambda batch: reduce(withhold, gone, batch)


@torch.inference_mode()
def collect_changed(
    model: Model, loader: Loader, runtime: Runtime, changes: Mapping[Key, Change], *, predict: bool = False,
    step: Callable[[int], None] | None = None, features: Features | None = None,
) -> tuple[Collected, dict[Key, Collected]]:  # fmt: skip
    """One pass in the dataset's order: the batches as they are, and after each of `changes`.

    Cells whose data a change leaves alone are not encoded again. `features` remembers what frozen encoders say of
    changed cells for the next model that has the same encoders and is asked the same.
    """
    model.eval()
    whole, changed = _Piles(), {name: _Piles() for name in changes}
    entries: list[Entry] = []
    answered = 0
    for micro in loader.epoch(0):
        for batch, bad in micro:
            entries += bad
            if batch is None:
                continue
            moved = on_device(batch, runtime.move)
            encoded = whole.add(model, moved, runtime, predict, None)
            for name, piles in changed.items():
                other = changes[name](moved)
                fresh = {n: cells for n, cells in other.inputs.items() if cells.data is not moved.inputs[n].data}
                rows = tuple(row.number for row in batch.rows)
                known = encoded | _encoded(model, fresh, runtime, features, (name, rows))
                piles.add(model, other, runtime, False, known)
            answered += len(batch.rows)
            if step is not None:
                step(len(batch.rows))
    found = whole.collected()
    found.entries, found.answered = entries, answered
    return found, {name: piles.collected() for name, piles in changed.items()}


def _encoded(model: Model, fresh: dict[str, Cells], runtime: Runtime, features: Features | None,
             key: Hashable) -> Streams:  # fmt: skip
    """The encoded cells of inputs with changed data."""

    def encode() -> Streams:
        with runtime.autocast():
            return model.encode(fresh)

    if not fresh:
        return {}
    return encode() if features is None else features.once(key, fresh, encode)
