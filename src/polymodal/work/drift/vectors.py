"""How the model sees some rows: its inputs as vectors, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32

from polymodal.assemble import Assembly
from polymodal.core.contracts import Prediction
from polymodal.core.seeds import generator
from polymodal.core.streams import Batch, Cells, pool
from polymodal.core.traits import Names, Traits, numbers
from polymodal.data.ledger import Ledger
from polymodal.data.splits import Part
from polymodal.model import on_device
from polymodal.work.collect import as_float
from polymodal.work.drift.survey import chosen
from polymodal.work.embed import fused_vector
from polymodal.work.runtime import Runtime

TOGETHER = "all inputs"  # what the fused vectors are called
SIZE = 32  # numbers that are kept of a vector
BATCH = 64
CLASSES = 100  # different answers up to which they are counted by name

Vectors = dict[str, Float32[np.ndarray, "_n _d"]]


class Answered(NamedTuple):
    """Vectors of some rows by input, each file once, and what each task says of them."""

    vectors: Vectors
    answers: dict[str, list[Prediction]]


@torch.inference_mode()
def look(assembly: Assembly, part: Part, runtime: Runtime, rows: int, *, seed: int = 0, answer: bool = True,
         step: Callable[[int], None] | None = None) -> Answered:  # fmt: skip
    """The vectors of some rows drawn by lot; without `answer` no task is asked. Rows with bad cells are left out."""
    assembly.model.eval()
    dataset = assembly.dataset(part, Ledger(), targets=False)
    some = chosen(part, rows, seed)
    found: dict[str, list[np.ndarray]] = {}
    known: dict[str, set[tuple[int, ...]]] = {}
    answers: dict[str, list[Prediction]] = {}
    for start in range(0, len(some), BATCH):
        batch, _ = dataset.load(some[start : start + BATCH])
        if batch is not None:
            moved = on_device(batch, runtime.move)
            for name, (vectors, there) in _vectors(assembly, moved, runtime, answers if answer else None).items():
                fresh = _fresh(batch.inputs.get(name), known.setdefault(name, set()), assembly, name) & there
                found.setdefault(name, []).append(projected(vectors[fresh], name))
        if step is not None:
            step(len(some[start : start + BATCH]))
    return Answered({name: np.concatenate(each) for name, each in found.items()}, answers)


def _vectors(assembly: Assembly, batch: Batch, runtime: Runtime,
             answers: dict[str, list[Prediction]] | None) -> dict[str, tuple[np.ndarray, np.ndarray]]:  # fmt: skip
    """By input its mean token and whether it is there; the answers of the tasks are added to `answers`."""
    model = assembly.model
    with runtime.autocast():
        encoded = model.recalled(batch.inputs)
        streams = model.enter(encoded, batch.inputs)
        joined, fused, _ = model.join(encoded, batch.inputs)
        out = None if answers is None else model(batch, respond=True, encoded=encoded)
    found = {name: (pool(s.tokens, s.mask), s.mask.any(1)) for name, s in streams.items()}
    if len(streams) > 1:
        one = fused_vector(joined, fused)
        found[TOGETHER] = (one.vectors[:, 0], one.present[:, 0])
    if out is not None and answers is not None:
        for name, task in model.tasks.items():
            answers.setdefault(name, []).extend(task.predict(as_float(out.answers[name]), batch.rows))
    return {name: (v.float().cpu().numpy(), there.cpu().numpy()) for name, (v, there) in found.items()}


def _fresh(cells: Cells | None, known: set[tuple[int, ...]], assembly: Assembly, name: str) -> np.ndarray:
    """Which rows show files of an input that no row before has shown; all rows where the cells are no files."""
    if cells is None or not assembly.readers[name].files:
        return np.array(True)
    marks = [tuple(r) for r in torch.where(cells.index >= 0, cells.id[cells.index.clamp(min=0)], -1).tolist()]
    fresh = []
    for mark in marks:
        fresh.append(mark not in known)
        known.add(mark)
    return np.array(fresh)


def projected(vectors: Float32[np.ndarray, "n D"], name: str) -> Float32[np.ndarray, "n d"]:
    """Long vectors through a random matrix, always the same, which keeps distances nearly as they are.

    Source: Johnson and Lindenstrauss 1984; unlike principal components it keeps what is new in another table too.
    """
    width = vectors.shape[1]
    if width <= SIZE:
        return vectors
    matrix = generator("drift", "project", name, width).standard_normal((width, SIZE), np.float32)
    return vectors @ (matrix / np.float32(np.sqrt(SIZE)))


def said(predictions: Sequence[Prediction], like: Traits | None = None) -> Traits:
    """What was answered, as traits: `answer`, numbers or names, or of longer texts their `length`; and `confidence`.

    `like`: the traits of other rows, whose kind is taken.
    """
    values = [p.value for p in predictions if p.value is not None]
    named = [", ".join(map(str, v)) if isinstance(v, list) else str(v) for v in values]
    found: Traits = {}
    if like is None:
        few = len(set(named)) <= CLASSES
        number = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    else:
        few, number = isinstance(like.get("answer"), Names), "answer" in like and not isinstance(like["answer"], Names)
    if number:
        found["answer"] = numbers(v for v in values if isinstance(v, int | float))
    elif few:
        found["answer"] = Names(list(named))
    else:
        found["length"] = numbers((len(one) for one in named), "characters")
    sure = [p.confidence for p in predictions if p.confidence is not None]
    return (found if values else {}) | ({"confidence": numbers(sure)} if sure else {})
