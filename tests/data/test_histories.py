"""Histories: what came strictly before against a loop, a split in time, no leak, names, mistakes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymodal.core.errors import SpecError, TableError
from polymodal.data.dataset import Dataset, InputPlan
from polymodal.data.histories import Names, histories, latest, named
from polymodal.data.ledger import Ledger
from polymodal.data.raw import columns_of
from polymodal.data.splits import Part
from polymodal.data.tables import open_table
from polymodal.modalities.tabular.read import TabularReader

ITEMS = [{"item": name, "title": f"title of {name}", "price": n} for n, name in enumerate("abcdefgh")]
Takes = list[dict[str, Any]]


def made(takes: Takes, items: Any = ITEMS, **given: Any) -> list[dict[str, Any]]:
    return list(histories(open_table(takes), open_table(items), Names(), **{"valid": None, "test": None, **given}))


takes_by_lot = st.lists(
    st.builds(
        lambda u, i, t: {"user": u, "item": i, "time": t},
        st.sampled_from(["ann", "bob", None]), st.sampled_from("abcdefgh"), st.integers(0, 6),
    ),
    min_size=1, max_size=25,
)  # fmt: skip


@settings(deadline=None, max_examples=25)
@given(takes_by_lot, st.integers(1, 4))
def test_against_a_loop(takes: Takes, keep: int) -> None:
    takes = [*takes, {"user": "last", "item": "a", "time": 9}]  # a column of nothing but None has no type
    found = made(takes, keep=keep)
    assert len(found) == len(takes)
    for number, (take, line) in enumerate(zip(takes, found, strict=True)):
        earlier = [(t["time"], n, t["item"]) for n, t in enumerate(takes)
                   if take["user"] is not None and t["user"] == take["user"] and t["time"] < take["time"]]  # fmt: skip
        wanted = [item for _, _, item in sorted(earlier, reverse=True)[:keep]]
        assert {k: line[k] for k in take} == take, number
        assert line["title"] == f"title of {take['item']}"
        for k, name in enumerate([*wanted, *[None] * keep][:keep], 1):
            assert line[f"before_{k}.item"] == name
            assert line[f"before_{k}.title"] == (name and f"title of {name}")
    assert list(found[0]) == [
        "user",
        "item",
        "time",
        "split",
        "title",
        "price",
        *named(keep, ["item", "title", "price"])[3:],
    ]


@settings(deadline=None, max_examples=25)
@given(takes_by_lot)
def test_nothing_leaks_from_later(takes: Takes) -> None:
    """No row of a part is later than any row of a part that is measured after it, and no history than its row."""
    takes = [*takes, {"user": "x", "item": "a", "time": 7}, {"user": "x", "item": "b", "time": 8},
             {"user": "y", "item": "c", "time": -1}]  # fmt: skip
    found = made([t | {"at": t["time"]} for t in takes], valid=7, test=8)
    ends = {part: [line["time"] for line in found if line["split"] == part] for part in ("train", "valid", "test")}
    assert max(ends["train"]) < min(ends["valid"]) <= max(ends["valid"]) < min(ends["test"])
    shares = made(takes, valid=0.2, test=0.2)
    times = {part: [x["time"] for x in shares if x["split"] == part] for part in ("train", "valid", "test")}
    assert max(times["train"]) < min(times["valid"])
    assert max(times["valid"]) < min(times["test"])
    assert len(times["test"]) >= max(1, round(0.2 * len(takes)))
    when = {(t["user"], t["item"]): [] for t in takes}
    for t in takes:
        when[t["user"], t["item"]].append(t["time"])
    for line in shares:
        for k in range(1, 9):
            name = line[f"before_{k}.item"]
            assert name is None or min(when[line["user"], name]) < line["time"]


@pytest.mark.parametrize(
    "times",
    [
        [3, 1, 2],
        [3.5, -1.0, 2],
        ["2024-03-01", "2023-12-31", "2024-01-31"],
        ["2024-01-01T10:00:00", "2024-01-01T09:59:59", "2024-01-01T09:59:59.5"],
        ["2024-01-01T10:00:00+00:00", "2024-01-01T10:30:00+02:00", "2024-01-01T09:00:00Z"],
    ],
)
def test_times(times: list[Any]) -> None:
    takes = [{"user": "u", "item": i, "time": t} for i, t in zip("abc", times, strict=True)]
    (first, second, third) = made(takes)
    assert [first["before_1.item"], first["before_2.item"], first["before_3.item"]] == ["c", "b", None]
    assert [second["before_1.item"], third["before_1.item"]] == [None, "b"]


def test_other_names_and_columns() -> None:
    takes = [{"who": 1, "sku": 5, "at": 1, "shop": "x"}, {"who": 1, "sku": "7", "at": 2, "shop": "y"}]
    items = [{"sku": "5", "photo": b"5"}, {"sku": 7.0, "photo": b"7"}]
    found = list(
        histories(open_table(takes), open_table(items), Names("who", "sku", "at"), keep=1, valid=None, test=None)
    )
    assert found[1]["shop"] == "y"
    assert found[1]["photo"] == b"7"
    assert found[1]["before_1.photo"] == b"5"
    assert found[0]["before_1.photo"] is None


def test_rows_of_little_history_can_be_left_out() -> None:
    takes = [{"user": "u", "item": i, "time": n} for n, i in enumerate("abcd")]
    assert [line["item"] for line in made(takes, least=2)] == ["c", "d"]


def test_latest() -> None:
    told = [("bob", "a", 5), ("ann", "b", 1), ("bob", "c", 4), ("ann", "d", 3), ("bob", "e", 9), (None, "f", 0)]
    takes = [{"user": u, "item": i, "time": t} for u, i, t in told]
    found = latest(open_table(takes), Names(), keep=2)
    assert found.users == ["bob", "ann", None]
    assert found.items == [["e", "a"], ["d", "b"], ["f"]]


def test_a_row_may_have_several_records() -> None:
    """`each`: cells of further records go by the names of the first one's columns, and are read alike."""
    rows = [{"price": 1.0, "brand": "a", "b.price": 2.0, "b.brand": "b"}, {"price": 3.0, "brand": "b", "b.price": None}]
    reader = TabularReader(numeric=["price"], each=2)
    columns = ("price", "brand", "b.price", "b.brand")
    plan = {"facts": InputPlan(reader, columns)}
    dataset = Dataset(Part(open_table(rows), np.arange(2)), plan, {}, ledger=Ledger())
    assert [c["price"] for c in dataset.cells("facts")] == [1.0, 2.0, 3.0]
    reader.fit(dataset.cells("facts"))
    batch, _ = dataset.load(np.arange(2))
    assert batch is not None
    found = batch.inputs["facts"]
    assert found.index.shape == (2, 2)
    assert found.index[1, 1] == -1, "a record of which nothing is there"
    one = reader({"price": 2.0, "brand": "b"})
    at = int(found.index[0, 1])
    assert {k: v[at].tolist() for k, v in found.data.items()} == {k: v.tolist() for k, v in one.items()}
    with pytest.raises(SpecError, match="each: 3"):
        columns_of(TabularReader(each=3), columns)


