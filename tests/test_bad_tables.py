"""Tables with faults through train, evaluate and predict; and answers that follow their rows whatever stands around."""

from __future__ import annotations

import csv
import json
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import polymodal
from endtoend import (
    COLUMNS,
    INPUTS,
    Rows,
    Shell,
    Trained,
    make_rows,
    read_answers,
    read_ledger,
    same_answer,
    spec,
    write_spec,
    write_table,
)

FORMATS = (".csv", ".jsonl", ".parquet")
GERMAN = ["rote Öllampe", "blaue Schüssel", "grüner Becher", "schöne Gläser"]


def german(rows: Rows) -> Rows:
    return [{**row, "title": GERMAN[i % 4] + " " + row["title"]} for i, row in enumerate(rows)]


def plan(folder: Path, table: Path, *inputs: str, **sections: Any) -> Path:
    return write_spec(folder / "spec.yaml", spec(table, inputs or ["facts"], **sections))


def test_a_table_that_is_not_utf8(trained: Trained, shell: Shell, tmp_path: Path) -> None:
    """Refused with line, byte and advice by all three commands and by check; read with the right encoding."""
    utf8 = trained.table(tmp_path / "utf8.csv", german(trained.rows))
    table = tmp_path / "rows.csv"
    table.write_bytes(utf8.read_text(encoding="utf-8").encode("cp1252"))
    out = tmp_path / "a.jsonl"
    for words in (
        ("train", plan(tmp_path, table, "title"), "--out", tmp_path / "run"),
        ("evaluate", trained.run, table),
        ("predict", trained.run, table, "--out", out),
        ("check", table),
    ):
        told = shell.fails(*words)
        assert "line 2" in told
        assert "is not utf-8" in told
        assert "cp1252" in told
    assert not (tmp_path / "run").exists()
    assert not out.exists()
    shell.works("train", plan(tmp_path, table, "title"), "--out", tmp_path / "run", "--set", "data.encoding=cp1252")
    shell.works("train", plan(tmp_path, utf8, "title"), "--out", tmp_path / "other")
    files = [tmp_path / run / "weights.safetensors" for run in ("run", "other")]
    assert files[0].read_bytes() == files[1].read_bytes()
    shell.works("predict", tmp_path / "run", table, "--out", out)
    shell.works("predict", tmp_path / "other", utf8, "--out", tmp_path / "b.jsonl")
    assert out.read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_a_row_that_is_not_utf8(trained: Trained, shell: Shell, tmp_path: Path) -> None:
    """A stray byte in one cell breaks one row."""
    table = trained.table(tmp_path / "rows.csv", german(trained.rows))
    lines = table.read_bytes().splitlines(keepends=True)
    lines[6] = lines[6].replace(b"Sch", b"\xff\xfe")
    lines.insert(6, lines[7])
    table.write_bytes(b"".join(lines))
    lines.pop(7)
    (tmp_path / "good.csv").write_bytes(b"".join(lines))
    broken_row(trained, shell, tmp_path, table, tmp_path / "good.csv", 6, "is not in the table's encoding (byte 0xff)")


@pytest.mark.parametrize("fault", ["too short", "too long"])
def test_a_ragged_csv(trained: Trained, shell: Shell, tmp_path: Path, fault: str) -> None:
    table, good = (trained.table(tmp_path / name, trained.rows) for name in ("rows.csv", "good.csv"))
    lines = table.read_text(encoding="utf-8").splitlines()
    bad = lines[5].rpartition(",")[0] if fault == "too short" else lines[5] + ",one,two"
    table.write_text("\n".join([*lines[:5], bad, *lines[5:]]) + "\n", encoding="utf-8")
    cells = 5 if fault == "too short" else 8
    broken_row(trained, shell, tmp_path, table, good, 4, f"has {cells} cells where the header has 6")


