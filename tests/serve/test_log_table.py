"""What was served as a table: its columns and files, damaged lines, times, and what can be done with it."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import polymodal
from endtoend import Shell, Trained, read_answers, same_answer, spec, write_spec
from polymodal.core.errors import TableError, UserError
from polymodal.serve.http import ServeSettings, make_app
from polymodal.serve.log_table import is_log, log_table, open_log


@pytest.fixture(scope="module")
def logged(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log of a server that was asked about the first 30 rows, five at a time."""
    folder = tmp_path_factory.mktemp("log")
    settings = ServeSettings(log=str(folder), access_log="none", threads=1)
    with TestClient(make_app(polymodal.load(trained.run), settings=settings)) as client:
        for start in range(0, 30, 5):
            rows = [sent(trained, row) for row in trained.rows[start : start + 5]]
            assert client.post("/v1/predict", json={"rows": rows}).status_code == 200
    return folder


def sent(trained: Trained, row: dict[str, Any]) -> dict[str, Any]:
    def coded(name: str) -> dict[str, str]:
        return {"base64": base64.b64encode((trained.folder / row[name]).read_bytes()).decode()}

    plain = {n: v for n, v in row.items() if n != "label"}
    return {**plain, "photo": coded("photo"), "sound": coded("sound")}


def line(**changes: Any) -> dict[str, Any]:
    return {"time": "2026-05-01T10:00:00.000Z", "id": "a", "n": 0, "row": {"title": "mug"}, "files": [],
            "answers": {"label": "yes", "label.confidence": 0.7}, "error": None, **changes}  # fmt: skip


def write_log(folder: Path, *lines: Any, name: str = "predictions-1.jsonl", tail: bytes = b"") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{one if isinstance(one, str) else json.dumps(one)}\n" for one in lines)
    (folder / name).write_bytes(text.encode() + tail)
    return folder


def test_every_served_row_stands_in_the_table(logged: Path, trained: Trained, tmp_path: Path) -> None:
    told = log_table(logged, tmp_path / "deep" / "table.jsonl")
    assert (told.rows, told.damaged, told.gone) == (30, 0, 0)
    rows = read_answers(tmp_path / "deep" / "table.jsonl")
    assert list(rows[0]) == ["time", "id", "n", "photo", "title", "sound", "price", "brand", "label.said",
                             "label.confidence", "error"]  # fmt: skip
    for row, known, answer in zip(rows, trained.rows[:30], trained.answers[:30], strict=True):
        assert (row["title"], row["price"], row["brand"]) == (known["title"], known["price"], known["brand"])
        assert row["label.said"] == answer["label"]
        here = tmp_path / "deep" / row["photo"]  # from the table's folder
        assert here.read_bytes() == (trained.folder / known["photo"]).read_bytes()
    assert [r["n"] for r in rows[:6]] == [0, 1, 2, 3, 4, 0]
    assert len({r["id"] for r in rows}) == 6


def test_the_table_is_predicted_learned_from_and_compared(logged: Path, trained: Trained, tmp_path: Path,
                                                          shell: Shell) -> None:  # fmt: skip
    table = tmp_path / "table.jsonl"
    assert "30 rows" in shell.works("log", logged, "--out", table).err
    run = polymodal.load(trained.run)
    again = run.predict(table)
    assert isinstance(again, list)
    assert all(same_answer(a, b) for a, b in zip(again, trained.answers[:30], strict=True))
    direct = run.predict(logged)  # the log's folder itself
    assert direct == again
    assert not run.drift(logged, against=trained.folder / "rows.csv").drifted
    labelled = [{**row, "label": known["label"]} for row, known in zip(read_answers(table), trained.rows, strict=False)]
    table.write_text("".join(json.dumps(row) + "\n" for row in labelled))
    right = sum(r["label"] == r["label.said"] for r in labelled) / 30
    measured = run.evaluate(table, withheld=False).json()["tasks"]["label"]["accuracy"]["value"]
    assert measured == pytest.approx(right)
    plan = write_spec(tmp_path / "spec.yaml", spec(table))
    shell.works("train", plan, "--out", tmp_path / "run", "--quiet")


def test_damaged_lines_are_passed_over_and_counted(tmp_path: Path) -> None:
    whole = json.dumps(line())
    folder = write_log(tmp_path / "log", line(), whole[:40], "[1, 2]", "null", {"time": 3}, line(files=["title"]),
                       "", line(id="b"), tail=whole.encode()[: len(whole) // 2])  # fmt: skip
    write_log(folder, line(id="c"), name="predictions-2.jsonl", tail=b"\x00" * 512 + b"\xff\xfe")
    told = log_table(folder, tmp_path / "t.jsonl")
    assert (told.rows, told.damaged) == (3, 7)
    assert "7 damaged lines" in str(told)
    assert [row["id"] for row in read_answers(tmp_path / "t.jsonl")] == ["a", "b", "c"]
    for cut in range(1, len(whole)):  # power may be lost at any byte
        write_log(tmp_path / "cut", line(), tail=whole.encode()[:cut])
        assert log_table(tmp_path / "cut", tmp_path / "c.jsonl").rows == 1


def test_no_path_but_that_of_a_stored_file_is_believed(tmp_path: Path) -> None:
    good = "files/" + "a" * 64 + ".png"
    paths = ["/etc/passwd", "files/../../x.png", "files/" + "a" * 64 + ".png/../../x", "https://x/y.png", good]
    folder = write_log(tmp_path / "log", *(line(row={"photo": p}, files=["photo"]) for p in paths))
    told = log_table(folder, tmp_path / "t.jsonl")
    assert (told.rows, told.damaged, told.gone) == (1, 4, 1)
    (row,) = read_answers(tmp_path / "t.jsonl")
    assert row["photo"] == f"log/{good}"


def test_times_and_columns_of_the_same_name(tmp_path: Path) -> None:
    folder = write_log(
        tmp_path / "log",
        *(line(time=f"2026-05-0{day}T10:00:00.000Z", row={"time": day, "label": "x"}) for day in range(1, 6)),
        line(time="2026-05-06T00:00:00.000Z", row={}, answers={"label": None}, error="photo: gone"),
    )
    told = log_table(folder, tmp_path / "t.csv", since="2026-05-03", until="2026-05-05T12")
    assert told.rows == 3
    rows = (tmp_path / "t.csv").read_text().splitlines()
    assert rows[0] == "served.time,id,n,time,label,label.said,label.confidence,error"
    assert rows[1] == "2026-05-03T10:00:00.000Z,a,0,3,x,yes,0.7,"
    log_table(folder, tmp_path / "t.parquet")
    assert read_answers(tmp_path / "t.parquet")[-1]["error"] == "photo: gone"


def test_what_is_no_log_is_refused(tmp_path: Path, shell: Shell) -> None:
    assert not is_log(tmp_path)
    assert not is_log({"a": [1]})
    with pytest.raises(TableError, match="is no log"):
        log_table(tmp_path, tmp_path / "t.jsonl")
    with pytest.raises(TableError, match="holds no row"):
        log_table(write_log(tmp_path / "empty", "{}"), tmp_path / "t.jsonl")
    with pytest.raises(TableError, match="is no log"):
        open_log(tmp_path)
    with pytest.raises(UserError, match="ending"):
        log_table(write_log(tmp_path / "log", line()), tmp_path / "t.txt")
    assert "is no log" in shell.fails("log", tmp_path, "--out", tmp_path / "t.jsonl")
