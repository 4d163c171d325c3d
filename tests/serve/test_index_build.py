"""From a table to an index and back, with a run: all rows, once, as they are; what is asked finds what it should."""

from __future__ import annotations

import io
import json
import multiprocessing
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import polymodal
from endtoend import INPUTS, TRAIN, Shell, make_rows, write_table
from polymodal import cli
from polymodal.core.errors import RunError, TableError, UserError
from polymodal.serve.index import Query, Searcher, build
from polymodal.serve.index.previews import SIDE

SPEC = {"inputs": {n: INPUTS[n] for n in ("photo", "title")}, "train": {**TRAIN, "epochs": 1},
        "tasks": {"find": {"type": "retrieve", "column": "title", "dim": 8}}}  # fmt: skip
SHOWN = ["name", "photo", "title", "price", "brand", "label"]


class Shop:
    """Rows with files of their own, a run that puts photos and titles into one space, and an index of both."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows = [{"name": f"n/{at}", **{k: v for k, v in r.items() if k != "sound"}}
                     for at, r in enumerate(make_rows(folder, 24))]  # fmt: skip
        self.rows[5]["title"], self.rows[6]["title"] = "小狗在沙滩上", None
        self.rows[7]["price"] = None
        self.table = write_table(folder / "rows.csv", self.rows)
        self.run = polymodal.train(self.table, spec=SPEC, out=folder / "run", quiet=True)
        self.told = self.run.index(self.table, out=folder / "index", key="name")
        self.index = polymodal.open_index(folder / "index")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture
def table(shop: Shop, tmp_path: Path) -> Any:
    """Writes a table of other rows beside the shop's files."""

    def write(rows: list[dict[str, Any]], name: str = "rows.csv") -> Path:
        placed = [{**r, "photo": r["photo"] and str(shop.folder / r["photo"])} for r in rows]
        return write_table(tmp_path / name, placed)

    return write


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_every_row_is_there_once_with_what_was_in_it(shop: Shop) -> None:
    assert shop.told == build.Told(24, 24, 0, 0, 0, 24)
    ids = [f"n/{at}" for at in range(24)]
    assert sorted(shop.index.place.ids()) == sorted(ids)
    assert shop.index.rows(ids) == [{n: r[n] for n in SHOWN} for r in shop.rows]
    found = shop.run.embed(shop.table)
    for space in ("photo", "title"):
        wanted = np.nan_to_num(found[space][:, 0])
        np.testing.assert_allclose(shop.index.vectors(ids, space), wanted, atol=1e-5)
    assert not shop.index.vectors(["n/6"], "title").any()
    about = shop.index.about
    assert (about["count"], about["spaces"], about["pictures"]) == (24, ["photo", "title"], ["photo"])
    assert about["words"] == ["title", "brand", "label"]
    assert {c["name"]: c["type"] for c in about["columns"]} == {**dict.fromkeys(SHOWN, "text"), "price": "number"}


def test_small_pictures_are_kept_inside(shop: Shop, tmp_path: Path, table: Any) -> None:
    wide = np.zeros((40, 1000, 3), np.uint8)
    wide[:, 500:] = (250, 10, 10)
    Image.fromarray(wide).save(shop.folder / "wide.png")
    rows = [{**shop.rows[0], "photo": "wide.png"}, {**shop.rows[1], "photo": None}]
    shop.run.index(table(rows), out=tmp_path / "index")
    (shop.folder / "wide.png").unlink()
    index = polymodal.open_index(tmp_path / "index")
    data = index.preview("0", "photo")
    assert data is not None
    picture = Image.open(io.BytesIO(data))
    assert (picture.format, max(picture.size)) == ("JPEG", SIDE)
    assert picture.size[1] in (10, 11)
    assert np.asarray(picture)[5, 250].tolist()[0] > 200
    assert np.asarray(picture)[5, 5].tolist()[0] < 50
    assert index.preview("1", "photo") is None
    for id, column in (("7", "photo"), ("0", "title")):
        with pytest.raises(UserError):
            index.preview(id, column)


