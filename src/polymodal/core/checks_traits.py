"""The public checker of what a reader measures of cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from polymodal.core.traits import Names, Numbers, Words


def check_traits(reader: Any, other: Any, cells: Sequence[object]) -> None:
    """Check `traits` of a reader on good `cells`; `other` is a new reader with the same field.

    There is one value for every cell, the same whatever stands beside it and whichever reader measures it, and the
    samples stay as they are. Raises AssertionError.
    """
    samples = [reader.decode(cell) for cell in cells]
    kept = [{k: v.copy() for k, v in sample.items()} for sample in samples]
    found = reader.traits(list(cells), samples)
    for name, trait in found.items():
        assert isinstance(trait, Numbers | Names | Words), f"{name}: {type(trait).__name__} is no kind of trait"
        assert len(trait.values) == len(cells), f"{name}: {len(trait.values)} values of {len(cells)} cells"
    for number, cell in enumerate(cells):
        for key, array in samples[number].items():
            same = np.array_equal(array, kept[number][key], equal_nan=array.dtype.kind == "f")
            assert same, f"cell {number}: traits changed the decoded sample"
        alone = other.traits([cell], [other.decode(cell)])
        for name in found.keys() & alone.keys():
            one, two = alone[name].values[0], found[name].values[number]
            close = np.isclose(one, two, equal_nan=True) if isinstance(found[name], Numbers) else one == two
            assert close, f"cell {number}: {name} is {one!r} by itself in a new reader, {two!r} among others"
