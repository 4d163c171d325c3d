"""Early fusion: aligned inputs of one type are read each by itself and joined before they are encoded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np

from polymodal.core.contracts import Field, Sample
from polymodal.core.errors import BadCell, SpecError, shorten
from polymodal.core.schema import Json
from polymodal.core.seeds import Rng, generator
from polymodal.core.traits import Measure, Traits, spread

_T = TypeVar("_T")


class Stacked:
    """Several readers of one class -> one sample: their arrays one behind the other along `stack_axis`.

    Pictures are joined channel by channel, spectrograms band by band, records column by column. A cell is a dict from
    a member's name to its cell, and `columns` says where in the table that is. A member that is missing is its
    reader's blank, zero after normalisation; along an axis that varies in length (time) the shorter ones are padded
    with zeros. All members are augmented by generators seeded alike, so that they are cropped, turned and moved
    together.

    What the readers can do besides (`corrupt`, `fingerprints`) the stack can do too. Raises BadCell, with the member's
    name, where a member's cell is bad, and SpecError where the readers do not go together.
    """

    record = True  # one cell of all columns

    def __init__(self, members: Mapping[str, Any], columns: Mapping[str, tuple[str, ...]]) -> None:
        self.members, self.columns = dict(members), dict(columns)
        first = next(iter(self.members.values()))
        self._join: Callable[[Sequence[Any]], Field] = first.stacked
        self.axes: dict[str, int] = first.stack_axis
        self.ragged: frozenset[str] = first.ragged
        self.files: bool = any(m.files for m in self.members.values())
        self._field: Field | None = None
        for name, member in self.members.items():
            if not member.record and len(self.columns[name]) > 1:
                raise SpecError(f"stack.{name}.columns", "is one picture or sound of the stack, from one column",
                                given=list(self.columns[name]), advice="a name in the stack for each")  # fmt: skip

    @property
    def parts(self) -> dict[str, tuple[Any, tuple[str, ...]]]:
        """By name every member and its columns: how cells are opened."""
        return {name: (member, self.columns[name]) for name, member in self.members.items()}

    @property
    def augments(self) -> bool:
        return any(m.augments for m in self.members.values())

    @property
    def field(self) -> Field | None:
        return self._field

    @field.setter
    def field(self, field: Field | None) -> None:
        self._field = field
        for name, member in self.members.items():
            member.field = None if field is None else field["members"][name]

    def fit(self, cells: Iterable[object]) -> Field:
        """The field of what is joined, `members`, that of every reader, fitted on its own cells, and `words`.

        `words` are how many there are in each member's fingerprints.
        """
        walk = list(cells) if iter(cells) is cells else cells
        for name, member in self.members.items():
            try:
                member.fit(_Own(self, name, walk))
            except SpecError as error:
                raise SpecError(f"stack.{name}.{error.where}", error.problem, given=error.given,
                                advice=error.advice) from None  # fmt: skip
        fields = {n: m.field for n, m in self.members.items()}
        words = {n: _words(m, _Own(self, n, walk)) for n, m in self.members.items() if hasattr(m, "fingerprints")}
        self.field = {**self._join(list(self.members.values())), "members": fields, "words": words}
        return self._field or {}

    def own(self, name: str, cell: object) -> Any:
        """A member's part of a cell, None where it is missing. Raises BadCell."""
        if not isinstance(cell, dict):
            raise BadCell(f"a cell for each of {', '.join(self.members)} is needed, not {shorten(cell, 60)}")
        return cell.get(name)

    def _each(self, cell: object, ask: Callable[[Any, Any], _T]) -> dict[str, _T]:
        """What every member that is there says of its part of a cell. Raises BadCell."""
        found: dict[str, _T] = {}
        for name, member in self.members.items():
            part = self.own(name, cell)
            try:
                found |= {} if part is None else {name: ask(member, part)}
            except BadCell as error:
                raise BadCell(f"{name}: {error.reason}") from None
        return found

    def cost(self, cell: object) -> int:
        """The longest member's. Raises BadCell."""
        return max(self._each(cell, lambda member, part: member.cost(part)).values(), default=0)

    def decode(self, cell: object) -> Sample:
        """What each member that is there decodes, its arrays as `0.name`, `1.name`, ..."""
        found = self._each(cell, lambda member, part: member.decode(part))
        if not found:
            raise BadCell(f"none of {', '.join(self.members)} is there")
        places = {name: at for at, name in enumerate(self.members)}
        return {f"{places[n]}.{key}": array for n, sample in found.items() for key, array in sample.items()}

    def finish(self, sample: Sample, rng: Rng | None) -> Sample:
        seed = None if rng is None else int(rng.integers(1 << 62))
        parts = []
        for member, part in zip(self.members.values(), self._parts(sample), strict=True):
            alike = None if seed is None else generator("stack", seed)
            parts.append(member.finish(part, alike) if part else member.blank())
        return self._joined(parts)

    def __call__(self, cell: object, rng: Rng | None = None) -> Sample:
        return self.finish(self.decode(cell), rng)

    def blank(self) -> Sample:
        return self._joined([m.blank() for m in self.members.values()])

    def show(self, cell: object) -> Json:
        """What every member that is there shows."""
        return {"kind": "several", "data": list(self._each(cell, lambda member, part: member.show(part)).values())}

    def _parts(self, sample: Sample) -> list[Sample]:
        """A decoded sample, member by member; empty for those that are missing."""
        parts: list[Sample] = [{} for _ in self.members]
        for name, array in sample.items():
            at, _, key = name.partition(".")
            parts[int(at)][key] = array
        return parts

    def _joined(self, parts: Sequence[Sample]) -> Sample:
        joined = {}
        for key, axis in self.axes.items():
            arrays = [part[key] for part in parts]
            if key in self.ragged:
                longest = max(map(len, arrays))
                arrays = [np.pad(a, [(0, longest - len(a))] + [(0, 0)] * (a.ndim - 1)) for a in arrays]
            joined[key] = np.concatenate(arrays, axis)
        return joined

    @property
    def alike(self) -> int:
        return sum(m.alike for m in self.members.values())

    @property
    def fingerprints(self) -> Callable[[Sequence[object], Sequence[Sample]], np.ndarray]:
        """The members' words side by side, zeros for a missing one; there where all readers have them."""
        return partial(self._fingerprints, [m.fingerprints for m in self.members.values()])

    def _fingerprints(self, ways: list[Any], cells: Sequence[object], samples: Sequence[Sample]) -> np.ndarray:
        parts = [self._parts(sample) for sample in samples]
        columns = []
        for at, (name, way) in enumerate(zip(self.members, ways, strict=True)):
            there = [i for i, part in enumerate(parts) if part[at]]
            column = np.zeros((len(parts), (self._field or {})["words"][name]), np.uint64)
            if there and column.size:
                column[there] = way([self.own(name, cells[i]) for i in there], [parts[i][at] for i in there])
            columns.append(column)
        return np.concatenate(columns, axis=1)

    @property
    def traits(self) -> Measure:
        """The members' traits under `member.trait`; there where all readers have them."""
        return partial(self._traits, [m.traits for m in self.members.values()])

    def _traits(self, ways: list[Measure], cells: Sequence[object], samples: Sequence[Sample]) -> Traits:
        parts = [self._parts(sample) for sample in samples]
        found: Traits = {}
        for at, (name, way) in enumerate(zip(self.members, ways, strict=True)):
            there = [i for i, part in enumerate(parts) if part[at]]
            own = way([self.own(name, cells[i]) for i in there], [parts[i][at] for i in there]) if there else {}
            found |= {f"{name}.{trait}": spread(one, there, len(parts)) for trait, one in own.items()}
        return found

    @property
    def corrupt(self) -> Callable[[dict[str, np.ndarray], float, Rng], dict[str, np.ndarray]]:
        """Every member's own noise on its part of the joined cells; there where all readers have it."""
        return partial(self._corrupt, [m.corrupt for m in self.members.values()])

    def _corrupt(self, ways: list[Any], data: dict[str, np.ndarray], level: float, rng: Rng) -> dict[str, np.ndarray]:
        blanks = [m.blank() for m in self.members.values()]
        ends = {k: np.cumsum([b[k].shape[a] for b in blanks])[:-1] for k, a in self.axes.items()}
        split = {k: np.split(data[k], ends[k], a + 1) for k, a in self.axes.items()}
        rest = {k: v for k, v in data.items() if k not in split}
        found = [way({**rest, **{k: v[at] for k, v in split.items()}}, level, rng) for at, way in enumerate(ways)]
        return {**data, **{k: np.concatenate([one[k] for one in found], a + 1) for k, a in self.axes.items()}}


def _words(member: Any, cells: Iterable[object]) -> int:
    """How many words a member's fingerprints have; none where no cell can be read."""
    for cell in cells:
        try:
            return member.fingerprints([cell], [member.decode(cell)]).shape[1]
        except BadCell:
            continue
    return 0


class _Own:
    """A member's present cells among those of the stack, over and over."""

    def __init__(self, stack: Stacked, name: str, cells: Iterable[object]) -> None:
        self._stack, self._name, self._cells = stack, name, cells

    def __iter__(self) -> Iterator[Any]:
        for cell in self._cells:
            part = self._stack.own(self._name, cell) if isinstance(cell, dict) else None
            if part is not None:
                yield part
