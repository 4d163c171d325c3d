"""Columns on disk hold what columns in memory hold; digests on arrays find what a dictionary finds."""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymodal.core.errors import UserError
from polymodal.data import lines, spill
from polymodal.data.columns import pick
from polymodal.data.digests import Digests
from polymodal.data.spill import BlockColumn, ColumnPile, Spill, read_at
from polymodal.data.tables import open_table

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
CELLS = {
    pa.large_string(): TEXT,
    pa.binary(): st.binary(max_size=9),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.float64(): st.floats(allow_nan=False),
    pa.bool_(): st.booleans(),
    pa.list_(pa.string()): st.lists(TEXT, max_size=3),
    pa.struct([("bytes", pa.binary()), ("path", pa.string())]): st.fixed_dictionaries(
        {"bytes": st.binary(max_size=3), "path": st.none()}
    ),
}


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every column goes to disk, a few cells to a block."""
    monkeypatch.setattr(spill, "IN_MEMORY", -1)
    monkeypatch.setattr(spill, "BLOCK", 40)


@pytest.mark.parametrize("kind", CELLS, ids=str)
@settings(max_examples=20, deadline=None)
@given(data=st.data(), limit=st.sampled_from([0, 60, 1 << 20]), block=st.sampled_from([1, 50, 1 << 20]))
def test_a_column_is_the_same_from_disk(kind: pa.DataType, data: st.DataObject, limit: int, block: int) -> None:
    """One by one, all in a row, and picked; in memory, on disk, or begun in memory."""
    parts = data.draw(st.lists(st.lists(st.none() | CELLS[kind], max_size=7), max_size=5))
    pile, file = ColumnPile(Spill()), pytest.MonkeyPatch()
    file.setattr(spill, "IN_MEMORY", limit)
    file.setattr(spill, "BLOCK", block)
    with file.context():
        for part in parts:
            pile.append(pa.array([None, *part], kind).slice(1))  # a slice has an offset
        column: Any = pile.done()
    file.undo()
    expected = [cell for part in parts for cell in part]
    assert len(column) == len(expected)
    assert list(column) == expected == [column[row] for row in range(len(expected))]
    rows = np.array(sorted(data.draw(st.lists(st.integers(0, len(expected) - 1), max_size=9)) if expected else []), int)
    assert column.pick(rows) == [expected[row] for row in rows]
    if expected:
        assert column[-1] == expected[-1]
    with pytest.raises(IndexError):
        column[len(expected)]


def test_columns_that_do_not_fit_into_memory_together_go_to_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill, "IN_MEMORY", 8 * 100)
    table = Spill()
    sizes = {"first": (40, "ArrowColumn"), "long": (61, "BlockColumn"), "fits": (60, "ArrowColumn"),
             "last": (1, "BlockColumn")}  # fmt: skip
    for name, (size, home) in sizes.items():
        pile = ColumnPile(table)
        pile.append(pa.array(np.arange(size)))
        assert type(pile.done()).__name__ == home, name
        assert list(pile.done()) == list(range(size))  # type: ignore[call-overload]


def test_a_block_is_read_once_for_its_rows(on_disk: None, monkeypatch: pytest.MonkeyPatch) -> None:
    pile = ColumnPile(Spill())
    pile.append(pa.array(np.arange(100)))
    column = pile.done()
    reads: list[int] = []
    monkeypatch.setattr(
        spill, "read_at", lambda file, start, size: (reads.append(start), read_at(file, start, size))[1]
    )
    assert pick(column, np.array([7, 8, 50, 51, 51, 99])) == [7, 8, 50, 51, 51, 99]
    assert len(reads) == len(set(reads)) == 3  # of five cells each
    assert column[99] == column[98] + 1 == 99
    assert len(reads) == 3  # the last one is held


def test_the_columns_of_a_table_share_one_file_without_a_name(
    on_disk: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
    table = open_table(_csv(tmp_path / "t.csv", [[f"{r}-{c}" for c in range(50)] for r in range(9)]))
    assert table.column("c7") == [f"{r}-7" for r in range(9)]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t.csv"]
    if before:
        assert len(os.listdir("/proc/self/fd")) <= before + 1


def _csv(path: Path, rows: list[list[str]]) -> Path:
    out = io.StringIO()
    csv.writer(out).writerows([[f"c{n}" for n in range(len(rows[0]))], *rows])
    path.write_text(out.getvalue())
    return path


def test_a_fork_reads_what_was_there_and_adds_to_a_file_of_its_own(on_disk: None, tmp_path: Path) -> None:
    columns = {name: [f"{name}{i}" for i in range(30)] for name in "abc"}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    table = open_table(tmp_path / "t.parquet")
    assert table.column("a") == columns["a"]
    done, go = os.pipe()
    child = os.fork()
    if not child:  # b is first read here, c in the other process at the same place of a file
        right = table.column("b") == columns["b"]
        os.read(done, 1)
        right = right and table.cell(3, "b") == "b3" and table.column("b") == columns["b"]
        os._exit(0 if right and table.column("a") == columns["a"] else 1)
    assert table.column("c") == columns["c"]
    os.write(go, b".")
    assert os.waitpid(child, 0)[1] == 0
    assert table.column("c") == columns["c"]
    assert table.column("a") == columns["a"]


def test_a_full_disk_is_told(on_disk: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with pytest.raises(UserError, match=r"/nowhere: a table's columns cannot be kept here") as caught:
        ColumnPile(Spill()).append(pa.array([1, 2, 3]))
    assert "TMPDIR" in str(caught.value)


NUMBERS = st.booleans() | st.integers(-5, 2**70) | st.floats(allow_nan=False)
VALUES = st.none() | NUMBERS | TEXT | st.lists(st.integers())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from("abc"), VALUES), min_size=1, max_size=30), st.integers(1, 8))
def test_jsonl_from_disk_is_what_json_reads(rows: list[dict], chunk: int) -> None:
    """Columns that change their type, begin late or are always missing, across chunks."""
    rows = [{"a": 1, **rows[0]}, *rows[1:]]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(spill, "IN_MEMORY", -1)
        patch.setattr(lines, "CHUNK", chunk)
        path = Path(folder, "t.jsonl")
        path.write_text("\n".join(json.dumps(r, ensure_ascii=False) for r in rows))
        table = open_table(path)
        assert table.columns == list(dict.fromkeys(name for r in rows for name in r))
        for name in table.columns:
            wanted = [None if r.get(name) == "" else r.get(name) for r in rows]
            found = table.column(name)
            assert found == wanted
            assert [type(c) for c in found] == [type(w) for w in wanted]
            assert table.cells(np.arange(len(rows))[::-1], name) == wanted[::-1]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_cells_of_any_rows_in_any_order(data: st.DataObject) -> None:
    """With repeats, far apart and close together, from Arrow, arrays, lists and broken rows."""
    count = data.draw(st.integers(1, 60))
    columns = {"arrow": [f"x{i}" if i % 3 else None for i in range(count)], "list": [[i] for i in range(count)],
               "array": np.arange(2 * count).reshape(-1, 2)}  # fmt: skip
    table = open_table(columns)
    table.broken = dict.fromkeys(range(0, count, 7), "broken")
    rows = np.array(data.draw(st.lists(st.integers(0, count - 1), max_size=20)), np.int64)
    for name in columns:
        found, wanted = table.cells(rows, name), [table.cell(int(row), name) for row in rows]
        assert [str(c) for c in found] == [str(w) for w in wanted]
    assert [str(c) for c in table.walk("arrow")] == [str(table.cell(row, "arrow")) for row in range(count)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 2**63 - 1), unique=True, max_size=60), st.integers(0, 9), st.data())
def test_digests_are_a_dictionary(keys: list[int], fresh: int, data: st.DataObject) -> None:
    """However many of them wait to be sorted in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("polymodal.data.digests.FRESH", fresh)
        found, wanted = Digests(), {}
        for number, key in enumerate(keys):
            found.add(key, number)
            wanted[key] = number
            asked = data.draw(st.sampled_from(keys))
            assert found.get(asked, -1) == wanted.get(asked, -1)
    assert len(found) == len(wanted)
    assert dict(found.items()) == wanted
    assert set(found) == set(wanted)
    others = np.array([*keys, -1, -3, 5, 2**63 - 1], np.int64)
    assert found.find(others).tolist() == [wanted.get(k, -1) for k in others.tolist()]
    assert found.find(others[:0]).tolist() == []


def test_digests_take_few_bytes() -> None:
    """A dictionary of whole numbers takes a hundred bytes an entry."""
    import tracemalloc

    tracemalloc.start()
    made = Digests()
    keys = np.random.default_rng(0).permutation(200_000).astype(np.int64) << 40
    before = tracemalloc.get_traced_memory()[0]
    for number, key in enumerate(keys.tolist()):
        made.add(key, number)
    size = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert size < 30 * len(keys), f"{size / len(keys):.0f} bytes an entry"


def test_a_block_column_holds_one_block(on_disk: None) -> None:
    column = BlockColumn(Spill())
    column.append(pa.array(np.arange(10_000)))
    assert list(column) == list(range(10_000))
    assert column._last[1].nbytes <= 40