def test_what_changed_is_written_anew_and_nothing_else(shop: Shop, tmp_path: Path, table: Any) -> None:
    place = tmp_path / "index"
    rows = [dict(r) for r in shop.rows[:10]]
    assert shop.run.index(table(rows), out=place, key="name").written == 10
    assert shop.run.index(table(rows), out=place, key="name")[1:3] == (0, 10)
    rows[2]["price"], rows[3]["title"] = 99.5, "a lamp"
    rows = [*rows[1:], dict(shop.rows[20])]
    told = shop.run.index(table(rows, "again.csv"), out=place, key="name")
    assert (told.written, told.same, told.gone, told.total) == (3, 7, 0, 11)
    index = polymodal.open_index(place)
    assert index.rows(["n/2", "n/3"])[0]["price"] == 99.5
    query = shop.run.embedder.query({"title": "a lamp"})["title"]
    np.testing.assert_allclose(index.vectors(["n/3"], "title"), query, atol=1e-5)
    told = shop.run.index(table(rows, "again.csv"), out=place, prune=True)
    assert (told.written, told.gone, told.total) == (0, 1, 10)
    assert index.has(["n/0", "n/1"]) == [False, True]


def test_a_file_that_changed_is_read_again(shop: Shop, tmp_path: Path, table: Any) -> None:
    Image.fromarray(np.full((20, 20, 3), 200, np.uint8)).save(shop.folder / "other.png")
    rows = [{**shop.rows[0], "photo": "other.png"}, shop.rows[1]]
    path = table(rows)
    shop.run.index(path, out=tmp_path / "index")
    before = polymodal.open_index(tmp_path / "index").vectors(["0"], "photo")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (21, 20, 3), np.uint8)).save(shop.folder / "other.png")
    assert shop.run.index(path, out=tmp_path / "index").written == 1
    assert not np.allclose(before, polymodal.open_index(tmp_path / "index").vectors(["0"], "photo"), atol=1e-4)


def test_bad_rows_are_in_the_ledger_with_their_reason(shop: Shop, tmp_path: Path, table: Any) -> None:
    (shop.folder / "broken.png").write_bytes(b"\x89PNG broken")
    rows = [{**shop.rows[0], "photo": "broken.png"}, {**shop.rows[1], "photo": "nowhere.png"}, dict(shop.rows[2]),
            {**shop.rows[3], "name": "n/2"}, {**shop.rows[4], "name": None},
            {**shop.rows[5], "photo": None, "title": None}]  # fmt: skip
    told = shop.run.index(table(rows), out=tmp_path / "index", key="name")
    ledger = [json.loads(line) for line in (tmp_path / "index" / "ledger.jsonl").read_text().splitlines()]
    assert [(e["row"], e["column"], e["action"]) for e in ledger] == [
        (0, "photo", "skipped"), (1, "photo", "skipped"), (2, "name", "skipped"), (4, "name", "skipped"),
        (5, "", "skipped")]  # fmt: skip
    assert "not found" in ledger[1]["reason"]
    assert "row 3" in ledger[2]["reason"]
    assert (told.rows, told.written, told.bad, told.total) == (6, 1, 5, 1)
    assert polymodal.open_index(tmp_path / "index").rows(["n/2"])[0]["title"] == shop.rows[3]["title"]
    told = shop.run.index(table(rows), out=tmp_path / "index", key="name", on_bad="missing")
    assert (told.written, told.total) == (2, 3)
    assert not polymodal.open_index(tmp_path / "index").vectors(["n/0"], "photo").any()


def test_cells_of_another_type_stay_empty_and_are_told(shop: Shop, tmp_path: Path, table: Any) -> None:
    shop.run.index(table(shop.rows[:3]), out=tmp_path / "index", key="name")
    odd = [{**shop.rows[4], "price": "dear"}]
    shop.run.index(table(odd, "odd.csv"), out=tmp_path / "index")
    assert polymodal.open_index(tmp_path / "index").rows(["n/4"])[0]["price"] is None
    assert "is no number" in (tmp_path / "index" / "ledger.jsonl").read_text()


