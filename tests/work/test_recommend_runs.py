"""Recommending from tables to lists: a run learns tastes, new items at once, both forms of a history, the commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

import polymodal
from endtoend import Shell
from polymodal.api import Run
from polymodal.core import yaml12
from polymodal.core.errors import RunError, SpecError, TableError, UserError
from polymodal.data.histories import named

BAG = {"type": "bag", "width": 16}
KEEP, COLOURS = 3, ("red", "blue", "green", "white")
SPEC: dict[str, Any] = {
    "data": {"split": "column", "split_column": "split"},
    "inputs": {
        "title": {"type": "text", "columns": named(KEEP, ["title"]), "min_count": 1, "encoder": BAG},
        "facts": {"type": "tabular", "columns": named(KEEP, ["price", "brand"]), "each": 2, "numeric": ["price"]},
    },
    "tasks": {"next": {"type": "recommend", "columns": named(KEEP, ["item"]), "dim": 16}},
    "train": {"epochs": 8, "batch": 32, "lr": 0.01, "device": "cpu", "threads": 1},
}  # fmt: skip
ITEMS = [{"item": f"i{i}", "title": f"{COLOURS[i % 4]} thing", "price": float(i % 7), "brand": "ab"[i % 2]}
         for i in range(40)]  # fmt: skip


class Shop(NamedTuple):
    folder: Path
    takes: list[dict[str, Any]]
    rows: pd.DataFrame
    run: Run


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Users who like one colour each; items 28 to 39 come late, and no training row has them."""
    g, folder = np.random.default_rng(0), tmp_path_factory.mktemp("shop")
    takes = []
    for user in range(48):
        for step in range(7):
            late = step == 6
            item = int(g.integers(7, 10) if late else g.integers(0, 7)) * 4 + user % 4
            takes.append({"user": f"u{user}", "item": f"i{item}", "time": 100 * step + user})
    rows = polymodal.histories(takes, ITEMS, keep=KEEP, valid=500, test=600)
    run = polymodal.train(rows, spec=SPEC, out=folder / "run", quiet=True)
    pd.DataFrame(takes).to_csv(folder / "takes.csv", index=False)
    pd.DataFrame(ITEMS).to_csv(folder / "items.csv", index=False)
    return Shop(folder, takes, rows, run)


def colour(item: str) -> int:
    return int(item[1:]) % 4


def test_it_learns_and_new_items_are_found(shop: Shop) -> None:
    found = shop.run.metrics["test"]["tasks"]["next"]
    assert found["new_items"]["value"] == 1.0, "all test rows have items that no training row has"
    assert found["mrr"]["value"] > 0.45, "three of the twelve are right by colour: 0.61 at best, 0.26 by chance"
    assert found["coverage_10"]["ci95"] == [None, None]
    assert shop.run.metrics["valid"]["tasks"]["next"]["new_items"]["value"] == 0.0


def test_items_can_be_embedded_by_themselves(shop: Shop) -> None:
    """From the items' own table, and as they stand in a row, at any place."""
    alone = shop.run.embed(ITEMS, ["item"])["item"]
    test = shop.rows[shop.rows.split == "test"]
    there = shop.run.embed(test, ["item"])["item"]
    places = [int(name[1:]) for name in test["item"]]
    np.testing.assert_allclose(there, alone[places], atol=1e-5)
    moved = test[["before_2.item", *named(KEEP, ["title", "price", "brand"])[6:9]]].set_axis(
        ["item", "title", "price", "brand"], axis=1
    )
    found = shop.run.embed(moved, ["item"])["item"]
    np.testing.assert_allclose(found, alone[[int(name[1:]) for name in moved["item"]]], atol=1e-5)


def test_both_forms_of_a_history_recommend_alike(shop: Shop) -> None:
    before = [t for t in shop.takes if t["time"] < 600]
    takes = shop.run.recommend(before, ITEMS, k=4)
    rows = shop.run.recommend(shop.rows[shop.rows.split == "test"], ITEMS, k=4)
    assert len(takes) == len(rows) == 48 * 4
    by_user = {(line["user"], line["rank"]): line for line in takes}
    for line in rows:
        other = by_user[line["user"], line["rank"]]
        assert other["item"] == line["item"]
        assert other["score"] == pytest.approx(line["score"], abs=1e-5)
    right = [colour(line["item"]) == int(line["user"][1:]) % 4 for line in takes]
    assert np.mean(right) > 0.9


def test_what_a_user_had_is_left_out_unless_it_may_come_again(shop: Shop) -> None:
    had = {}
    for t in sorted(shop.takes, key=lambda t: t["time"]):
        had.setdefault(t["user"], []).append(t["item"])
    without = shop.run.recommend(shop.takes, ITEMS, k=40)
    assert not [line for line in without if line["item"] in had[line["user"]][-KEEP:]]
    everything = shop.run.recommend(shop.takes, ITEMS, k=50, again=True)
    assert len(everything) == 48 * 40
    scores = [line["score"] for line in everything[:40]]
    assert scores == sorted(scores, reverse=True)
    assert [line["rank"] for line in everything[:40]] == list(range(1, 41))


class Hit(NamedTuple):
    id: str
    score: float


class Stub:
    """An index of the items, by all products."""

    def __init__(self, run: Run) -> None:
        self.names = [row["item"] for row in ITEMS]
        self.all = run.embed(ITEMS, ["item"])["item"][:, 0]

    def search(self, vector: Any = None, *, k: int = 10, space: Any = None, without: Any = ()) -> list[Hit]:
        assert space == "item"
        near = self.all @ vector
        found = [Hit(self.names[i], float(near[i])) for i in np.argsort(-near)]
        return [hit for hit in found if hit.id not in without][:k]

    def has(self, ids: Any) -> list[bool]:
        return [i in self.names for i in ids]

    def vectors(self, ids: Any, space: Any = None) -> np.ndarray:
        return self.all[[self.names.index(i) for i in ids]]