def broken_row(trained: Trained, shell: Shell, folder: Path, table: Path, good: Path, row: int, reason: str) -> None:
    """Through train, evaluate and predict: row `row` of `table` is broken, the others are those of `good`."""
    for on_bad in ("skip", "missing"):
        words = ("--set", f"data.on_bad={on_bad}", "--quiet")
        shell.works("train", plan(folder, table), "--out", folder / on_bad, *words)
        (entry,) = read_ledger(folder / on_bad)
        assert entry == {"table": str(table), "row": row, "column": "", "file": "", "action": "skipped",
                         "reason": entry["reason"]}  # fmt: skip
        assert entry["reason"].startswith(reason)
        shell.works("predict", trained.run, table, "--out", folder / f"{on_bad}.jsonl", "--on-bad", on_bad)
    assert (folder / "skip.jsonl").read_bytes() == (folder / "missing.jsonl").read_bytes()
    told = shell.fails("train", plan(folder, table), "--out", folder / "fail", "--set", "data.on_bad=fail")
    assert f"row {row}: {reason}" in told
    shell.works("predict", trained.run, good, "--out", folder / "good.jsonl")
    answers, expected = read_answers(folder / "skip.jsonl"), read_answers(folder / "good.jsonl")
    bad = answers.pop(row)
    assert (bad["row"], bad["label"], bad["label.confidence"]) == (row, None, None)
    assert bad["error"].startswith(reason)
    assert all(same_answer(a, b) for a, b in zip(answers, expected, strict=True))
    found = json.loads(shell.works("evaluate", trained.run, table, "--json", "--no-withheld").out)
    assert (found["rows"], found["ledger"]) == (len(expected), {"skipped": 1})


def test_a_line_that_is_no_json(trained: Trained, shell: Shell, tmp_path: Path) -> None:
    table, good = (trained.table(tmp_path / name, trained.rows) for name in ("rows.jsonl", "good.jsonl"))
    lines = table.read_text(encoding="utf-8").splitlines()
    table.write_text("\n".join([lines[0], lines[1][:-9], "", "[1, 2]", *lines[1:]]) + "\n", encoding="utf-8")
    shell.works("predict", trained.run, table, "--out", tmp_path / "a.jsonl")
    answers = read_answers(tmp_path / "a.jsonl")
    assert [a["row"] for a in answers] == list(range(42))  # a blank line is no row
    assert "is no valid JSON" in answers[1]["error"]
    assert "is no JSON object" in answers[2]["error"]
    assert all(same_answer(a, b) for a, b in zip([answers[0], *answers[3:]], trained.answers, strict=True))
    assert good.is_file()


FAULTY = {
    "no.csv": (None, "no such file"),
    "empty.csv": (b"", "is empty"),
    "header.csv": (b"photo,title,sound,price,brand,label\n", "has no rows"),
    "twice.csv": (b"title,title\na,b\n", "two columns have one name"),
    "quote.csv": (b'title,label\na,b\n"c,d\ne,f\n', "never closed"),
    "empty.jsonl": (b"", "is empty"),
    "words.jsonl": (b"hello\n", "no line is a JSON object"),
    "text.parquet": (b"hello", "cannot be read as Parquet"),
    "empty.parquet": (b"", "cannot be read as Parquet"),
    "table.xlsx": (b"PK", "no table has this ending"),
    "text.csv.gz": (b"title,label\na,b\n", "no whole gzip file"),
}


@pytest.mark.parametrize("name", FAULTY)
def test_tables_that_cannot_be_read(trained: Trained, shell: Shell, tmp_path: Path, name: str) -> None:
    """Every command refuses them alike, and leaves nothing behind."""
    content, reason = FAULTY[name]
    table = tmp_path / name
    if content is not None:
        table.write_bytes(content)
    out = tmp_path / "answers.csv"
    for words in (
        ("train", plan(tmp_path, table), "--out", tmp_path / "run"),
        ("evaluate", trained.run, table),
        ("predict", trained.run, table, "--out", out),
        ("check", table),
        ("check", "--spec", tmp_path / "spec.yaml"),
    ):
        told = shell.fails(*words)
        assert reason in told
        assert name in told
    assert not out.exists()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("column", ["photo", "price", "label"])
