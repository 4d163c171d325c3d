"""Labels along a row as targets: one for every step, or stretches with a label each. Free of torch."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import ClassVar, NamedTuple

import numpy as np

from polymodal.core.contracts import Field, Sample
from polymodal.core.errors import BadCell, TableError, shorten
from polymodal.core.schema import Json, Positive
from polymodal.tasks.targets import UNSEEN, as_class, as_number, identity, natural_order, readable

ROOM, LEAST = 2, 32  # times the most labels of a training row, and places at least, that a sample has


class Labelled(NamedTuple):
    """The labels of a row: one for every step; or of stretches, then with their bounds [n, 2]."""

    labels: list[Json]
    bounds: list[tuple[float, float]] | None = None


class Tags:
    """The labels of a row's steps (words, moments), in order.

    A cell is a list of labels, or a text of labels between white space (`B-PER O O`); or a list of stretches,
    `{"start": 0.5, "end": 1.2, "label": "speech"}`, in time or in steps, from `start` up to but not including `end`,
    that do not overlap, all else being `outside`. A list may also be written as JSON. Of two columns the second holds
    the text whose words are labelled: a row whose words and labels are not as many is then a bad cell.

    Field: `classes` in natural order, `counts` of each in the training rows, `rows`, `stretches`, whether cells hold
    such, and `places` L: twice as many labels as any training row has, 32 at least, or `longest`; a row with more is a
    bad cell. Sample: `class` int32 [L], the place of each label in `classes`, -1 for one that no training row had;
    `length` int64; of stretches also `bounds` float32 [L 2].
    """

    files: ClassVar[bool] = False

    def __init__(self, *, outside: str = "O", longest: Positive | None = None) -> None:
        self.outside, self.longest = outside, longest
        self._field: Field | None = None
        self._places: dict[tuple[bool, Json], int] = {}

    @property
    def field(self) -> Field | None:
        return self._field

    @field.setter
    def field(self, field: Field) -> None:
        self._field, self._places = field, {identity(c): i for i, c in enumerate(field["classes"])}

    def fit(self, cells: Iterable[object]) -> Field:
        """Raises TableError when no cell holds labels. Most cells decide whether they are of steps or of stretches."""
        counts: dict[bool, Counter[tuple[bool, Json]]] = {False: Counter(), True: Counter()}
        rows, longest = {False: 0, True: 0}, {False: 0, True: 0}
        for found in readable(cells, read):
            kind = found.bounds is not None
            rows[kind], longest[kind] = rows[kind] + 1, max(longest[kind], len(found.labels))
            counts[kind].update(map(identity, found.labels))
        stretches = rows[True] > rows[False]
        known = counts[stretches]
        if not known:
            raise TableError("target", "no training row has labels", advice="check the task's column")
        if stretches:
            known.setdefault(identity(self.outside), 0)
        classes = sorted((label for _, label in known), key=natural_order)
        places = self.longest or max(LEAST, ROOM * longest[stretches])
        self.field = field = {"classes": classes, "counts": [known[identity(c)] for c in classes],
                              "rows": rows[stretches], "stretches": stretches, "outside": self.outside,
                              "places": places}  # fmt: skip
        return field

    def __call__(self, cell: object) -> Sample:
        assert self._field is not None, "fit first"
        found, sample = read(cell), self.blank()
        count = len(found.labels)
        if count and (found.bounds is not None) != self._field["stretches"]:
            kinds = ("a label for every step", "stretches with a label each")
            raise BadCell(f"holds {kinds[not self._field['stretches']]}, not {kinds[self._field['stretches']]}")
        if count > self._field["places"]:
            raise BadCell(f"{count} labels, where there is room for {self._field['places']} (see `longest`)")
        sample["class"][:count] = [self._places.get(identity(label), UNSEEN) for label in found.labels]
        sample["length"] = np.asarray(count, np.int64)
        if found.bounds:
            sample["bounds"][:count] = found.bounds
        return sample

    def blank(self) -> Sample:
        assert self._field is not None, "fit first"
        size = self._field["places"]
        bounds = {"bounds": np.zeros((size, 2), np.float32)} if self._field["stretches"] else {}
        return {"class": np.zeros(size, np.int32), "length": np.asarray(0, np.int64), **bounds}


def read(cell: object) -> Labelled:
    """The labels of a cell. Raises BadCell."""
    if isinstance(cell, Mapping) and not {"start", "end", "label"} <= cell.keys():
        labels, text, *_ = (*cell.values(), None)
        found = read(labels)
        words = None if text is None else len(str(text).split())
        if words is not None and found.bounds is None and words != len(found.labels):
            raise BadCell(f"{len(found.labels)} labels for {words} words")
        return found
    listed = _listed(cell)
    if any(isinstance(one, Mapping) for one in listed):
        return _stretches(listed)
    return Labelled([as_class(one) for one in listed])


def _listed(cell: object) -> list:
    if isinstance(cell, str):
        found = _json(cell) if cell.lstrip().startswith("[") else None
        return cell.split() if found is None else found
    if isinstance(cell, list | tuple | np.ndarray):
        return list(cell)
    if isinstance(cell, Mapping):
        return [cell]
    raise BadCell(f"no labels of steps: {shorten(cell, 60)}")


def _json(text: str) -> list | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, list) else None


def _stretches(listed: list) -> Labelled:
    """Stretches in the order of their beginnings. Raises BadCell where one is none, or two overlap."""
    found = []
    for one in listed:
        if not isinstance(one, Mapping) or not {"start", "end", "label"} <= one.keys():
            raise BadCell(f"no stretch with start, end and label: {shorten(one, 60)}")
        start, end = as_number(one["start"]), as_number(one["end"])
        if not 0 <= start < end:
            raise BadCell(f"a stretch from {start:g} to {end:g}")
        found.append((start, end, as_class(one["label"])))
    found.sort(key=lambda one: one[:2])
    for (_, end, _), (start, _, _) in pairwise(found):
        if start < end:
            raise BadCell(f"two stretches overlap at {start:g}")
    return Labelled([label for *_, label in found], [(start, end) for start, end, _ in found])
