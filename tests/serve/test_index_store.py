"""The store of an index: rows are added, replaced and taken out as a whole or not at all, whenever the power goes."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from indexing import Row, about, as_rows, holds, make, put, row, unit

from polymodal.core.errors import RunError, UserError
from polymodal.serve.index import lance, near, state
from polymodal.serve.index.index import Index, open_index, writing
from polymodal.serve.index.lance import LancePlace

JPEG = b"\xff\xd8 a small picture"


def some(draw: np.random.Generator, ids: list[str]) -> list[Row]:
    vectors = unit(len(ids), seed=int(draw.integers(1 << 30)))
    return [row(one, vectors[at], b=bool(draw.integers(4)), picture=JPEG + one.encode() if draw.integers(2) else None,
                price=float(draw.normal()), stock=int(draw.integers(100)), brand=f"b{draw.integers(3)} it's 狗",
                tags=[one, None, {"x": 1}] if draw.integers(2) else None)
            for at, one in enumerate(ids)]  # fmt: skip


def change(index: Index, model: dict[str, Row], draw: np.random.Generator) -> None:
    """A change by lot, in the index and in the model of it."""
    if draw.integers(4):
        ids = [f"id {n}'" for n in draw.choice(40, int(draw.integers(1, 15)), replace=False)]
        rows = some(draw, ids)
        put(index, rows)
        model |= {r["id"]: r for r in rows}
    else:
        ids = [f"id {n}'" for n in draw.choice(40, 8, replace=False)]
        gone = index.delete(ids)
        assert gone == len(set(ids) & set(model))
        for one in ids:
            model.pop(one, None)


@pytest.mark.parametrize("seed", [1])
def test_whatever_is_done_the_index_holds_what_it_should(tmp_path: Path, seed: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(lance, "SCATTERED", 3)  # so that files are joined and numbers given anew often
    monkeypatch.setattr(lance, "INDEXED", 5)
    draw, model = np.random.default_rng(seed), dict[str, Row]()
    index, other = make(tmp_path / "index", []), None
    for turn in range(10):
        change(index, model, draw)
        other = other or open_index(tmp_path / "index")
        holds(other if turn % 2 else index, model)  # another reader sees what this one wrote
    holds(open_index(tmp_path / "index"), model)
    assert index.place._state.generation > 0


def test_search_of_both_kinds_and_without_ids(tmp_path: Path) -> None:
    vectors = unit(30)
    rows = [row(str(n), vectors[n], b=n > 3, brand="x" if n < 20 else "y") for n in range(30)]
    index = make(tmp_path / "index", rows)
    query = unit(1, seed=9)[0]
    order = [str(n) for n in np.argsort(-vectors @ query, kind="stable")]
    found = index.search(query * 7, k=30)
    assert [h.id for h in found] == order
    np.testing.assert_allclose([h.score for h in found], np.sort(vectors @ query)[::-1], atol=1e-6)
    assert [h.id for h in index.search(query, k=4, offset=3)] == order[3:7]
    assert [h.id for h in index.search(query, k=4, without=order[:2])] == order[2:6]
    assert [h.id for h in index.search(query, k=30, where="brand = 'y'")] == [n for n in order if int(n) >= 20]
    assert [h.id for h in index.search(query, k=30, space="b")] == [n for n in reversed(order) if int(n) > 3]
    assert [h.id for h in index.search(query, k=5, exact=True)] == order[:5]


@pytest.mark.parametrize("moment", range(4))
def test_the_power_goes_before_a_commit_counts(tmp_path: Path, monkeypatch: Any, moment: int) -> None:
    """Whatever was not told to the disk is lost, cut or whole: the index is as it was, and takes the rows again."""
    draw = np.random.default_rng(moment)
    model: dict[str, Row] = {}
    index = make(tmp_path / "index", [])
    for _ in range(2):
        change(index, model, draw)
    rows, taken = some(draw, ["id 1'", "new", "newer"]), []

    def taking(self: LancePlace, *_: Any, **__: Any) -> None:
        copy = tmp_path / f"lost-{len(taken)}"
        shutil.copytree(self.folder, copy)
        assert self._synced is not None
        for path in (p for p in copy.rglob("*") if p.is_file()):
            if str(self.folder / path.relative_to(copy)) not in self._synced.known and state.TABLE in path.parts:
                if draw.integers(3) == 0:
                    path.unlink()
                elif draw.integers(2):
                    path.write_bytes(path.read_bytes()[: int(draw.integers(path.stat().st_size))])
        taken.append(copy)
        publish(self, *_, **__)

    publish = LancePlace._publish
    monkeypatch.setattr(LancePlace, "_publish", taking)
    put(index, rows)
    if moment % 2:
        index.delete(["new", "id 1'"])
    monkeypatch.undo()
    assert taken
    holds(open_index(taken[0]), model)
    lost = open_index(taken[0])
    put(lost, rows)
    holds(lost, {**model, **{r["id"]: r for r in rows}})
    for copy in taken[1:]:
        after = open_index(copy)
        list(after.place.ids())
        put(after, rows)
        assert {r["id"] for r in rows} <= set(after.place.ids())


def test_a_reader_mends_nothing_while_another_writes(tmp_path: Path) -> None:
    index = make(tmp_path / "index", [row("a", unit(1)[0])])
    with state.locked(tmp_path / "index"):
        place = LancePlace(tmp_path / "index")
        place.begin()
        table = place._table()
        table.delete("_id = 'a'")  # begun, and not yet counted
        assert len(open_index(tmp_path / "index").search(k=5)) == 1
        assert state.beyond(tmp_path / "index" / state.TABLE, place._state.version)
    assert len(open_index(tmp_path / "index").search(k=5)) == 1
    assert not state.beyond(tmp_path / "index" / state.TABLE, index.place._state.version)


def test_one_writes_at_a_time(tmp_path: Path) -> None:
    index = make(tmp_path / "index", [row("a", unit(1)[0])])
    with state.locked(tmp_path / "index"), pytest.raises(UserError, match="another process"):
        index.delete(["a"])
    assert index.delete(["a", "b"]) == 1
    assert len(index) == 0
    assert index.search(unit(1)[0]) == []
    assert index.search(words="x") == []


def test_lost_vectors_are_made_again_from_the_table(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    model: dict[str, Row] = {}
    index = make(tmp_path / "index", [])
    for _ in range(3):
        change(index, model, draw)
    shutil.rmtree(tmp_path / "index" / state.NEAR)
    holds(open_index(tmp_path / "index"), model)  # a reader does without
    change(open_index(tmp_path / "index"), model, draw)
    assert len(list((tmp_path / "index" / state.NEAR).glob("vectors-*"))) == 2
    holds(open_index(tmp_path / "index"), model)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="something else"):
        LancePlace.create(tmp_path, about())
    assert (tmp_path / "mine.txt").read_text() == "mine"
    with pytest.raises(RunError, match="is no index"):
        open_index(tmp_path)
    with pytest.raises(RunError, match="no such index"):
        open_index(tmp_path / "nowhere")


def test_an_index_of_another_format_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "index", [row("a", unit(1)[0])])
    plain = json.loads((tmp_path / "index" / state.NAME).read_text())
    for other in ({"format": 99}, {"state": {**plain["state"], "files": []}}, {"state": {}}, {"state": 3}):
        (tmp_path / "index" / state.NAME).write_text(json.dumps({**plain, **other}))
        with pytest.raises(RunError, match="another format"):
            open_index(tmp_path / "index")


def test_making_that_was_killed_before_it_counted_begins_again(tmp_path: Path) -> None:
    make(tmp_path / "index", [row("a", unit(1)[0])])
    (tmp_path / "index" / state.NAME).unlink()
    index = Index(LancePlace.create(tmp_path / "index", about()))
    assert len(index) == 0
    put(index, [row("b", unit(1)[0])])
    assert [hit.id for hit in index.search(k=3)] == ["b"]


def test_large_indexes_answer_about_as_well(tmp_path: Path, monkeypatch: Any) -> None:
    """Built, grown, with rows replaced and taken out, filtered: nearly what exact search finds, nothing gone."""
    monkeypatch.setattr(near, "WORTH", 1000)
    monkeypatch.setattr(near, "TAIL", 200)
    monkeypatch.setattr(near, "FEW", 50)
    centres = unit(40, seed=1)

    def clustered(n: int, seed: int) -> np.ndarray:
        g = np.random.default_rng(seed)
        found = centres[g.integers(40, size=n)] + 0.3 * g.normal(size=(n, 8)).astype(np.float32)
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    vectors = clustered(3000, 2)
    index = make(tmp_path / "index", [row(str(n), vectors[n], brand=f"b{n % 7}", stock=n) for n in range(2000)])
    assert set(index.place._state.near) == {"a", "b"}
    first = index.place._state.near["a"]["file"]
    put(index, [row(str(n), vectors[n], brand=f"b{n % 7}", stock=n) for n in range(1900, 3000)])
    assert index.place._state.near["a"]["file"] != first
    assert index.place._state.near["a"]["rows"] == 2000  # grown, not made anew
    put(index, [row(str(n), vectors[n], brand=f"b{n % 7}", stock=n) for n in range(20)])  # a few: compared exactly
    index.delete([str(n) for n in range(100, 200)])
    other = open_index(tmp_path / "index")
    assert 0 in other.place._snapshot().near
    shares = []
    for where in (None, "brand = 'b3'", "stock >= 2990", "stock < 10 or brand in ('b1', 'b2', 'b4')"):
        for query in clustered(25, 3):
            sure = {h.id for h in other.search(query, where=where, exact=True)}
            found = [h.id for h in other.search(query, where=where)]
            assert len(found) == 10
            assert not {str(n) for n in range(100, 200)} & set(found)
            shares.append(len(sure & set(found)) / 10)
    assert np.mean(shares) > 0.97
    whole = {h.id for h in other.search(clustered(1, 4)[0], k=2900)}
    assert len(whole) == 2900


def test_a_damaged_approximate_index_is_done_without(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(near, "WORTH", 300)
    vectors = unit(400)
    index = make(tmp_path / "index", [row(str(n), vectors[n]) for n in range(400)])
    for path in (tmp_path / "index" / state.NEAR).glob("*.faiss"):
        path.write_bytes(path.read_bytes()[:-100])
    damaged = open_index(tmp_path / "index")
    assert [h.id for h in damaged.search(vectors[3], k=5)] == [h.id for h in index.search(vectors[3], k=5, exact=True)]
    assert not damaged.place._snapshot().near
    writing(damaged.place, lambda place: None)
    assert set(open_index(tmp_path / "index").place._snapshot().near) == {0, 1}


def test_rows_of_many_moments_keep_their_words(tmp_path: Path, monkeypatch: Any) -> None:
    index = make(tmp_path / "index", [row(str(n), v, brand=f"word{n} running") for n, v in enumerate(unit(8))])
    put(index, [row("9", unit(1)[0], brand="小狗在沙滩上跑 word9"), row("2", unit(1)[0], brand="other")])
    assert [h.id for h in index.search(words="word3")] == ["3"]
    assert [h.id for h in index.search(words="word2")] == []
    assert {h.id for h in index.search(words="Runs")} == set("0134567")  # by the stem
    for text in ("沙滩", "狗", "小狗", "在沙滩"):
        assert [h.id for h in index.search(words=text)] == ["9"], text
    assert index.search(words="猫") == []
    assert [h.id for h in index.search(words="word9 word3", where="brand = 'word3 running'")] == ["3"]
    assert index.search(words="?! --") == []
    assert as_rows([row("x", unit(1)[0], brand="a b")]).words == ["a b"]


def test_many_threads_read_while_another_process_would_write(tmp_path: Path, monkeypatch: Any) -> None:
    """Readers see a whole state or the next, also when what they read is cleared away under them."""
    monkeypatch.setattr(lance, "SCATTERED", 2)
    monkeypatch.setattr(lance, "INDEXED", 5)
    vectors = unit(30)
    index = make(tmp_path / "index", [row(str(n), vectors[n], stock=0) for n in range(30)])
    reader, stop, wrong = open_index(tmp_path / "index"), threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            found = reader.search(vectors[0], k=30)
            stocks = {hit.row["stock"] for hit in found}
            if len(found) != 30 or max(stocks) - min(stocks) > 1:
                wrong.append(stocks)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for turn in range(1, 6):
        put(index, [row(str(n), vectors[n], stock=turn) for n in range(30)])
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert {hit.row["stock"] for hit in reader.search(k=30)} == {5}
