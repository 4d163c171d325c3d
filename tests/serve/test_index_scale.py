"""Embedding on workers of Ray gives the index that one process gives. Skipped where Ray is not installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import polymodal
from polymodal.core.errors import UserError
from polymodal.serve.index import scale


@pytest.mark.filterwarnings("ignore")  # Ray warns of itself
def test_workers_give_the_same_index(trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(scale, "SHARD", 9)
    rows = [dict(r) for r in trained.rows]
    rows[4]["photo"] = "nowhere.png"
    table = trained.table(tmp_path / "rows.csv", rows)
    run = polymodal.load(trained.run)
    run.index(table, out=tmp_path / "here")
    try:
        told = run.index(table, out=tmp_path / "there", ray="local", shards=2)
        again = run.index(table, out=tmp_path / "there", ray="local", shards=2)
    finally:
        ray.shutdown()
    assert (told.written, told.bad, again.written, again.same) == (39, 1, 0, 39)
    here, there = (polymodal.open_index(tmp_path / name) for name in ("here", "there"))
    ids = sorted(here.place.ids())
    assert sorted(there.place.ids()) == ids
    np.testing.assert_allclose(there.vectors(ids), here.vectors(ids), atol=1e-5)
    assert there.rows(ids) == here.rows(ids)
    assert (tmp_path / "there" / "ledger.jsonl").read_text() == (tmp_path / "here" / "ledger.jsonl").read_text()


def test_a_table_in_memory_is_refused(trained: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="as a path"):
        polymodal.load(trained.run).index([{"title": "red"}], out=tmp_path / "index", ray="local")
