"""Target readers: one cell of the target column -> one sample of fixed shape. Free of torch."""

from __future__ import annotations

import math
import numbers
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Annotated, ClassVar, TypeVar

import numpy as np
from annotated_types import MinLen

from polymodal.core.contracts import Field, Sample
from polymodal.core.errors import BadCell, TableError, shorten
from polymodal.core.schema import Json

Value = TypeVar("Value")
Separator = Annotated[str, MinLen(1)]
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
FAR = 1e15  # standard deviations; the square is still a float32
UNSEEN = -1  # in place of a class that no training row had


class Label:
    """One class per row: a text, a number, or true and false, kept as the table has it (from a CSV all is text).

    Field: `classes` in natural order, `counts` of each in the training rows, `rows` read. Sample: `class`, int64, the
    place in `classes`, -1 for a class that no training row had. BadCell for lists, NaN and the like.
    """

    files: ClassVar[bool] = False

    def __init__(self) -> None:
        self._field: Field | None = None
        self._places: dict[tuple[bool, Json], int] = {}

    @property
    def field(self) -> Field | None:
        return self._field

    @field.setter
    def field(self, field: Field) -> None:
        self._field, self._places = field, {identity(c): i for i, c in enumerate(field["classes"])}

    def classes_in(self, cell: object) -> list[Json]:
        """The classes that this cell names."""
        return [as_class(cell)]

    def fit(self, cells: Iterable[object]) -> Field:
        """Raises TableError when no cell names a class."""
        counts: Counter[tuple[bool, Json]] = Counter()
        rows = 0
        for rows, found in enumerate(readable(cells, self.classes_in), 1):  # noqa: B007
            counts.update(list(dict.fromkeys(identity(c) for c in found)))
        if not counts:
            raise TableError("target", "no training row names a class", advice="check the task's column")
        classes = sorted((c for _, c in counts), key=natural_order)
        self.field = field = {"classes": classes, "counts": [counts[identity(c)] for c in classes], "rows": rows}
        return field

    def __call__(self, cell: object) -> Sample:
        (value,) = self.classes_in(cell)
        return {"class": np.asarray(self._places.get(identity(value), UNSEEN), np.int64)}

    def blank(self) -> Sample:
        return {"class": np.asarray(UNSEEN, np.int64)}


class Labels(Label):
    """Any number of classes per row: a list, or a text cut at `separator`; an empty list is a target without a class.

    Field as of `Label`. Sample: `classes`, float32 [C], 1 where the row has the class, and `unseen`, int64, how many of
    its classes no training row had.
    """

    def __init__(self, *, separator: Separator = "|") -> None:
        super().__init__()
        self.separator = separator

    def classes_in(self, cell: object) -> list[Json]:
        if isinstance(cell, str):
            return [part.strip() for part in cell.split(self.separator) if part.strip()]
        if isinstance(cell, list | tuple | set | frozenset | np.ndarray):
            return [as_class(c) for c in cell]
        return [as_class(cell)]

    def __call__(self, cell: object) -> Sample:
        sample, found = self.blank(), {identity(c) for c in self.classes_in(cell)}
        sample["classes"][[self._places[key] for key in found if key in self._places]] = 1
        sample["unseen"] = np.asarray(len(found - self._places.keys()), np.int64)
        return sample

    def blank(self) -> Sample:
        return {"classes": np.zeros(len(self._places), np.float32), "unseen": np.asarray(0, np.int64)}


