"""What a table's cells are like: which are missing or bad, and what a person could measure of the others."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64

from polymodal.assemble import Assembly
from polymodal.core.contracts import Sample
from polymodal.core.errors import BadCell
from polymodal.core.seeds import generator
from polymodal.core.traits import Numbers, Traits, together
from polymodal.data.cells import digest
from polymodal.data.ledger import Ledger
from polymodal.data.source import Source
from polymodal.data.splits import Part

STATES = ("there", "missing", "bad")
ROWS, FILES = 4000, 500  # that are looked at; of inputs whose cells are files
AT_ONCE, FILES_AT_ONCE = 256, 16


class Seen(NamedTuple):
    """The cells of one column of an input."""

    states: dict[str, int]  # how many cells are what
    traits: Traits  # of those that are there; each file once, however many rows name it
    input: str = ""

    @property
    def fitted(self) -> frozenset[str]:
        """The traits that depend on what a reader learned."""
        return frozenset(n for n, trait in self.traits.items() if isinstance(trait, Numbers) and trait.fitted)


def chosen(part: Part, most: int, seed: int) -> Int64[np.ndarray, " n"]:
    """Some of a part's rows by lot, in the lot's order."""
    return generator(seed, "drift", "rows").permutation(part.rows)[:most]


def survey(
    assembly: Assembly, part: Part, *, rows: int = ROWS, files: int = FILES, seed: int = 0,
    only: Collection[str] | None = None, step: Callable[[int], None] | None = None,
) -> dict[str, Seen]:  # fmt: skip
    """Every column of every input, `input` or `input.column` where it has several, of some rows drawn by lot.

    `only` names the inputs that are looked at, all when not given.
    """
    dataset = assembly.dataset(part, Ledger(), targets=False)
    found = {}
    for name, source in dataset.inputs.items():
        if only is not None and name not in only:
            continue
        some = chosen(part, min(rows, files) if source.reader.files else rows, seed)
        for k in range(source.width):
            found[name if source.width == 1 else f"{name}.{source.column(k)}"] = _column(source, k, some)
        if step is not None:
            step(1)
    return found


def _column(source: Source, k: int, rows: Int64[np.ndarray, " n"]) -> Seen:
    states, lots = dict.fromkeys(STATES, 0), []
    known: set[int] = set()
    size = FILES_AT_ONCE if source.reader.files else AT_ONCE
    for start in range(0, len(rows), size):
        block = rows[start : start + size]
        cells, new = [], []
        for row, raw in zip(block.tolist(), source.raws(block, k), strict=True):
            try:
                if row in source.table.broken:
                    raise BadCell(source.table.broken[row])
                if raw is None:
                    states["missing"] += 1
                    continue
                cells.append(source.opened(raw))
            except BadCell:
                states["bad"] += 1
                continue
            mark = digest(cells[-1]) if source.reader.files else len(known)
            new.append(mark not in known)
            known.add(mark)
        good = [(cell, one, fresh) for cell, one, fresh in zip(cells, _decoded(source.reader, cells), new, strict=True)
                if not isinstance(one, BadCell)]  # fmt: skip
        states["there"] += len(good)
        states["bad"] += len(cells) - len(good)
        fresh = [(cell, one) for cell, one, first in good if first]
        if fresh and hasattr(source.reader, "traits"):
            lots.append(source.reader.traits([c for c, _ in fresh], [s for _, s in fresh]))
    return Seen(states, together(lots), source.name)


def _decoded(reader: Any, cells: Sequence[object]) -> list[Sample | BadCell]:
    if hasattr(reader, "decode_all"):
        return list(reader.decode_all(cells))
    found: list[Sample | BadCell] = []
    for cell in cells:
        try:
            found.append(reader.decode(cell))
        except BadCell as error:
            found.append(error)
    return found
