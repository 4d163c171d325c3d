"""What a column is and how its numbers lie, from values that pass by once: in bounded memory, whatever their number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np

from polymodal.core.contracts import Field
from polymodal.core.errors import BadCell
from polymodal.core.seeds import generator
from polymodal.modalities.tabular.cells import category, is_missing, number, plain_numbers

NEARLY_ALL = 0.95  # of the present values must be numbers for a column to be taken for one of numbers
HANDFUL = 10  # distinct whole numbers up to which they are taken for categories
LANDMARKS = 256  # quantiles kept of a column
DRAWN = 1 << 18  # numbers that quantiles are taken of; of more, so many are drawn by lot
BLOCK = 1024  # records that are looked at together


def looks_numeric(values: Iterable[object]) -> bool:
    """Whether a column holds numbers rather than names, from its present values.

    It does when nearly all are numbers, no text has a leading zero (postcodes, article numbers), none is true or false,
    and the numbers are not just a handful of distinct whole ones.
    """
    tally = Tally("", log=False, quantiles=False)
    for block in blocks(values):
        tally.add(block)
    return tally.numeric


class Tally:
    """One column as far as it was seen; `numeric` says what it is, None that it is to be guessed.

    The `counts` of its categories are given up (None) when it looks numeric, for numbers are as many as there are rows.
    """

    def __init__(self, name: str, *, log: bool, quantiles: bool, numeric: bool | None = None) -> None:
        self.name, self.log, self._said = name, log, numeric
        self.counts: Counter[str] | None = Counter()
        self._total = self._numbers = 0
        self._refused = False
        self._kinds: set[float] = set()  # the first distinct numbers
        self._mean = self._squares = 0.0
        self._drawn = _Drawn(name) if quantiles else None

    @property
    def numeric(self) -> bool:
        """Whether it is a column of numbers: see `looks_numeric`."""
        if self._said is not None:
            return self._said
        several = len(self._kinds) > HANDFUL or any(k % 1 for k in self._kinds)
        return not self._refused and 0 < self._total * NEARLY_ALL <= self._numbers and several

    def add(self, values: Sequence[object]) -> None:
        """Some values of the column; missing ones do not count."""
        x = plain_numbers(values)
        if x is not None:
            x = x[~np.isnan(x)]
            self._total += len(x)
        else:
            present = [v for v in values if not is_missing(v)]
            self._refused = self._refused or any(map(_is_a_name, present))
            x = np.array(list(_readable(present)))
            self._total += len(present)
        for found in x.tolist() if len(self._kinds) <= HANDFUL else ():
            if len(self._kinds) > HANDFUL:
                break
            self._kinds.add(found)
        self._moments(np.copysign(np.log1p(np.abs(x)), x) if self.log else x)
        self.counts = None if self.numeric else self.counts
        self.count(values)

    def count(self, values: Sequence[object]) -> None:
        """Count the categories among some values."""
        if self.counts is None:
            return
        for value in values:
            try:
                if not is_missing(value):
                    self.counts[category(value)] += 1
            except BadCell:
                continue

    def _moments(self, x: np.ndarray) -> None:
        """Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing variances", 1979."""
        if not len(x):
            return
        mean, before = float(x.mean()), self._numbers
        self._numbers += len(x)
        gap = mean - self._mean
        self._squares += float(((x - mean) ** 2).sum()) + gap**2 * before * len(x) / self._numbers
        self._mean += gap * len(x) / self._numbers
        if self._drawn is not None:
            self._drawn.add(x)

    def scaling(self, scale: str) -> Field:
        """What scaling needs to know of the column's numbers."""
        fitted: Field = {"column": self.name, "log": self.log}
        if scale == "standard":
            std = float(np.sqrt(self._squares / max(self._numbers, 1)))
            constant = std <= np.finfo(float).eps * self._numbers * abs(self._mean)  # what rounding leaves of one
            fitted |= {"mean": self._mean, "std": 1.0 if constant or not std else std}
        elif scale == "quantile" and self._drawn is not None:
            fitted |= {"quantiles": self._drawn.landmarks()}
        return fitted

    def categories(self, min_count: int) -> Field:
        """The categories seen at least `min_count` times, the most frequent first."""
        counts = self.counts or Counter()
        kept = [text for text, count in counts.items() if count >= min_count]
        return {"column": self.name, "categories": sorted(kept, key=lambda text: (-counts[text], text))}


class _Drawn:
    """All numbers that pass, or as many by lot (Vitter, "Random sampling with a reservoir", 1985, algorithm R)."""

    def __init__(self, name: str) -> None:
        self._kept, self._count = np.empty(0), 0
        self._ends = np.array([np.inf, -np.inf])
        self._lot = generator("quantiles", name)

    def add(self, x: np.ndarray) -> None:
        self._ends = np.array([min(self._ends[0], x.min()), max(self._ends[1], x.max())])
        room = DRAWN - len(self._kept)
        if room > 0:
            self._kept = np.concatenate([self._kept, x[:room]])
        rest = x[max(room, 0) :]
        seen = self._count + max(room, 0) if room < len(x) else 0
        places = self._lot.integers(0, seen + 1 + np.arange(len(rest))) if len(rest) else rest
        for place, value in zip(places.tolist(), rest.tolist(), strict=True):
            if place < DRAWN:
                self._kept[place] = value
        self._count += len(x)

    def landmarks(self) -> list[float]:
        if not self._count:
            return [0.0, 0.0]
        shares = np.linspace(0.0, 1.0, min(max(self._count, 2), LANDMARKS))
        found = np.quantile(self._kept, shares)
        found[0], found[-1] = self._ends
        return np.maximum.accumulate(found).tolist()


def blocks(cells: Iterable[object]) -> Iterator[list[object]]:
    walk = iter(cells)
    while block := list(islice(walk, BLOCK)):
        yield block


def _is_a_name(value: object) -> bool:
    text = value.strip() if isinstance(value, str) else ""
    return isinstance(value, bool | np.bool_) or (len(text) > 1 and text[0] == "0" and text.isdecimal())


def _readable(values: Sequence[object]) -> Iterator[float]:
    for value in values:
        try:
            yield number(value)
        except BadCell:
            continue
