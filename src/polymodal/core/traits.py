"""What a person could measure of a cell, so that tables can be compared without keeping either's raw data.

A reader may have `traits(cells, samples)`, some traits of decoded cells by name; `work.drift` compares them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64


class Numbers(NamedTuple):
    """A number of each cell, NaN where there is none.

    `fitted`: it depends on what the reader learned from the training rows, which are then unlike all others.
    """

    values: Float64[np.ndarray, " n"]
    unit: str = ""
    fitted: bool = False


class Names(NamedTuple):
    """A name of each cell, None where there is none."""

    values: list[str | None]


class Words(NamedTuple):
    """The different words of each cell."""

    values: list[frozenset[str]]


Trait = Numbers | Names | Words
Traits = dict[str, Trait]


def numbers(values: Iterable[Any], unit: str = "", *, fitted: bool = False) -> Numbers:
    return Numbers(np.array(list(values), np.float64), unit, fitted)


def together(parts: Sequence[Mapping[str, Trait]]) -> Traits:
    """The traits of several lots of cells, one lot behind the other; all lots have the same traits."""
    found: Traits = {}
    for name, first in (parts[0] if parts else {}).items():
        each: list[Any] = [part[name].values for part in parts]
        joined: Any = np.concatenate(each) if isinstance(first, Numbers) else [one for some in each for one in some]
        found[name] = first._replace(values=joined)
    return found


def spread(trait: Trait, places: Sequence[int], count: int) -> Trait:
    """The trait of `count` cells, of which those at `places` have one."""
    if isinstance(trait, Numbers):
        values = np.full(count, np.nan)
        values[list(places)] = trait.values
        return trait._replace(values=values)
    known: dict[int, Any] = dict(zip(places, trait.values, strict=True))
    none: Any = None if isinstance(trait, Names) else frozenset()
    listed: Any = [known.get(at, none) for at in range(count)]
    return trait._replace(values=listed)


Measure = Callable[[Sequence[object], Sequence[dict[str, np.ndarray]]], Traits]  # a reader's `traits`