def test_what_does_not_belong_together_is_refused(shop: Shop, tmp_path: Path, table: Any, trained: Any) -> None:
    shop.run.index(table(shop.rows[:3]), out=tmp_path / "index")
    more = table(shop.rows[3:6], "more.csv")
    with pytest.raises(UserError, match="known by their number"):
        shop.run.index(more, out=tmp_path / "index")
    for wrong in ({"key": "name"}, {"of": ["title"]}, {"keep": ["price"]}):
        with pytest.raises(UserError):
            shop.run.index(table(shop.rows[:3]), out=tmp_path / "index", **wrong)
    other = polymodal.load(trained.run)
    with pytest.raises(UserError, match="another run"):
        other.index(trained.folder / "rows.csv", out=tmp_path / "index")
    with pytest.raises(RunError, match="is not the run"):
        Searcher(other, shop.index)
    with pytest.raises(UserError, match="embeds nothing"):
        shop.run.index(more, out=tmp_path / "new", of=["sound"])
    with pytest.raises(TableError):
        shop.run.index([{"colour": "red"}], out=tmp_path / "new")
    with pytest.raises(TableError, match="no column"):
        shop.run.index(more, out=tmp_path / "new", key="number")
    assert not (tmp_path / "new").exists()


def test_a_run_without_a_space_is_indexed_by_its_fused_vectors(trained: Any, tmp_path: Path) -> None:
    run = polymodal.load(trained.run)
    run.index(trained.folder / "rows.csv", out=tmp_path / "index", keep=["price", "label"])
    index = polymodal.open_index(tmp_path / "index")
    wanted = run.embed(trained.folder / "rows.csv")["row"][:, 0]
    np.testing.assert_allclose(index.vectors([str(n) for n in range(40)]), wanted, atol=1e-5)
    asked = {"title": "red mug sharp", "sound": str(trained.folder / "sound-0-1.wav")}
    found = Searcher(run, index).search([Query(*one) for one in asked.items()])
    both = unit(np.sum([run.embedder.query({name: cell})["row"][0] for name, cell in asked.items()], axis=0))
    assert [int(h.id) for h in found] == np.argsort(-wanted @ both, kind="stable")[:10].tolist()
    assert set(found[0].row) == {"price", "label"}


def test_several_columns_of_an_input_count_as_their_mean(tmp_path: Path) -> None:
    rows = [{**r, "back": make_rows(tmp_path, 12)[11 - at]["photo"] if at else None}
            for at, r in enumerate(make_rows(tmp_path, 12))]  # fmt: skip
    inputs = {"photo": {**INPUTS["photo"], "columns": ["photo", "back"]}, "title": INPUTS["title"]}
    table = write_table(tmp_path / "rows.csv", rows)
    run = polymodal.train(table, spec={**SPEC, "inputs": inputs}, out=tmp_path / "run", quiet=True)
    run.index(table, out=tmp_path / "index")
    index = polymodal.open_index(tmp_path / "index")
    each = run.embed(table)["photo"]
    wanted = unit(np.nan_to_num(each).sum(1))
    np.testing.assert_allclose(index.vectors([str(n) for n in range(12)], "photo"), wanted, atol=1e-5)
    assert index.about["pictures"] == ["photo", "back"]
    assert index.preview("0", "back") is None
    assert index.preview("1", "back")


