"""Datasets: what is read, what is bad, what is shared, and that no row takes another's place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polymodal.core.errors import BadCell, TableError
from polymodal.core.seeds import generator, row_keys
from polymodal.core.streams import Batch
from polymodal.data import raw, source
from polymodal.data.cache import Cache
from polymodal.data.cells import LARGEST, digest, open_file
from polymodal.data.dataset import Dataset, InputPlan, TargetPlan
from polymodal.data.ledger import Ledger
from polymodal.data.splits import Part
from polymodal.data.tables import Table, open_table

FILES = {"a.bin": b"aaaa1", "b.bin": b"bbbb22", "same.bin": b"aaaa1", "short.bin": b"x"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "dir.bin").mkdir()
    return tmp_path


def table_of(folder: Path, **columns: list) -> Table:
    return open_table(columns, root=folder)


def make(small: Any, table: Table, rows: Any = None, *, cache: Cache | None = None, **more: Any) -> Dataset:
    """Inputs for the columns that are there: file and file2, text, and u, v as a record; a target for every y."""
    inputs = {}
    if "file" in table.columns:
        columns = tuple(c for c in ("file", "file2") if c in table.columns)
        inputs["bytes"] = InputPlan(more.pop("reader", None) or small.Bytes(), columns)
    if "text" in table.columns:
        inputs["letters"] = InputPlan(small.Letters(), ("text",), more.pop("keep", True))
    if "u" in table.columns:
        inputs["record"] = InputPlan(small.Records(), ("u", "v"))
    targets = {c: TargetPlan(small.Number(), (c,)) for c in table.columns if c.startswith("y")}
    rows = np.arange(len(table)) if rows is None else np.array(rows)
    more.setdefault("ledger", Ledger())
    return Dataset(Part(table, rows), inputs, targets, cache=cache, **more)


def loaded(dataset: Dataset, rows: Any, **how: Any) -> Batch:
    batch, entries = dataset.load(np.array(rows), **how)
    assert batch is not None
    assert not entries
    return batch


def per_row(batch: Batch, name: str, array: str) -> list:
    """What each row holds of an input, column by column; None where missing."""
    cells = batch.inputs[name]
    mask = cells.data.get(f"{array}_mask")
    values = [x[m].tolist() if mask is not None else x.tolist() for x, m in zip(
        cells.data[array], mask if mask is not None else cells.data[array], strict=True)]  # fmt: skip
    return [[None if i < 0 else values[i] for i in row] for row in cells.index.tolist()]


def floats(name: str) -> list[float]:
    return [b / 2 for b in FILES[name][:4]]


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("limit", [None, 0, 1])
def test_a_batch_holds_its_rows(small: Any, folder: Path, scan: bool, limit: int | None) -> None:
    """Values, sharing, ids, missing cells, targets, keys; with and without a scan, and a cache in memory or on disk."""
    table = table_of(
        folder,
        file=["a.bin", "b.bin", None, "a.bin"],
        file2=["same.bin", None, "", str(folder / "b.bin")],
        text=["xy", "z", "xy", ""],
        u=["1", None, "2", "1"],
        v=[2.5, None, None, 2.5],
        y=["1", "2", "3", "4"],
        y2=[None, "5", "6", None],
    )
    dataset = make(small, table, cache=None if limit is None else Cache(limit))
    if scan:
        dataset.scan()
        assert dataset.rows.tolist() == [0, 1, 2, 3]
    for _ in range(2):
        batch = loaded(dataset, [3, 0, 1, 2, 0], seed=1, epoch=2)
        a, b = floats("a.bin"), floats("b.bin")
        assert per_row(batch, "bytes", "x") == [[a, b], [a, a], [b, None], [None, None], [a, a]]
        assert len(batch.inputs["bytes"].id) == 2
        assert batch.inputs["bytes"].id.tolist() == [digest(b"aaaa1"), digest(b"bbbb22")]
        assert per_row(batch, "letters", "ids") == [[None], [[120, 121]], [[122]], [[120, 121]], [[120, 121]]]
        assert batch.inputs["letters"].data["length"].tolist() == [2, 1]
        n = batch.inputs["record"]
        assert n.index.tolist() == [[0], [0], [-1], [1], [0]]
        assert n.data["n"][0].tolist() == [1.0, 2.5]
        assert n.data["n"][1][0] == 2.0
        assert n.data["n"][1].isnan().tolist() == [False, True]
        assert batch.targets["y"].data["value"].tolist() == [4, 1, 2, 3, 1]
        assert batch.targets["y2"].data["value"].tolist() == [-7, -7, 5, 6, -7]
        assert batch.targets["y2"].present.tolist() == [False, False, True, True, False]
        assert [r.number for r in batch.rows] == [3, 0, 1, 2, 0]
        assert batch.key.tolist() == row_keys(1, 2, np.array([3, 0, 1, 2, 0])).tolist()


def test_what_is_read_is_read_once(small: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(raw, "open_file", lambda cell, root: (opened.append(cell), open_file(cell, root))[1])
    table = table_of(folder, file=["a.bin", "same.bin", "b.bin"] * 30, text=["t"] * 90, y=[1] * 90)
    dataset = make(small, table, cache=Cache(1))
    told: list[int] = []
    dataset.scan(told.append)
    assert sum(told) == 90
    assert opened == ["a.bin", "same.bin", "b.bin"]
    for _ in range(3):
        loaded(dataset, range(90))
    assert dataset.inputs["bytes"].reader.reads == 2
    assert dataset.inputs["letters"].reader.reads == 1
    assert dataset.at_hand(augment=True)
    plain = make(small, table, keep=False, cache=Cache(1))
    plain.scan()
    assert plain.inputs["letters"].reader.reads == 1  # without keeping it
    assert not plain.at_hand(augment=False)


def test_an_input_without_a_cell_carries_a_blank(small: Any, folder: Path) -> None:
    table = table_of(folder, file=[None, "a.bin"], text=["a", None], u=[None, 1], v=[None, 2])
    for cache in (None, Cache(1)):
        dataset = make(small, table, cache=cache)
        dataset.scan()
        batch = loaded(dataset, [0, 0])
        assert batch.inputs["bytes"].data["x"].tolist() == [[0, 0, 0, 0]]
        assert batch.inputs["bytes"].index.tolist() == [[-1], [-1]]
        assert batch.inputs["record"].data["n"].shape == (1, 2)
        batch = loaded(dataset, [1])
        assert batch.inputs["letters"].data["ids_mask"].tolist() == [[True]]
        assert batch.targets == {}


BAD = {
    "short.bin": "is shorter than four bytes",
    "none.bin": "file not found",
    "dir.bin": "is a folder, not a file",
    "zero\0.bin": "cannot be opened",
    "x" * 300: "cannot be opened",
    "/dev/null": "is not a regular file",
}


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("bad", BAD)
def test_bad_files(small: Any, folder: Path, bad: str, scan: bool) -> None:
    table = table_of(folder, file=["a.bin", bad, "b.bin"], y=[1, 2, 3])
    ledger = Ledger()
    dataset = make(small, table, ledger=ledger, cache=Cache(1))
    if scan:
        dataset.scan()
        assert dataset.rows.tolist() == [0, 2]
        entries = list(ledger)
    else:
        batch, entries = dataset.load(np.arange(3))
        assert batch is not None
        assert [r.number for r in batch.rows] == [0, 2]  # left out, not replaced
        assert per_row(batch, "bytes", "x") == [[floats("a.bin")], [floats("b.bin")]]
        assert batch.targets["y"].data["value"].tolist() == [1, 3]
        assert dataset.load(np.array([1, 1]))[0] is None
        assert len(ledger) == 0  # whoever loads puts them there
    (entry,) = entries
    assert (entry.table, entry.row, entry.column, entry.file, entry.action) == ("dict", 1, "file", bad, "skipped")
    assert BAD[bad] in entry.reason


def test_too_large_a_file(small: Any, folder: Path) -> None:
    with open(folder / "large.bin", "wb") as file:
        file.truncate(LARGEST + 1)
    _, (entry,) = make(small, table_of(folder, file=["large.bin"])).load(np.array([0]))
    assert entry.reason == "the file is larger than 1024 MB"


@pytest.mark.parametrize("scan", [False, True])
def test_missing_keeps_the_row(small: Any, folder: Path, scan: bool) -> None:
    table = table_of(folder, file=["a.bin", "none.bin", "b.bin"], text=["a", "b", "!"], y=["1", "2", "x"], y2=[1, 1, 1])
    ledger = Ledger()
    dataset = make(small, table, ledger=ledger, on_bad="missing", cache=Cache(1))
    if scan:
        dataset.scan()
        batch, entries = dataset.load(dataset.rows)
        assert not entries  # they are in the ledger
        entries = list(ledger)
    else:
        batch, entries = dataset.load(dataset.rows)
    assert batch is not None
    assert per_row(batch, "bytes", "x") == [[floats("a.bin")], [None], [floats("b.bin")]]
    assert per_row(batch, "letters", "ids") == [[[97]], [[98]], [None]]
    assert batch.targets["y"].present.tolist() == [True, True, False]
    found = {(e.row, e.column, e.action) for e in entries}
    assert found == {(1, "file", "missing"), (2, "text", "missing"), (2, "y", "missing")}


@pytest.mark.parametrize("scan", [False, True])
def test_fail_lists_the_first(small: Any, folder: Path, scan: bool) -> None:
    table = table_of(folder, text=["a", *["!"] * 8, "b"])
    ledger = Ledger()
    dataset = make(small, table, on_bad="fail", ledger=ledger)
    with pytest.raises(TableError, match="8 bad cells in 8 rows:\n  row 1: text: has a !\n") as caught:
        dataset.scan() if scan else dataset.load(dataset.rows)
    assert "and 3 more" in str(caught.value)
    assert not scan or ledger.counts() == {"failed": 8}


def test_all_rows_bad(small: Any, folder: Path) -> None:
    dataset = make(small, table_of(folder, text=["!", "?!"], y=[1, 2]))
    with pytest.raises(TableError, match="none of 2 rows can be used"):
        dataset.scan()


@pytest.mark.parametrize("on_bad", ["skip", "missing"])
def test_broken_rows_are_never_used(small: Any, tmp_path: Path, on_bad: str) -> None:
    (tmp_path / "t.csv").write_text("text,y\na,1\nb,2,3\nc,3\n")
    table, ledger = open_table(tmp_path / "t.csv"), Ledger()
    dataset = make(small, table, on_bad=on_bad, ledger=ledger)
    batch, entries = dataset.load(np.arange(3))
    assert batch is not None
    assert [r.number for r in batch.rows] == [0, 2]
    assert [(e.row, e.column, e.action) for e in entries] == [(1, "", "skipped")]
    assert list(dataset.cells("letters")) == ["a", "c"]
    dataset.scan()
    assert dataset.rows.tolist() == [0, 2]
    assert ledger.counts() == {"skipped": 1}


def test_rows_without_a_target(small: Any, folder: Path) -> None:
    table = table_of(folder, text=["a", "b", "c"], y=[1, None, None], y2=[None, "2", ""])
    ledger = Ledger()
    dataset = make(small, table, ledger=ledger)
    assert len(loaded(dataset, [0, 1, 2]).rows) == 3  # to predict or measure: kept
    dataset.scan()
    assert dataset.rows.tolist() == [0, 1]
    assert [(e.row, e.column, e.reason) for e in ledger] == [(2, "y, y2", "no target")]


def test_cells_for_fitting(small: Any, folder: Path) -> None:
    table = table_of(folder, file=["a.bin", "none.bin", None, "b.bin"], file2=[None, "b.bin", None, "a.bin"],
                     u=[1, None, None, 2], v=[None, None, 3, 4], y=[1, 2, None, 4])  # fmt: skip
    dataset = make(small, table, [0, 1, 3])
    for _ in range(2):
        assert list(dataset.cells("bytes")) == [b"aaaa1", b"bbbb22", b"bbbb22", b"aaaa1"]
    assert list(dataset.cells("record")) == [{"u": 1, "v": None}, {"u": 2, "v": 4}]
    assert dataset.targets["y"].reader.fit(dataset.target_cells("y")) == {"sum": 7}
    assert dataset.show("bytes", 1) == [{"kind": "text", "data": "b'bbbb22'"}]
    assert dataset.show("record", 0) == [{"kind": "text", "data": "{'u': 1, 'v': None}"}]


def test_cells_that_are_no_files(small: Any) -> None:
    array = np.frombuffer(b"wxyz", np.uint8).reshape(2, 2)
    table = open_table({"file": [b"abcd", array, None]})
    batch = loaded(make(small, table), [0, 1, 2])
    assert per_row(batch, "bytes", "x") == [[[b / 2 for b in b"abcd"]], [[b / 2 for b in b"wxyz"]], [None]]
    assert digest(array) != digest(array.reshape(4))
    assert len(set(batch.inputs["bytes"].id.tolist())) == 2


def test_augmented_cells_are_not_shared(small: Any, folder: Path) -> None:
    table = table_of(folder, file=["a.bin"] * 3, file2=["a.bin", None, "b.bin"])
    for cache in (None, Cache(1)):
        dataset = make(small, table, reader=small.Bytes(augments=True), cache=cache)
        dataset.scan()
        batch = loaded(dataset, [2, 0, 1], seed=3, epoch=4, augment=True)
        assert batch.inputs["bytes"].index.tolist() == [[0, 1], [2, 3], [4, -1]]
        found = per_row(batch, "bytes", "x")
        for i, row in enumerate([2, 0, 1]):
            key = int(row_keys(3, 4, np.array([row]))[0])
            for k, column in enumerate(("file", "file2")):
                name = table.cell(row, column)
                if name is not None:
                    shift = np.float32(generator(key, "bytes", column).random())
                    assert found[i][k] == (np.array(floats(str(name)), np.float32) + shift).tolist()
        calm = loaded(dataset, [2, 0, 1], seed=3, epoch=4)
        assert len(calm.inputs["bytes"].id) == 2
        assert per_row(calm, "bytes", "x")[0] == [floats("a.bin"), floats("b.bin")]


def test_dropped_inputs(small: Any, folder: Path) -> None:
    """A function of the row's key; at the rate asked for; never the last present input."""
    rows = 600
    table = table_of(folder, file=["a.bin"] * rows, text=["a", None] * (rows // 2), u=[1] * rows, v=[1] * rows)
    dataset = make(small, table, drop=0.4)
    batch = loaded(dataset, range(rows), seed=5, epoch=1)
    gone = {n: (c.index < 0).all(1).numpy() for n, c in batch.inputs.items()}
    there = np.stack([~g for g in gone.values()])
    assert there.any(0).all()
    assert gone["letters"][1::2].all()
    assert 0.3 < gone["bytes"].mean() < 0.4  # a little less than asked for: the last one stays
    some = np.random.default_rng(0).permutation(rows)[:40]
    again = loaded(dataset, some, seed=5, epoch=1)
    for name, c in again.inputs.items():
        assert ((c.index < 0).all(1).numpy() == gone[name][some]).all()
    other = loaded(dataset, range(rows), seed=5, epoch=2)
    assert ((other.inputs["bytes"].index < 0).all(1).numpy() != gone["bytes"]).any()
    alone = make(small, table_of(folder, text=["a", "b"]), drop=0.99)
    assert (loaded(alone, [0, 1]).inputs["letters"].index >= 0).all()


def test_costs(small: Any, folder: Path) -> None:
    table = table_of(folder, file=["a.bin", "b.bin", "none.bin"], text=["abc", None, "x"], y=[1, 2, 3])
    assert make(small, table).costs().tolist() == [3, 0, 1]
    assert make(small, table, [0, 2]).costs().tolist() == [3, 1]
    assert make(small, table_of(folder, file=["a.bin"])).costs().tolist() == [0]


def test_a_cache_of_two_datasets_keeps_readers_apart(small: Any, folder: Path) -> None:
    """The same input name with a reader fitted otherwise never gets the other's samples."""

    class Shifted(small.Bytes):  # type: ignore[name-defined,misc]
        def finish(self, sample: dict, rng: Any) -> dict:
            return {"x": sample["raw"][:4].astype(np.float32) + self.field["add"]}

    cache, table = Cache(1), table_of(folder, file=["a.bin"])
    reader = Shifted()
    for add in (1, 2):
        reader.field = {"add": add}
        batch = loaded(make(small, table, reader=reader, cache=cache), [0])
        assert batch.inputs["bytes"].data["x"][0, 0] == ord("a") + add


def test_a_target_of_several_columns(small: Any) -> None:
    class Pair(small.Number):  # type: ignore[name-defined,misc]
        def __call__(self, cell: Any) -> dict:
            return {"value": np.array(100 * cell["a"] + (cell["b"] or 0))}

    table = open_table({"a": [1, 2, None], "b": [3, None, None]})
    dataset = Dataset(Part(table, np.arange(3)), {}, {"pair": TargetPlan(Pair(), ("a", "b"))}, ledger=Ledger())
    batch = loaded(dataset, [0, 1, 2])
    assert batch.targets["pair"].data["value"].tolist() == [103, 200, -7]
    assert batch.targets["pair"].present.tolist() == [True, True, False]


def test_tensors_are_their_own(small: Any, folder: Path) -> None:
    """What is done to a batch in place is not seen in the next."""
    dataset = make(small, table_of(folder, file=["a.bin"], text=["abc"], y=[1]), cache=Cache(1))
    dataset.scan()
    before = loaded(dataset, [0])
    for cells in before.inputs.values():
        for x in cells.data.values():
            x.zero_()
    before.targets["y"].data["value"].zero_()
    after = loaded(dataset, [0])
    assert after.inputs["bytes"].data["x"].tolist() == [floats("a.bin")]
    assert after.inputs["letters"].data["ids"].tolist() == [[97, 98, 99]]
    assert after.targets["y"].data["value"].tolist() == [1]
    assert all(isinstance(x, torch.Tensor) for x in after.inputs["bytes"].data.values())


def test_parts_of_a_table_share_what_is_known_of_its_cells(small: Any, folder: Path) -> None:
    """Through their cache, as long as the reader is the same and fitted alike."""
    table, cache, reader = table_of(folder, file=["a.bin", "short.bin", "b.bin", "none.bin"]), Cache(1), small.Bytes()
    train, valid = (make(small, table, rows, reader=reader, cache=cache) for rows in ([0, 1], [2, 3]))
    assert train.inputs["bytes"] is valid.inputs["bytes"]
    for dataset, kept in ((train, [0]), (valid, [2])):
        dataset.scan()
        assert dataset.rows.tolist() == kept
        assert {e.row for e in dataset.ledger} == {kept[0] + 1}
    assert make(small, table, cache=Cache(1), reader=reader).inputs["bytes"] is not train.inputs["bytes"]
    reader.field = {"another": 1}
    assert make(small, table, reader=reader, cache=cache).inputs["bytes"] is not train.inputs["bytes"]


def test_what_is_forgotten_is_found_once_more(small: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples that were seen, and reasons of bad cells, beyond what is remembered."""
    monkeypatch.setattr(source, "REMEMBERED", 1)
    dataset = make(small, table_of(folder, text=["a", "!", "b", "?!", "a", "c"]))
    for _ in range(2):
        batch, entries = dataset.load(np.arange(6))
        assert batch is not None
        assert per_row(batch, "letters", "ids") == [[[97]], [[98]], [[97]], [[99]]]
        assert [(e.row, e.reason) for e in entries] == [(1, "has a !"), (3, "has a !")]
    dataset.scan()
    assert dataset.rows.tolist() == [0, 2, 4, 5]


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_cells_are_decoded_many_at_once_where_the_reader_can(
    small: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    class AtOnce(small.Letters):  # type: ignore[name-defined,misc]
        asked: list[int]

        def decode_all(self, cells: list) -> list:
            self.asked = [*getattr(self, "asked", []), len(cells)]
            return [BadCell("has a !") if "!" in c else super(AtOnce, self).decode(c) for c in cells]

    monkeypatch.setattr(source, "AT_ONCE", at_once)
    texts = ["ab", "c", "!", "ab", None, "dd!", "e", "ab"]
    for cache in (None, Cache(1)):
        reader = AtOnce()
        plans = {"letters": InputPlan(reader, ("text",))}
        dataset = Dataset(Part(table_of(folder, text=texts), np.arange(8)), plans, {}, cache=cache, ledger=Ledger())
        batch, entries = dataset.load(np.arange(8))
        assert batch is not None
        assert per_row(batch, "letters", "ids") == [[[97, 98]], [[99]], [[97, 98]], [None], [[101]], [[97, 98]]]
        assert [(e.row, e.reason) for e in entries] == [(2, "has a !"), (5, "has a !")]
        assert reader.reads == 3  # equal texts once
        assert max(reader.asked) <= at_once
        assert at_once < 100 or reader.asked == [5]


def test_tables_that_share_a_cache_share_their_samples(small: Any, folder: Path) -> None:
    """What the training table brought is not kept twice for another table, nor taken for something else."""
    cache, reader = Cache(1), small.Letters()
    texts = [["ab", "c"], ["c", "de", "ab"], ["f", "de", "g"]]
    for rows in (*texts, *texts):
        plans = {"letters": InputPlan(reader, ("text",))}
        dataset = Dataset(
            Part(table_of(folder, text=rows), np.arange(len(rows))), plans, {}, cache=cache, ledger=Ledger()
        )
        dataset.scan()
        wanted = [[[ord(letter) for letter in text]] for text in rows]
        assert per_row(loaded(dataset, dataset.rows), "letters", "ids") == wanted
    shelf = dataset.inputs["letters"]._shelf
    assert shelf is not None
    assert len(shelf.slots) == 5
    assert shelf._stores["length"].held == 5