def take(**given: Any) -> Takes:
    return [{"user": "u", "item": "a", "time": 1} | given, {"user": "u", "item": "b", "time": 2}]


@pytest.mark.parametrize(
    ("takes", "items", "settings", "told"),
    [
        (take(item="zzz"), ITEMS, {}, "items that are not in"),
        (take(), [*ITEMS, {"item": "a"}], {}, "two rows of one item, 0 and 8"),
        (take(time="soon"), ITEMS, {}, "is no time"),
        (take(time=None), ITEMS, {}, "is no time"),
        (take(time="2024-01-01"), ITEMS, {}, "numbers and dates"),
        (take(), ITEMS, {"test": 0.99}, "leaves a part without rows"),
        (take(), ITEMS, {"test": 3}, "leaves a part without rows"),
        (take(), ITEMS, {"test": "late"}, "is no time"),
        (take(title="x"), ITEMS, {}, "of the same name"),
        (take(split="x"), ITEMS, {}, "of the same name"),
        ([{"user": "u", "time": 1}], ITEMS, {}, "no column of this name"),
        (take(), [{"title": "x"}], {}, "no column of this name"),
        (take(item=None)[:1] * 2, ITEMS, {"skip_unknown": True}, "no interaction with an item"),
    ],
)
def test_mistakes(takes: Takes, items: Takes, settings: dict[str, Any], told: str) -> None:
    with pytest.raises(TableError, match=told):
        made(takes, items, **settings)


def test_unknown_items_can_be_passed_over() -> None:
    found = made([*take(), {"user": "u", "item": "zzz", "time": 3}, {"user": "u", "item": "c", "time": 4}],
                 skip_unknown=True, keep=1)  # fmt: skip
    assert [line["before_1.item"] for line in found] == [None, "a", "b"]
