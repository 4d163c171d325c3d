"""Splits: every row in one part, groups together, classes in proportion, the same for the same seed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymodal.core.errors import SpecError, TableError
from polymodal.core.settings import Data
from polymodal.data.splits import Part, make_splits
from polymodal.data.tables import open_table


def split(columns: dict, seed: int = 0, **data: Any) -> dict[str, list[int]]:
    table = open_table(columns)
    parts = make_splits(table, Data(**data), "y", seed)
    for part in parts.values():
        assert part.rows.dtype == np.int64
        assert (np.diff(part.rows) > 0).all()
    return {n: p.rows.tolist() for n, p in parts.items()}


def assert_partition(parts: dict[str, list[int]], rows: int) -> None:
    assert sorted(r for part in parts.values() for r in part) == list(range(rows))


def test_a_tenth_is_held_out_when_nothing_is_said() -> None:
    parts = split({"y": list(range(200))})
    assert list(parts) == ["train", "valid"]
    assert [len(p) for p in parts.values()] == [180, 20]
    assert_partition(parts, 200)


@settings(max_examples=30, deadline=None)
@given(st.integers(10, 200), st.floats(0.05, 0.4), st.floats(0.05, 0.4), st.integers(0, 5))
def test_random(rows: int, valid: float, test: float, seed: int) -> None:
    columns = {"y": [f"c{i}" for i in range(rows)]}
    parts = split(columns, seed, valid=valid, test=test)
    assert_partition(parts, rows)
    assert len(parts["valid"]) == max(1, round(valid * rows))
    assert len(parts["test"]) == max(1, round(test * rows))
    assert parts == split(columns, seed, valid=valid, test=test)
    assert parts != split(columns, seed + 1, valid=valid, test=test) or rows < 15


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=2, max_size=8), st.integers(0, 5))
def test_stratified_keeps_classes_in_proportion(sizes: list[int], seed: int) -> None:
    y = [f"class {c}" for c, n in enumerate([*sizes, 40]) for _ in range(n)]
    parts = split({"y": y}, seed, split="stratified", valid=0.2, test=0.1)
    assert_partition(parts, len(y))
    whole = Counter(y)
    for name, share in (("valid", 0.2), ("test", 0.1)):
        held = Counter(y[r] for r in parts[name])
        alone = sum(n == 1 for n in whole.values())  # they stay in training, and others are held out in their place
        for c, n in whole.items():
            assert abs(held[c] - share * n) < 1 + share * alone or n == 1
            assert n > 1 or not held[c]
        assert len(parts[name]) <= max(1, round(share * len(y)))
    assert set(whole) == {y[r] for r in parts["train"]}


def test_stratified_reaches_the_share_over_many_small_classes() -> None:
    y = [str(i // 10) for i in range(400)]
    parts = split({"y": y}, split="stratified", valid=0.25, test=0.15)
    assert [len(parts[n]) for n in ("train", "valid", "test")] == [240, 100, 60]
    assert {Counter(y[r] for r in parts["valid"])[c] for c in set(y)} == {2, 3}
    with pytest.raises(SpecError, match="has no rows left"):
        split({"y": list(range(30))}, split="stratified")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([*"abcdefghijklmnop", None]), min_size=60, max_size=120), st.integers(0, 5))
def test_groups_are_never_separated(groups: list[str | None], seed: int) -> None:
    groups = [*groups, *"abcdefgh", None]
    parts = split(
        {"y": list(range(len(groups))), "g": groups}, seed, split="grouped", split_column="g", valid=0.2, test=0.2
    )
    assert_partition(parts, len(groups))
    places: dict[str | None, set[str]] = {}
    for name, rows in parts.items():
        for r in rows:
            places.setdefault(groups[r], set()).add(name)
    assert all(len(found) == 1 for found in places.values())
    assert places.get(None, {"train"}) == {"train"}
    largest = max(Counter(groups).values())
    assert abs(len(parts["test"]) - 0.2 * len(groups)) <= largest


def test_groups_larger_than_the_share() -> None:
    parts = split({"y": list(range(30)), "g": ["a"] * 14 + ["b"] * 16}, split="grouped", split_column="g", valid=0.1)
    assert parts["valid"] == list(range(14))
    with pytest.raises(SpecError, match=r"data\.train: has no rows left"):
        split({"y": [1, 2], "g": ["a", "a"]}, split="grouped", split_column="g")


def test_column_by_its_usual_names() -> None:
    names = ["train", "Val", "test", None, "other", "dev", "validation", "valid"]
    parts = split({"y": list(range(8)), "s": names}, split="column", split_column="s")
    assert parts == {"train": [0, 3, 4], "valid": [1, 5, 6, 7], "test": [2]}


def test_column_by_given_values() -> None:
    folds = [i % 5 for i in range(50)]
    for values in (folds, list(map(str, folds)), list(map(float, folds))):
        parts = split({"y": list(range(50)), "fold": values}, split="column", split_column="fold", split_test="0")
        assert parts["test"] == list(range(0, 50, 5))
        assert len(parts["valid"]) == 4  # a tenth of the 40 that are left
        assert_partition(parts, 50)
    with pytest.raises(SpecError, match=r"data\.split_test: no row(.|\n)*'4'"):
        split({"y": list(range(50)), "fold": folds}, split="column", split_column="fold", split_test="9")


def test_tables_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text("y\n1\n2\n")
    train, test = open_table({"y": list(range(10))}), open_table({"y": [5]})
    data = Data(valid=str(tmp_path / "v.csv"))
    object.__setattr__(data, "test", test)  # a table that is open already
    parts = make_splits(train, data, "y", 0)
    assert parts["train"].rows.tolist() == list(range(10))
    assert parts["valid"].table.column("y") == ["1", "2"]
    assert parts["test"] == Part(test, parts["test"].rows)
    opened: list[str] = []
    make_splits(train, Data(valid="somewhere.csv"), "y", 0, lambda source: (opened.append(source), test)[1])
    assert opened == ["somewhere.csv"]


@pytest.mark.parametrize(
    ("data", "where"),
    [
        ({"valid": 1.0}, "data.train"),
        ({"valid": 0.6, "test": 0.4}, "data.train"),
        ({"valid": 0.0}, "data.valid"),
        ({"split": "grouped"}, "data.split_column"),
        ({"split": "grouped", "split_column": "gg"}, "data.split_column"),
        ({"split": "column", "split_column": "g", "test": 0.5}, "data.test"),
        ({"split": "column", "split_column": "nope"}, "data.split_column"),
    ],
)
def test_mistakes_are_named(data: dict, where: str) -> None:
    with pytest.raises((SpecError, TableError)) as caught:
        split({"y": list(range(10)), "g": ["train"] * 8 + ["test"] * 2}, **data)
    assert caught.value.where == where