def test_queries_are_weighed_and_rows_liked_or_not(shop: Shop) -> None:
    searcher, ids = Searcher(shop.run, shop.index), [f"n/{at}" for at in range(24)]
    rows = shop.index.vectors(ids, "photo")
    photo, title = Image.open(shop.folder / shop.rows[3]["photo"]), "red mug"
    p = shop.run.embedder.query({"photo": photo})["photo"][0]
    t = shop.run.embedder.query({"title": title})["title"][0]

    def order(vector: np.ndarray, without: tuple[str, ...] = ()) -> list[str]:
        found = [ids[at] for at in np.argsort(-(rows @ vector), kind="stable")]
        return [one for one in found if one not in without]

    def asked(*queries: Query, **more: Any) -> list[str]:
        return [h.id for h in searcher.search(list(queries), k=24, **more)]

    assert asked(Query("photo", photo)) == order(p)
    assert asked(Query("photo", photo)) != asked(Query("title", title))
    assert asked(Query("title", title, 2.0), Query("photo", photo, -0.5)) == order(unit(2 * t - 0.5 * p))
    assert asked(like=["n/3"]) == order(rows[3], ("n/3",))
    liked, not_liked = rows[[3, 4]].mean(0), rows[[8]].mean(0)
    expected = order(unit(t) + 0.75 * liked - 0.5 * not_liked, ("n/3", "n/4", "n/8"))
    assert asked(Query("title", title), like=["n/3", "n/4"], unlike=["n/8"]) == expected
    scored = {h.id: h.score for h in searcher.search([Query("title", title)], k=24)}
    less = {h.id: h.score for h in searcher.search([Query("title", title)], k=24, unlike=["n/8"])}
    near = max((one for one in less), key=lambda one: float(rows[ids.index(one)] @ rows[8]))
    assert less[near] < scored[near]  # rows like the one that is not liked lose
    own = [h.id for h in searcher.search([Query("title", "小狗在沙滩上")], k=3, space="title")]
    assert own[0] == "n/5"


def test_words_and_vectors_are_joined_by_their_ranks(shop: Shop) -> None:
    vector = shop.index.vectors(["n/1"], "photo")[0]
    alone = [h.id for h in shop.index.search(vector, k=24)]
    worded = shop.index.search(words="mug", k=24)
    assert {h.id for h in worded} == {f"n/{at}" for at, r in enumerate(shop.rows) if "mug" in (r["title"] or "")}
    ranks = {h.id: 1 / (61 + at) for at, h in enumerate(worded)}
    wanted = {one: ranks.get(one, 0) + 1 / (61 + at) for at, one in enumerate(alone)}
    found = shop.index.search(vector, words="mug", k=24)
    assert {h.id: pytest.approx(h.score) for h in found} == wanted
    assert [h.score for h in found] == sorted(wanted.values(), reverse=True)
    assert [h.id for h in shop.index.search(words="沙滩上的狗")] == ["n/5"]
    assert {h.row["brand"] for h in shop.index.search(vector, words="mug", where="brand = 'Acme'")} == {"Acme"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"k": 0}, {"k": 10**6}, {"offset": -1}, {"where": "cost < 3"}, {"space": "sound"}, {"like": ["nobody"]},
        {"queries": [Query("smell", "x")]}, {"queries": [Query("photo", b"no picture")]},
        {"queries": [Query("title", "red"), Query("title", "red", -1.0)]}, {"queries": [Query("title", "")]},
        {"queries": [Query("title", "x", float("nan"))]},
    ],
)  # fmt: skip
def test_what_cannot_be_searched_for_is_told(shop: Shop, wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        Searcher(shop.run, shop.index).search(**wrong)
    with pytest.raises(UserError):
        shop.index.search(np.zeros(8))
    with pytest.raises(UserError):
        shop.index.search(np.ones(9))


def test_the_command_line_says_the_same(shop: Shop, shell: Shell, tmp_path: Path, table: Any) -> None:
    out = tmp_path / "index"
    run = shop.folder / "run"
    done = shell.works("index", run, table(shop.rows[:12]), "--out", out, "--key", "name", "--json", "--quiet")
    assert json.loads(done.out)["written"] == 12
    picture = shop.folder / shop.rows[2]["photo"]
    both = shell.works("search", out, "red mug", picture, "--weight", 1, "--weight", 3, "--in", "photo", "-k", 4,
                       "--where", "price < 1000", "--json")  # fmt: skip
    found = json.loads(both.out)
    assert found["count"] == 12
    index = polymodal.open_index(out)
    asked = [Query("title", "red mug"), Query("photo", str(picture), 3.0)]
    wanted = Searcher(shop.run, index).search(asked, k=4, where="price < 1000", space="photo")
    assert [h["id"] for h in found["hits"]] == [h.id for h in wanted]
    assert found["hits"][0]["row"] == wanted[0].row
    text = shell.works("search", out, "--like", "n/3", "--unlike", "n/4", "-k", 2)
    assert len(text.out.splitlines()) == 2
    assert shop.rows[0]["title"] in shell.works("search", out, "--where", "name = 'n/0'").out
    assert "nothing" in shell.works("search", out, "--words", "zebra").out
    done = shell.works("index", run, "--out", out, "--delete", "n/1,n/99", "--json")
    assert json.loads(done.out) == {"deleted": 1, "count": 11}
    gone = table([{"name": "n/2", "photo": None}, {"name": "n/3", "photo": None}], "gone.csv")
    shell.works("index", run, "--out", out, "--delete", gone)
    assert len(index) == 9
    for words in (["search", out, "--where", "price <"], ["search", tmp_path], ["search", out, "x", "--run", tmp_path],
                  ["search", out, "--ask", "photo"], ["search", out, "red", "--weight", 1, "--weight", 2],
                  ["index", run, "--out", out], ["search", out, "--ask", f"photo={tmp_path}"]):  # fmt: skip
        shell.fails(*words)


def index_in_child(run: Path, table: Path, out: Path) -> None:
    """What the process does that is killed."""
    build.WRITTEN, build.LOOKED = 3, 7
    polymodal.load(run).index(table, out=out, key="name")


@pytest.fixture(scope="module")
def processes() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["polymodal.api", "polymodal.serve.index.build", "endtoend"])
    return context