def test_an_index_stands_for_the_table(shop: Shop) -> None:
    one, two = (shop.run.recommend(shop.takes, k=5, **how) for how in ({"items": ITEMS}, {"index": Stub(shop.run)}))
    assert [line["user"] for line in one] == [line["user"] for line in two]
    np.testing.assert_allclose([x["score"] for x in one], [x["score"] for x in two], atol=1e-5)


def test_an_index_on_disk(shop: Shop, shell: Shell, tmp_path: Path) -> None:
    """As `polymodal index` makes it of the items; the commands find it too."""
    pytest.importorskip("lancedb")
    folder = shop.folder
    shell.works(
        "index", folder / "run", folder / "items.csv", "--key", "item", "--of", "item", "--out", tmp_path / "index"
    )
    given = ("recommend", folder / "run", "--history", folder / "takes.csv", "-k", 3, "--json")
    one, two = (shell.works(*given, *how).out.splitlines()
                for how in (("--items", folder / "items.csv"), ("--index", tmp_path / "index")))  # fmt: skip
    assert [json.loads(x)["user"] for x in one] == [json.loads(x)["user"] for x in two]
    np.testing.assert_allclose(*([json.loads(x)["score"] for x in lines] for lines in (one, two)), atol=1e-3)


def test_a_new_user_is_recommended_something(shop: Shop) -> None:
    rows = [{"user": "nobody", **dict.fromkeys(named(KEEP, ["title", "price", "brand"])[3:])}]
    assert len(shop.run.recommend(rows, ITEMS, k=3)) == 3


def test_commands(shop: Shop, shell: Shell, tmp_path: Path) -> None:
    folder = shop.folder
    given: tuple[Any, ...] = ("--keep", KEEP, "--valid", "500", "--test", "600", "--out", tmp_path / "rows.jsonl")
    shell.works("histories", folder / "takes.csv", folder / "items.csv", *given)
    lines = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [x["split"] for x in lines] == shop.rows["split"].tolist()
    assert [x["before_3.title"] for x in lines] == [
        x if isinstance(x, str) else None for x in shop.rows["before_3.title"]
    ]
    given = ("--history", folder / "takes.csv", "--items", folder / "items.csv", "-k", 2)
    printed = shell.works("recommend", folder / "run", *given, "--json").out.splitlines()
    wanted = shop.run.recommend(shop.takes, ITEMS, k=2)
    assert [json.loads(line)["item"] for line in printed] == [line["item"] for line in wanted]
    assert shell.works("recommend", folder / "run", *given).out.splitlines()[0].split("\t")[:2] == [
        "u0",
        wanted[0]["item"],
    ]
    shell.works("recommend", folder / "run", *given, "--out", tmp_path / "found.csv")
    assert pd.read_csv(tmp_path / "found.csv")["item"].tolist() == [line["item"] for line in wanted]
    told = shell.fails("recommend", folder / "run", "--history", folder / "takes.csv")
    assert "--items" in told
    done = shell.works("evaluate", folder / "run", tmp_path / "rows.jsonl", "--json", "--quiet")
    assert json.loads(done.out)["tasks"]["next"]["new_items"]["value"] == pytest.approx(1 / 7)


def change(spec: dict[str, Any], **given: Any) -> Callable[[Path], Any]:
    plain = yaml12.loads(json.dumps(spec))
    plain["tasks"]["next"] |= given.pop("task", {})
    return lambda folder: polymodal.train(ROWS, spec=plain | given, out=folder, quiet=True)


ROWS = polymodal.histories([{"user": "u", "item": f"i{n}", "time": n} for n in range(12)], ITEMS, keep=KEEP, least=1)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"attention": {"type": "co", "heads": 2}}, "attention"),
        ({"task": {"about": ["age"]}}, "no input of this name"),
        ({"task": {"about": ["facts", "title"]}}, "leaves no input"),
    ],
)
def test_mistakes_in_a_spec(given: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=told):
        change(SPEC, **given)(tmp_path / "run")


def test_records_must_be_whole(tmp_path: Path) -> None:
    plain = yaml12.loads(json.dumps(SPEC))
    plain["inputs"]["facts"]["each"] = 3
    with pytest.raises(SpecError, match="each: 3"):
        polymodal.train(ROWS, spec=plain, out=tmp_path / "run", quiet=True)


def test_mistakes_in_what_is_asked(shop: Shop, trained: Any) -> None:
    with pytest.raises(UserError, match="needs the items"):
        shop.run.recommend(shop.takes)
    with pytest.raises(TableError, match="no column of this name"):
        shop.run.recommend([{"user": 1}], ITEMS)
    with pytest.raises(TableError, match="no column of this name"):
        shop.run.recommend(shop.takes, [{"title": "red"}])
    with pytest.raises(RunError, match="no task that recommends"):
        polymodal.load(trained.run).recommend(shop.takes, ITEMS)


def test_pictures_in_memory_need_parquet(tmp_path: Path) -> None:
    takes, items = [{"user": "u", "item": "a", "time": n} for n in range(12)], [{"item": "a", "photo": b"png"}]
    with pytest.raises(UserError, match="cannot hold the cells"):
        polymodal.histories(takes, items, out=tmp_path / "rows.csv")
    assert not (tmp_path / "rows.csv").exists()
    assert polymodal.histories(takes, items, out=tmp_path / "rows.parquet") == 12
