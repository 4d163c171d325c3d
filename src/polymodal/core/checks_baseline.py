"""The public checker of the Baseline contract: call it on a baseline of your own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from polymodal.core.contracts import Answers, Baseline, Block, Goal
from polymodal.core.seeds import generator

CLASSES = 3


def check_baseline(make: Callable[[], Baseline], block: Block) -> None:
    """Check the Baseline contract on a block of at least twelve rows, in some of which cells are missing.

    Features are a row's own and leave the block as it was; for a class, a set of classes and a number: answers of the
    promised form, finite, the same for every fit, for each row by itself and in any order; fitting again disturbs
    nothing that was fitted before; one class only, and rows with nothing at all, are borne. Raises AssertionError.
    """
    part = make()
    name = type(part).__name__
    assert isinstance(part, Baseline), f"{name} lacks takes, features or fit"
    assert block.rows >= 12, "give at least twelve rows"
    kept = {n: {k: v.copy() for k, v in given.data.items()} for n, given in block.inputs.items()}
    features = part.features(block)
    for n, given in block.inputs.items():
        assert all(np.array_equal(v, kept[n][k]) for k, v in given.data.items()), f"{name} changed input {n!r}"
    _check_rows(part, block, features)
    nothing = part.features(_without(block))
    fitted: list[tuple[Goal, Callable[[np.ndarray], Answers], Answers]] = []
    for goal in goals(block.rows):
        answer = part.fit(features, goal)
        found = answer(features)
        _check_form(goal, found, block.rows)
        _check_form(goal, answer(nothing), block.rows)
        _same(make().fit(features, goal)(features), found, f"{goal.kind}: fitted again")
        order = generator("check").permutation(block.rows)
        _same(answer(features[order]), {k: v[order] for k, v in found.items()}, f"{goal.kind}: in another order")
        _same(answer(features[-1:]), {k: v[-1:] for k, v in found.items()}, f"{goal.kind}: the last row alone")
        fitted.append((goal, answer, found))
    for goal, answer, found in fitted:
        _same(answer(features), found, f"{goal.kind}: after fitting for others")


def goals(rows: int) -> list[Goal]:
    """A class, a set of classes and a number for every row; and a class that all rows have."""
    draw = generator("goals")
    one = draw.integers(0, CLASSES, rows)
    some = draw.random((rows, CLASSES)) < 0.4
    return [
        Goal("class", one, CLASSES, lambda found, at: float((found["logits"].argmax(1) == one[at]).mean())),
        Goal("class", np.full(rows, 1), CLASSES, lambda found, at: 0.0),
        Goal("classes", some, CLASSES, lambda found, at: float(((found["logits"] > 0) == some[at]).mean())),
        Goal("value", (number := draw.normal(size=rows)), 0,
             lambda found, at: -float(((found["value"] - number[at]) ** 2).mean())),
    ]  # fmt: skip


def part_of(block: Block, rows: np.ndarray) -> Block:
    """Some rows of a block."""
    inputs = {
        name: given._replace(cells=[given.cells[row] for row in rows], index=given.index[rows])
        for name, given in block.inputs.items()
    }
    return Block(inputs, lambda: {name: seen[rows] for name, seen in block.encode().items()}, len(rows))


def _without(block: Block) -> Block:
    """The block with every cell missing."""
    inputs = {
        name: given._replace(cells=[[None] * len(row) for row in given.cells], index=np.full_like(given.index, -1))
        for name, given in block.inputs.items()
    }
    return Block(inputs, lambda: {name: np.zeros_like(seen) for name, seen in block.encode().items()}, block.rows)


def _check_rows(part: Baseline, block: Block, features: np.ndarray) -> None:
    assert len(features) == block.rows, f"{len(features)} rows of features for {block.rows} rows"
    for rows in (np.arange(5), np.arange(5, block.rows), np.array([3])):
        found = part.features(part_of(block, rows))
        same = found == features[rows]
        if found.dtype != object:
            same = np.isclose(found, features[rows], rtol=1e-5, atol=1e-6, equal_nan=True)
        assert np.all(same), "the features of a row depend on the other rows of its block"


def _check_form(goal: Goal, found: Answers, rows: int) -> None:
    name, shape = ("value", (rows,)) if goal.kind == "value" else ("logits", (rows, goal.classes))
    assert set(found) == {name}, f"{goal.kind}: answers {sorted(found)}, not {name}"
    assert found[name].shape == shape, f"{goal.kind}: {name} is {found[name].shape}, not {shape}"
    assert np.isfinite(found[name]).all(), f"{goal.kind}: {name} is not finite"
    if goal.kind == "class":
        assert np.allclose(np.exp(found[name]).sum(1), 1.0, atol=1e-6), "logits of a class are not log-probabilities"


def _same(one: Answers, two: Answers, what: str) -> None:
    for name in two:
        assert np.allclose(one[name], two[name], rtol=1e-6, atol=1e-8), f"{what}: {name} differs"