class Number:
    """A finite number, standardised with the mean and standard deviation of the training rows.

    With `log` the natural logarithm is taken first, for targets that grow by factors (prices); zero and less is then a
    bad cell. Field: `mean`, `std` (of the logarithm with `log`; 1 where all are equal), `log`, `rows`. Sample: `value`,
    float32. BadCell for text that is no plain number ("n/a", "1,200"), NaN, infinity, true and false.
    """

    files: ClassVar[bool] = False

    def __init__(self, *, log: bool = False) -> None:
        self.log = log
        self.field: Field | None = None

    def fit(self, cells: Iterable[object]) -> Field:
        """Raises TableError when no cell holds a number."""
        values = np.fromiter(readable(cells, self.number), np.float64)
        if not len(values):
            raise TableError("target", "no training row holds a number", advice="check the task's column")
        scale = float(np.abs(values).max()) or 1.0  # squares of large numbers overflow
        mean = scale * float((values / scale).mean())
        std = scale * float((values / scale).std()) if values.min() < values.max() else 0.0
        self.field = {"mean": mean, "std": std or 1.0, "log": self.log, "rows": len(values)}
        return self.field

    def number(self, cell: object) -> float:
        """The number in a cell, its logarithm with `log`."""
        value = as_number(cell)
        if self.log and value <= 0:
            raise BadCell(f"has no logarithm: {shorten(cell, 60)}")
        return math.log(value) if self.log else value

    def __call__(self, cell: object) -> Sample:
        assert self.field is not None, "fit first"
        value = (self.number(cell) - self.field["mean"]) / self.field["std"]
        if not abs(value) < FAR:
            raise BadCell(f"is too far from the numbers of the training rows: {shorten(cell, 60)}")
        return {"value": np.asarray(value, np.float32)}

    def blank(self) -> Sample:
        return {"value": np.asarray(0, np.float32)}


def readable(cells: Iterable[object], read: Callable[[object], Value]) -> Iterator[Value]:
    """What `read` makes of the cells, passing over the bad ones."""
    for cell in cells:
        try:
            yield read(cell)
        except BadCell:
            continue


def as_class(cell: object) -> Json:
    """A class as a plain text, number or truth value. Raises BadCell for anything else."""
    value = cell.item() if isinstance(cell, np.generic) else cell
    if isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise BadCell(f"is no class (a text, a number, true or false): {shorten(cell, 60)}")


def as_number(cell: object) -> float:
    """A finite number, also from plain text in decimal or scientific notation. Raises BadCell."""
    value = cell.item() if isinstance(cell, np.generic) else cell
    is_text = isinstance(value, str) and NUMBER.fullmatch(value.strip())
    if is_text or (isinstance(value, numbers.Real | Decimal) and not isinstance(value, bool)):
        try:
            number = float(value)  # type: ignore[arg-type]
        except (OverflowError, ValueError):  # a whole number of 400 digits; a signalling NaN
            number = math.inf
        if math.isfinite(number):
            return number
    raise BadCell(f"is no finite number: {shorten(cell, 60)}")


def identity(value: Json) -> tuple[bool, Json]:
    """What makes two classes the same: 1 and 1.0 are, 1 and true are not, nor 1 and the text "1"."""
    return isinstance(value, bool), value


def natural_order(value: Json) -> tuple[int, object, Json]:
    """Sorting key: false, true, numbers by size, then text in which digits count as numbers (`a2` before `a10`)."""
    if not isinstance(value, str):
        return (0, value, value) if isinstance(value, bool) else (1, value, value)
    parts = re.split("([0-9]+)", value.casefold())  # text at even places, digits at odd ones
    digits = [p.lstrip("0") if i % 2 else p for i, p in enumerate(parts)]
    return 2, [(len(p) if i % 2 else 0, p) for i, p in enumerate(digits)], value


class Anything:
    """For tasks that make up their own questions: any cell is a target that says no more than that the row has one.

    Field: `rows` with a cell. Sample: `there`, int64, 1.
    """

    files: ClassVar[bool] = False

    def __init__(self) -> None:
        self.field: Field | None = None

    def fit(self, cells: Iterable[object]) -> Field:
        self.field = {"rows": sum(1 for _ in cells)}
        return self.field

    def __call__(self, cell: object) -> Sample:
        return {"there": np.asarray(1, np.int64)}

    def blank(self) -> Sample:
        return {"there": np.asarray(0, np.int64)}