def test_a_column_that_is_not_in_the_table(trained: Trained, shell: Shell, tmp_path: Path, column: str) -> None:
    """The message says which place of the spec wants it, and what is there; predict needs no target."""
    near = column + "s"
    table = trained.table(tmp_path / "rows.csv", [{near if k == column else k: v for k, v in r.items()}
                                                  for r in trained.rows])  # fmt: skip
    out = tmp_path / "a.csv"
    where = {"photo": "inputs.photo.column", "price": "inputs.facts.columns", "label": "tasks.label.column"}[column]
    commands: list[tuple] = [
        ("train", plan(tmp_path, table, *INPUTS), "--out", tmp_path / "run"),
        ("evaluate", trained.run, table),
        ("check", "--spec", tmp_path / "spec.yaml"),
    ]
    predict = ("predict", trained.run, table, "--out", out)
    if column == "label":
        shell.works(*predict)
        assert all(same_answer(a, b) for a, b in zip(read_answers(out), trained.answers, strict=True))
    else:
        commands.append(predict)
    for words in commands:
        told = shell.fails(*words)
        assert told.startswith(f"{where}: no column of this name")
        assert f"given: '{column}'" in told
        assert f"try:   '{near}'" in told
    assert not (tmp_path / "run").exists()
    assert out.exists() == (column == "label")


def test_all_rows_bad(trained: Trained, shell: Shell, tmp_path: Path) -> None:
    """Training does not begin; predicting still gives every row, with its reason; evaluating has nothing to measure."""
    rows = [{**row, "photo": f"gone-{i}.jpg"} for i, row in enumerate(trained.rows[:12])]
    table = trained.table(tmp_path / "rows.csv", rows)
    told = shell.fails("train", plan(tmp_path, table, "photo"), "--out", tmp_path / "run")
    assert "rows can be used" in told
    assert "file not found" in told
    assert "gone-0.jpg" in told or "gone-1.jpg" in told
    assert not (tmp_path / "run").exists()
    for ending in FORMATS:
        out = tmp_path / f"a{ending}"
        shell.works("predict", trained.run, table, "--out", out)
        answers = read_answers(out)
        assert [a["row"] for a in answers] == list(range(12))
        assert all(a["label"] is a["label.confidence"] is None for a in answers)
        assert all("file not found" in a["error"] for a in answers)
    told = shell.fails("evaluate", trained.run, table, "--json")
    assert "none of 12 rows" in told
    assert "file not found" in told


def test_no_row_has_a_target(trained: Trained, shell: Shell, tmp_path: Path) -> None:
    table = trained.table(tmp_path / "rows.csv", [{**row, "label": None} for row in trained.rows[:12]])
    told = shell.fails("train", plan(tmp_path, table), "--out", tmp_path / "run")
    assert "no training row names a class" in told
    told = shell.fails("evaluate", trained.run, table, "--json")
    assert "none of 12 rows" in told


