"""The ledger: distinct entries, counted by rows, saved in order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from polymodal.core.errors import TableError
from polymodal.data.ledger import Entry, Ledger

ENTRIES = [
    Entry("b.csv", 3, "photo", "x/3.jpg", "file not found", "skipped"),
    Entry("a.csv", 20, "", "", "has 2 cells where the header has 3", "skipped"),
    Entry("b.csv", 3, "text", "", "not a text: 中\udce9", "skipped"),
    Entry("a.csv", 3, "photo", "", "truncated", "missing"),
]


def test_counts_are_rows(tmp_path: Path) -> None:
    ledger = Ledger()
    ledger.add(ENTRIES[0])
    ledger.extend([*ENTRIES, *ENTRIES[:2]])
    assert list(ledger) == ENTRIES
    assert len(ledger) == 4
    assert ledger.counts() == {"skipped": 2, "missing": 1}
    assert ledger.bad_rows() == {("b.csv", 3), ("a.csv", 20), ("a.csv", 3)}
    assert Ledger(ENTRIES[:3]).reasons == {
        3: "photo: file not found (x/3.jpg); text: not a text: 中\udce9",
        20: "has 2 cells where the header has 3",
    }


def test_saved_by_table_and_row(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    Ledger(ENTRIES[:2] + ENTRIES[3:]).save(path)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [(x["table"], x["row"]) for x in lines] == [("a.csv", 3), ("a.csv", 20), ("b.csv", 3)]
    assert set(Ledger.load(path)) == {ENTRIES[0], ENTRIES[1], ENTRIES[3]}
    assert [p.name for p in tmp_path.iterdir()] == ["ledger.jsonl"]
    Ledger(ENTRIES).save(path)  # half a character cannot be written as it is
    assert len(Ledger.load(path)) == 4
    path.write_text('{"table": 1}\n')
    with pytest.raises(TableError, match="cannot be read as a ledger"):
        Ledger.load(path)
    with pytest.raises(TableError, match="cannot be read as a ledger"):
        Ledger.load(tmp_path / "none")
