"""Rows as vectors: in order, independent of neighbours and of other inputs' columns, nothing for what is not there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from polymodal.api import load
from polymodal.core.errors import TableError, UserError
from polymodal.core.streams import pool
from polymodal.data.ledger import Ledger
from polymodal.data.splits import Part
from polymodal.data.tables import open_table
from polymodal.model import on_device


@pytest.fixture(scope="module")
def run(trained: Any) -> Any:
    return load(trained.run)


@pytest.fixture
def rows(trained: Any) -> list[dict[str, Any]]:
    files = ("photo", "sound")
    return [{c: str(trained.folder / v) if c in files and v else v for c, v in row.items()} for row in trained.rows[:7]]


def test_a_run_without_a_space_of_its_own_gives_its_fused_vectors(run: Any, rows: list[dict[str, Any]]) -> None:
    found = run.embed(rows)["row"]
    part = run._part(rows)
    batch, _ = run.assembly.dataset(part, Ledger(), targets=False).load(np.arange(len(rows)))
    with torch.inference_mode():
        fused = run.assembly.model(on_device(batch, run.runtime.move), respond=True).fused
    wanted = F.normalize(pool(fused.tokens, fused.mask), dim=1)
    assert found.shape == (7, 1, run.embedder.width)
    np.testing.assert_allclose(found[:, 0], wanted.numpy(), atol=1e-5)


def test_begin_and_size_change_no_vector(run: Any, rows: list[dict[str, Any]]) -> None:
    whole = run.embed(rows)["row"]
    part = run._part(rows)
    lots = list(run.embedder.rows(part, Ledger(), begin=3, size=2))
    assert [lot.rows.tolist() for lot in lots] == [[3, 4], [5, 6]]
    np.testing.assert_allclose(np.concatenate([lot.vectors["row"] for lot in lots]), whole[3:], atol=1e-5)


def test_a_query_is_a_row_with_one_input(run: Any, rows: list[dict[str, Any]]) -> None:
    name, one = next(iter(run.spec.inputs.items()))
    alone = [{c: row[c] if c in one.columns else None for c in row} for row in rows[:1]]
    wanted = run.embed(alone)["row"][0]
    cell = rows[0][one.columns[0]]
    for given in ({name: cell}, {one.columns[0]: cell}):
        np.testing.assert_allclose(run.embedder.query(given)["row"], wanted, atol=1e-6)


def test_rows_without_anything_hold_nothing(run: Any, rows: list[dict[str, Any]]) -> None:
    empty = dict.fromkeys(rows[0])
    found = run.embed([rows[0], empty])["row"]
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1]).all()
    assert run.embedder.query({c: None for one in run.spec.inputs.values() for c in one.columns}) == {}


def test_what_cannot_be_read_is_told_and_moves_no_other_row(run: Any, rows: list[dict[str, Any]]) -> None:
    column = "photo"
    broken = [rows[0], rows[1] | {column: b"no file of this kind"}, rows[2]]
    ledger = Ledger()
    part = Part(open_table(broken), np.arange(3))
    (lot,) = run.embedder.rows(part, ledger, on_bad="skip")
    assert list(lot.errors) == [1]
    assert len(ledger) == 1
    assert not lot.present["row"][1].any()
    np.testing.assert_allclose(lot.vectors["row"][[0, 2]], run.embed([rows[0], rows[2]])["row"], atol=1e-5)


def test_mistakes(run: Any, rows: list[dict[str, Any]]) -> None:
    with pytest.raises(UserError, match="nothing of this name"):
        run.embed(rows, names=["colour"])
    with pytest.raises(UserError, match="no input or column"):
        run.embedder.query({"colour": "red"})
    with pytest.raises(TableError, match="has no column of"):
        run.embed([{"else": 1}])