def test_killed_at_any_moment_it_goes_on_where_it_was(shop: Shop, tmp_path: Path, table: Any, processes: Any) -> None:
    rows = [{**shop.rows[at % 24], "name": f"r{at}", "title": f"mug {at}"} for at in range(60)]
    path, draw, kills = table(rows), np.random.default_rng(0), 0
    out, counts = tmp_path / "index", [0]
    while kills < 4:
        child = processes.Process(target=index_in_child, args=(shop.folder / "run", path, out))
        child.start()
        seen, patience = counts[-1], time.monotonic() + 60
        while child.is_alive() and time.monotonic() < patience:
            with_index = (out / "index.json").is_file()
            if with_index and len(polymodal.open_index(out)) > seen + int(draw.integers(0, 15)):
                break
        time.sleep(float(draw.uniform(0, 0.05)))
        child.kill()
        child.join()
        kills += 1
        there = len(polymodal.open_index(out))
        index = polymodal.open_index(out)
        ids = list(index.place.ids())
        assert len(ids) == len(set(ids)) == there >= counts[-1]  # nothing that counted is lost, nothing is double
        counts.append(there)
        if there == 60:
            break
    assert counts[1] < 60
    told = shop.run.index(path, out=out, key="name")
    assert told.written == 60 - counts[-1]
    assert told.same == counts[-1]
    shop.run.index(path, out=tmp_path / "whole", key="name")
    names = [r["name"] for r in rows]
    one, two = polymodal.open_index(out), polymodal.open_index(tmp_path / "whole")
    assert sorted(one.place.ids()) == sorted(names)
    assert one.rows(names) == two.rows(names)
    for space in ("photo", "title"):
        np.testing.assert_allclose(one.vectors(names, space), two.vectors(names, space), atol=1e-5)
    assert [one.preview(n, "photo") for n in names] == [two.preview(n, "photo") for n in names]


def test_the_help_names_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("index", "search"):
        with pytest.raises(SystemExit):
            cli.main([name, "--help"])
        assert "INDEX" in capsys.readouterr().out