@pytest.mark.parametrize("part", ["valid", "test"])
def test_a_part_of_which_all_rows_are_bad(shell: Shell, tmp_path: Path, part: str) -> None:
    """Every part that the spec names must have rows that can be used, before hours are spent on training."""
    rows = make_rows(tmp_path, 24)
    parts = ["train", "valid", "test"]
    rows = [{**row, "part": parts[i // 8], "price": "?!" if parts[i // 8] == part else row["price"]}
            for i, row in enumerate(rows)]  # fmt: skip
    table = write_table(tmp_path / "rows.csv", rows)
    data = {"split": "column", "split_column": "part"}
    told = shell.fails("train", plan(tmp_path, table, data=data), "--out", tmp_path / "run")
    assert "none of 8 rows can be used" in told
    assert "'?!' is no number" in told


def test_a_class_that_only_the_test_has(shell: Shell, tmp_path: Path) -> None:
    """It counts as wrong, in training's own test and in evaluate, and is never an answer."""
    rows = [{**row, "part": "test" if i >= 12 else "train"} for i, row in enumerate(make_rows(tmp_path, 24))]
    rows[-1]["label"] = "perhaps"
    table = write_table(tmp_path / "rows.csv", rows)
    data = {"split": "column", "split_column": "part", "valid": 0.25}
    shell.works("train", plan(tmp_path, table, data=data, train={"epochs": 8}), "--out", tmp_path / "run")
    test = json.loads((tmp_path / "run" / "metrics.json").read_text())["test"]
    assert test["rows"] == 12
    shell.works("predict", tmp_path / "run", table, "--out", tmp_path / "a.csv")
    answers = read_answers(tmp_path / "a.csv")
    right = sum(a["label"] == r["label"] for a, r in zip(answers[12:], rows[12:], strict=True))
    assert test["tasks"]["label"]["accuracy"]["value"] == pytest.approx(right / 12)
    assert {a["label"] for a in answers} <= {"yes", "no"}
    only = write_table(tmp_path / "only.csv", rows[-1:])
    found = json.loads(shell.works("evaluate", tmp_path / "run", only, "--json").out)
    assert found["tasks"]["label"]["accuracy"]["value"] == 0


@pytest.mark.parametrize("source", FORMATS)
@pytest.mark.parametrize("ending", FORMATS)
def test_keep_and_extra_columns(trained: Trained, shell: Shell, tmp_path: Path, source: str, ending: str) -> None:
    """Columns that no input reads change nothing; `--keep` adds those that an input reads, and no others."""
    rows = [{"note": f"note {i}", **row, "error": "mine"} for i, row in enumerate(trained.rows)]
    table, out = trained.table(tmp_path / f"rows{source}", rows), tmp_path / f"a{ending}"
    shell.works("predict", trained.run, table, "--out", out, "--keep")
    answers = read_answers(out)
    assert list(answers[0]) == ["row", "label", "label.confidence", "error", *COLUMNS[:-1]]
    assert [a["title"] for a in answers] == [r["title"] for r in rows]
    assert [float(a["price"]) for a in answers] == [r["price"] for r in rows]
    assert all(a["photo"] == str(trained.folder / r["photo"]) for a, r in zip(answers, rows, strict=True))
    assert all(same_answer(a, b) for a, b in zip(answers, trained.answers, strict=True))


def test_an_input_named_as_an_answer(shell: Shell, tmp_path: Path) -> None:
    """With `--keep` neither column hides the other."""
    rows = [{"error": row["title"], "label": row["label"]} for row in make_rows(tmp_path, 12)]
    table = write_table(tmp_path / "rows.csv", rows)
    shell.works("train", write_spec(tmp_path / "spec.yaml", spec(table, {"error": "text"})), "--out", tmp_path / "run")
    shell.works("predict", tmp_path / "run", table, "--out", tmp_path / "a.csv", "--keep")
    answers = read_answers(tmp_path / "a.csv")
    assert [a["given.error"] for a in answers] == [r["error"] for r in rows]
    assert all(a["error"] is None and a["label"] for a in answers)


def test_answers_with_commas_quotes_and_lines(shell: Shell, tmp_path: Path) -> None:
    """Classes and kept cells come back whole from every format."""
    names = ['a, "b"', "c\nd", "über 你好 | =1+1"]
    rows = [{"text": f'{name} {i}, "x"\r\ny', "label": name} for i in range(6) for name in names]
    table = write_table(tmp_path / "rows.csv", rows)
    text = {"text": {"type": "text", "min_count": 1, "encoder": {"type": "bag", "width": 8}}}
    path = write_spec(tmp_path / "spec.yaml", spec(table, text, train={"epochs": 30}))
    shell.works("train", path, "--out", tmp_path / "run")
    for ending in FORMATS:
        shell.works("predict", tmp_path / "run", table, "--out", tmp_path / f"a{ending}", "--keep")
        answers = read_answers(tmp_path / f"a{ending}")
        assert [a["text"] for a in answers] == [r["text"] for r in rows]
        assert {a["label"] for a in answers} <= set(names)
        assert len({a["label"] for a in answers}) > 1


BAD_CELLS = {"photo": "gone.jpg", "sound": "gone.wav", "price": "inf"}
orders = st.lists(
    st.one_of(st.integers(0, 39), st.sampled_from(sorted(BAD_CELLS))), min_size=1, max_size=90
)  # a good row by its number, any number of times, or a bad row by its bad column


@pytest.fixture(scope="module")
def loaded(trained: Trained) -> polymodal.Run:
    return polymodal.load(trained.run)


def test_answers_differ_from_row_to_row(trained: Trained) -> None:
    """Or the tests below could not see a swap."""
    said = sorted(a["label.confidence"] for a in trained.answers)
    assert min(b - a for a, b in pairwise(said)) > 0
    assert len({round(s, 4) for s in said}) > 30


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=orders, ending=st.sampled_from(FORMATS))
def test_answers_follow_their_rows(
    trained: Trained, loaded: polymodal.Run, tmp_path: Path, order: list[int | str], ending: str
) -> None:
    """Shuffled, repeated, and with bad rows among them: a row is answered as in the table it first stood in."""
    rows = [trained.rows[at] if isinstance(at, int) else {**trained.rows[0], at: BAD_CELLS[at]} for at in order]
    table, out = trained.table(tmp_path / f"rows{ending}", rows), tmp_path / f"answers{ending}"
    assert loaded.predict(table, out=out) == len(rows)
    answers = read_answers(out)
    assert [a["row"] for a in answers] == list(range(len(rows)))
    for at, answer in zip(order, answers, strict=True):
        if isinstance(at, int):
            assert same_answer(answer, trained.answers[at])
            assert answer["error"] is None
        else:
            assert answer["label"] is answer["label.confidence"] is None
            assert at in answer["error"]


def test_a_row_alone_is_answered_as_among_others(trained: Trained, loaded: polymodal.Run) -> None:
    for at in range(0, 40, 5):
        row = trained.rows[at]
        there = {k: str(trained.folder / row[k]) if k in ("photo", "sound") else row[k] for k in row}
        (answer,) = loaded.predict([there])  # type: ignore[misc]
        assert same_answer(answer, trained.answers[at])


def test_rows_that_share_a_picture(trained: Trained, loaded: polymodal.Run, tmp_path: Path) -> None:
    """One file under two names, and one name in many rows: each row is answered as with a copy of its own."""
    shared, copies = [], []
    for i, row in enumerate(trained.rows):
        copy = tmp_path / f"copy-{i}.png"
        copy.write_bytes((trained.folder / trained.rows[0]["photo"]).read_bytes())
        shared.append({**row, "photo": trained.rows[0]["photo"]})
        copies.append({**row, "photo": str(copy)})
    one, two = (loaded.predict(trained.table(tmp_path / f"{n}.csv", r)) for n, r in (("a", shared), ("b", copies)))
    assert isinstance(one, list)
    assert isinstance(two, list)
    assert all(same_answer(a, b) for a, b in zip(one, two, strict=True))
    assert not all(same_answer(a, b) for a, b in zip(one, trained.answers, strict=True))


def test_more_rows_than_a_batch_and_bad_ones_at_its_edges(
    trained: Trained, loaded: polymodal.Run, tmp_path: Path
) -> None:
    """Whole batches of bad rows, and bad rows first and last in a batch of 64."""
    order: list[int | None] = [i % 40 for i in range(200)]
    for number in (63, 64, 127, *range(128, 192)):
        order[number] = None
    rows = [{**trained.rows[0], "photo": "gone.jpg"} if at is None else trained.rows[at] for at in order]
    out = tmp_path / "a.csv"
    assert loaded.predict(trained.table(tmp_path / "rows.csv", rows), out=out) == 200
    for at, answer in zip(order, read_answers(out), strict=True):
        assert answer["label"] is None if at is None else same_answer(answer, trained.answers[at])


def test_workers_and_the_cache_change_no_answer(shell: Shell, tmp_path: Path) -> None:
    """The same bad rows, skipped in the same places, whoever reads them."""
    rows = make_rows(tmp_path, 30)
    rows[4]["photo"], rows[17]["photo"] = "gone.jpg", "gone too.jpg"
    table = write_table(tmp_path / "rows.csv", rows)
    for name, changes in {"a": [], "b": ["train.workers=2", "data.cache_mb=0"]}.items():
        words = [w for change in changes for w in ("--set", change)]
        shell.works("train", plan(tmp_path, table, "photo"), "--out", tmp_path / name, "--quiet", *words)
        shell.works("predict", tmp_path / name, table, "--out", tmp_path / f"{name}.csv", "--quiet")
    for name in ("weights.safetensors", "ledger.jsonl"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    with (tmp_path / "a.csv").open(newline="") as file:
        assert [r["row"] for r in csv.DictReader(file) if r["error"]] == ["4", "17"]


MIXED = {
    "mixed": [1, "a", True, 2.5],
    "whole numbers of 25 digits": [2**80, 2**80 + 1],
    "half characters": ["a\udc80", "b"],
    "some and none": [None, "a", "b"],
}


@pytest.mark.parametrize("name", MIXED)
def test_classes_and_cells_of_many_types(shell: Shell, tmp_path: Path, name: str) -> None:
    """Only what can be one type is; what cannot is text in Parquet, as JSON writes it, and itself in JSON Lines."""
    rows = [{"x": float(i), "note": cell, "label": cell} for i in range(8) for cell in MIXED[name]]
    columns = {column: [row[column] for row in rows] for column in rows[0]}
    one = {"x": {"type": "tabular", "columns": ["x"]}, "note": "text"}
    plain = {**spec(None, one), "data": {}}
    run = polymodal.train(columns, spec=plain, out=tmp_path / "run", quiet=True)
    lines = run.predict(columns, keep=True)
    assert isinstance(lines, list)
    for ending in FORMATS:
        assert run.predict(columns, out=tmp_path / f"a{ending}", keep=True) == len(rows)
        assert len(read_answers(tmp_path / f"a{ending}")) == len(rows)
    assert read_answers(tmp_path / "a.jsonl") == lines
    assert polymodal.load(tmp_path / "run").predict(columns, keep=True) == lines
    kept = [a["note"] for a in read_answers(tmp_path / "a.parquet")]
    expected = [json.dumps(r["note"]).strip('"') if r["note"] is not None else None for r in rows]
    assert kept == expected


def test_a_column_that_changes_its_type_late(tmp_path: Path) -> None:
    """A Parquet file cannot take that back: it is refused, with what to do, and CSV takes it."""
    from polymodal.work.predict import write

    lines: Rows = [{"row": i, "note": i if i < 20_000 else "late"} for i in range(20_001)]
    with pytest.raises(polymodal.UserError, match="cells of column 'note' are not all int64") as error:
        write(iter(lines), tmp_path / "a.parquet")
    assert ".csv" in error.value.advice
    assert not list(tmp_path.iterdir())
    assert write(iter(lines), tmp_path / "a.csv") == 20_001


def test_files_and_folders_with_names_that_are_no_text(shell: Shell, tmp_path: Path) -> None:
    """Linux allows any bytes in a name: such files are read, and such a folder is a class as any other."""
    from PIL import Image

    folder = tmp_path / "classes"
    for label in (b"cat", b"d\xffg"):
        where = os.fsencode(folder) + b"/" + label
        try:
            os.makedirs(where)
        except OSError:
            pytest.skip("this file system wants text")
        for i in range(10):
            picture = Image.new("RGB", (16, 16), (25 * i, 0, 200 if label == b"cat" else 0))
            picture.save(os.fsdecode(where + b"/p\xfe%d.png" % i))
    photo = {"file": {"type": "image", "size": 16, "encoder": {"type": "cnn", "channels": [4, 8]}}}
    path = write_spec(tmp_path / "spec.yaml", spec(folder, photo, train={"epochs": 30}))
    shell.works("train", path, "--out", tmp_path / "run", "--quiet")
    for ending in FORMATS:
        shell.works("predict", tmp_path / "run", folder, "--out", tmp_path / f"a{ending}", "--keep")
        answers = read_answers(tmp_path / f"a{ending}")
        named = [a["label"].encode("utf-8", "backslashreplace").decode() for a in answers]
        assert named == ["cat"] * 10 + ["d\\udcffg"] * 10
    shell.works("check", folder, "--json")


def test_a_score_that_is_not_defined(shell: Shell, tmp_path: Path) -> None:
    """Watching AUROC where all validation rows have one class: training goes on, and resumes."""
    rows = [{**row, "part": "valid" if i in (3, 5) else "train"} for i, row in enumerate(make_rows(tmp_path, 20))]
    table = write_table(tmp_path / "rows.csv", rows)
    path = plan(tmp_path, table, data={"split": "column", "split_column": "part"},
                train={"epochs": 2, "monitor": "label.auroc"})  # fmt: skip
    shell.works("train", path, "--out", tmp_path / "run")
    history = [json.loads(line) for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines()]
    assert [entry["valid"]["label.auroc"] for entry in history] == [None, None]
    losses = [entry["valid"]["label.loss"] for entry in history]
    assert [entry["best"] for entry in history] == [True, losses[1] < losses[0]]  # the smaller loss decides
