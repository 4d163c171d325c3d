"""The public checker of a reader's noise: call it on your own. It raises AssertionError with what was broken."""

from __future__ import annotations

from typing import Any

import numpy as np

from polymodal.core.seeds import generator

LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
MASK = "_mask"


def check_noise(reader: Any, data: dict[str, np.ndarray], seed: int = 0) -> None:
    """Check `reader.corrupt` on collated cells [N, ...], three different ones or more.

    Names, shapes, dtypes and masks stay, padding too; numbers stay finite; level 0 changes nothing; the same generator
    gives the same bytes; nothing is changed in place; a higher level goes farther from the cells; at level 1 they are
    nearly as far from themselves as from each other (half as far at least).
    """
    rows = len(next(iter(data.values())))
    assert rows >= 3, "give at least three cells"
    kept = {k: v.copy() for k, v in data.items()}
    made = [reader.corrupt(data, level, generator("check noise", seed)) for level in LEVELS]
    _check_equal(data, kept, "the cells were changed in place")
    again = [reader.corrupt(data, level, generator("check noise", seed)) for level in LEVELS]
    for level, one, two in zip(LEVELS, made, again, strict=True):
        _check_form(level, one, data)
        _check_equal(one, two, f"level {level}: the same generator gives other noise")
    _check_equal(made[0], data, "level 0 changes the cells")
    far = [_distance(one, data) for one in made]
    for level, here, next_one in zip(LEVELS[1:], far[:-1], far[1:], strict=True):
        assert next_one > here, f"level {level} is no farther from the cells than the one before: {next_one:.4g}"
    apart = np.mean([_distance(_turned(data, by), data) for by in range(1, rows)])
    assert far[-1] >= apart / 2, f"level 1 leaves too much: {far[-1]:.4g} from the cells, which are {apart:.4g} apart"


def _check_form(level: float, one: dict[str, np.ndarray], data: dict[str, np.ndarray]) -> None:
    assert list(one) == list(data), f"level {level}: names {list(one)}, not {list(data)}"
    for name, array in data.items():
        form, was = (f"{a.dtype}{a.shape}" for a in (one[name], array))
        assert form == was, f"level {level}: {name} is {form}, not {was}"
        assert np.isfinite(one[name]).all(), f"level {level}: {name} is not finite"
        if name.endswith(MASK):
            assert np.array_equal(one[name], array), f"level {level}: {name} was changed"
        mask = data.get(name + MASK)
        if mask is not None:
            assert np.array_equal(one[name][~mask], array[~mask]), f"level {level}: padding of {name} was changed"


def _check_equal(one: dict[str, np.ndarray], two: dict[str, np.ndarray], what: str) -> None:
    for name in two:
        assert one[name].tobytes() == two[name].tobytes(), f"{what}: {name}"


def _distance(one: dict[str, np.ndarray], two: dict[str, np.ndarray]) -> float:
    """Mean over the real places of each array, summed: distance of numbers, share of ids and codes that differ."""
    total = 0.0
    for name in (n for n in one if not n.endswith(MASK) and one[n].size):
        plain = one[name].dtype.kind in "iub" and one[name].dtype != np.uint8
        apart = one[name] != two[name] if plain else np.abs(one[name].astype(np.float64) - two[name])
        mask = two.get(name + MASK)
        total += float(apart.mean() if mask is None else apart[mask].mean())
    return total


def _turned(data: dict[str, np.ndarray], by: int) -> dict[str, np.ndarray]:
    return {name: np.roll(array, by, 0) for name, array in data.items()}
