"""Names that stretch over several steps, told by labels such as B-PER, I-PER, O: which of them were found whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from polymodal.core.schema import Json

OUT, BEGIN, INSIDE = 0, 1, 2
STRANGE = 0  # the type of labels that are not known


class Spans(NamedTuple):
    """Where a span begins, its last step, and its type, at the place of its beginning."""

    begins: Bool[np.ndarray, "n L"]
    ends: Int[np.ndarray, "n L"]
    type: Int[np.ndarray, "n L"]


class Bio:
    """The spans of labels `B-X`, `I-X` and any others, which are outside of all spans.

    A span of X begins at B-X, and at I-X where no X goes before; it goes on over I-X. That is what CoNLL's script and
    seqeval (not strict) count (Tjong Kim Sang and De Meulder, "Introduction to the CoNLL-2003 Shared Task", 2003).
    """

    def __init__(self, classes: Sequence[Json]) -> None:
        names = [c if isinstance(c, str) else "" for c in classes]
        marks = [{"B-": BEGIN, "I-": INSIDE}.get(name[:2], OUT) for name in names]
        types = sorted({name[2:] for name, mark in zip(names, marks, strict=True) if mark})
        self.any = any(marks)
        self.mark = np.array([*marks, INSIDE], np.int64)  # the last one is of labels that are not known: class -1
        self.type = np.array([1 + types.index(n[2:]) if m else STRANGE for n, m in zip(names, marks, strict=True)]
                             + [STRANGE], np.int64)  # fmt: skip

    def spans(self, label: Int[np.ndarray, "n L"], real: Bool[np.ndarray, "n L"]) -> Spans:
        """The spans of rows of classes (-1: not known, taken for a type of its own), where they are real."""
        mark = np.where(real, self.mark[label], OUT)
        kind = np.where(mark == OUT, -1, self.type[label])
        before = np.pad(kind, ((0, 0), (1, 0)), constant_values=-1)[:, :-1]
        begins = (mark == BEGIN) | ((mark == INSIDE) & (before != kind))
        stops = np.pad(begins | (mark == OUT), ((0, 0), (0, 1)), constant_values=True)[:, 1:]  # after this step
        place = np.where(stops, np.arange(label.shape[1]), label.shape[1])
        ends = np.minimum.accumulate(place[:, ::-1], axis=1)[:, ::-1]
        return Spans(begins, ends, kind)

    def counts(
        self,
        truth: Int[np.ndarray, "n L"],
        there: Bool[np.ndarray, "n L"],
        guess: Int[np.ndarray, "n L"],
        answered: Bool[np.ndarray, "n L"],
    ) -> dict[str, Int[np.ndarray, " n"]]:
        """Per row: spans that are `found` (first and last step and type right), that it has (`true`), and `said`."""
        ours, theirs = self.spans(guess, answered), self.spans(truth, there)
        right = ours.begins & theirs.begins & (ours.ends == theirs.ends) & (ours.type == theirs.type)
        return {"found": right.sum(1), "true": theirs.begins.sum(1), "said": ours.begins.sum(1)}
