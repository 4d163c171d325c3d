"""Every kind of bad cell through train, evaluate and predict: it is named, and no other row changes."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

import polymodal
from endtoend import (
    INPUTS,
    Shell,
    Trained,
    huge_png,
    make_rows,
    read_answers,
    read_ledger,
    same_answer,
    spec,
    write_spec,
    write_table,
    write_wav,
)

PARTS = ("train", "valid", "test")
FORMATS = (".csv", ".jsonl", ".parquet")


class Case(NamedTuple):
    """A bad cell: its column and input, how it is made in a folder, and what must be said of it."""

    column: str
    make: Callable[[Path], Any]
    reason: str

    @property
    def input(self) -> str:
        return self.column if self.column in INPUTS else "facts"

    @property
    def place(self) -> str:
        """The columns that the ledger names."""
        return self.column if self.column in INPUTS else ", ".join(INPUTS["facts"]["columns"])


def stored(name: str, content: bytes) -> Callable[[Path], str]:
    def make(folder: Path) -> str:
        (folder / name).write_bytes(content)
        return str(folder / name)

    return make


def truncated(name: str) -> Callable[[Path], str]:
    """A file of which the second half is gone."""

    def make(folder: Path) -> str:
        path = folder / name
        if path.suffix == ".wav":
            write_wav(path, np.zeros(4000))
        else:
            noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(noise).save(path)
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        return str(path)

    return make


def silent(folder: Path) -> str:
    return str(write_wav(folder / "nothing.wav", np.zeros(0)))


def huge(folder: Path) -> str:
    return stored("huge.png", huge_png(50_000))(folder)


def a_folder(folder: Path) -> str:
    (folder / "folder.jpg").mkdir()
    return str(folder / "folder.jpg")


BAD = {
    "truncated JPEG": Case("photo", truncated("cut.jpg"), "truncated"),
    "truncated PNG": Case("photo", truncated("cut.png"), "truncated|damaged"),
    "empty JPEG": Case("photo", stored("empty.jpg", b""), "empty file"),
    "PNG of 50,000 x 50,000 pixels": Case("photo", huge, "more than 178,956,970 pixels"),
    "text file named .jpg": Case("photo", stored("text.jpg", b"dear diary\n" * 50), "not a picture"),
    "missing file": Case("photo", lambda folder: str(folder / "gone.jpg"), "file not found"),
    "folder named .jpg": Case("photo", a_folder, "is a folder"),
    "name that is too long": Case("photo", lambda folder: str(folder / ("x" * 5000 + ".jpg")), "cannot be opened"),
    "text of 10 MB for a path": Case("photo", lambda _: "lamp " * 2_000_000, "cannot be opened"),
    "name with a zero byte": Case("photo", lambda folder: f"{folder}/a\0b.jpg", "cannot be opened"),
    "missing sound": Case("sound", lambda folder: str(folder / "gone.wav"), "file not found"),
    "wav without samples": Case("sound", silent, "no samples"),
    "wav of no bytes": Case("sound", stored("empty.wav", b""), "empty file"),
    "truncated wav": Case("sound", truncated("cut.wav"), "truncated"),
    "picture named .wav": Case("sound", stored("text.wav", huge_png(3)), "not a sound"),
    "infinite number": Case("price", lambda _: "inf", "'inf'"),
    "minus infinity": Case("price", lambda _: "-Infinity", "Infinity"),
    "number beyond floats": Case("price", lambda _: "1e999", "1e999"),
    "word for a number": Case("price", lambda _: "cheap", "price: 'cheap' is no number"),
    "number with a comma": Case("price", lambda _: "1,200", "is no number"),
}  # fmt: skip
each_bad_cell = pytest.mark.parametrize("case", BAD.values(), ids=list(BAD))


def with_bad(trained: Trained, case: Case, folder: Path, at: tuple[int, ...]) -> tuple[list[dict], Any]:
    """The good rows with a bad one before each number in `at`, and the bad cell."""
    cell = case.make(folder)
    rows = list(trained.rows)
    for number in at:
        rows.insert(number, {**trained.rows[0], case.column: cell})
    return rows, cell


@each_bad_cell
def test_predict_keeps_the_rows_apart(trained: Trained, shell: Shell, tmp_path: Path, case: Case) -> None:
    """First, last and in the middle: an empty answer with its reason, and every other row's own answer."""
    at = (0, 20, 42)
    rows, _ = with_bad(trained, case, tmp_path, at)
    table, out = trained.table(tmp_path / "rows.csv", rows), tmp_path / "answers.csv"
    shell.works("predict", trained.run, table, "--out", out)
    expect(trained, read_answers(out), dict.fromkeys(at, case))


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("source", FORMATS)
def test_all_kinds_at_once(trained: Trained, shell: Shell, tmp_path: Path, source: str, ending: str) -> None:
    """In tables and prediction files of every format."""
    cases = list(BAD.values())
    bad = [{**trained.rows[0], case.column: case.make(tmp_path)} for case in cases]
    table = trained.table(tmp_path / f"rows{source}", [*trained.rows[:5], *bad, *trained.rows[5:]])
    out = tmp_path / f"answers{ending}"
    shell.works("predict", trained.run, table, "--out", out)
    expect(trained, read_answers(out), dict(enumerate(cases, 5)))


def expect(trained: Trained, answers: list[dict], bad: dict[int, Case]) -> None:
    """The answers to the good rows, in order, but for those of bad rows, by their numbers."""
    assert [a["row"] for a in answers] == list(range(40 + len(bad)))
    for number, case in bad.items():
        found = answers[number]
        assert found["label"] is None
        assert found["label.confidence"] is None
        assert found["error"].startswith(f"{case.place}: ")
        assert re.search(case.reason, found["error"])
    good = [a for a in answers if a["row"] not in bad]
    assert all(a["error"] is None for a in good)
    assert all(same_answer(a, b) for a, b in zip(good, trained.answers, strict=True))


@each_bad_cell
def test_predict_on_bad_missing_and_fail(trained: Trained, shell: Shell, tmp_path: Path, case: Case) -> None:
    """`missing` answers as for a row without that cell, and says why; `fail` writes nothing and names the cell."""
    rows, _ = with_bad(trained, case, tmp_path, (5,))
    gone = dict.fromkeys(INPUTS[case.input].get("columns", [case.column]))
    table = trained.table(tmp_path / "rows.csv", rows)
    blank = trained.table(tmp_path / "blank.csv", [{**trained.rows[0], **gone}])
    shell.works("predict", trained.run, table, "--out", tmp_path / "a.jsonl", "--on-bad", "missing")
    shell.works("predict", trained.run, blank, "--out", tmp_path / "b.jsonl")
    answers, (expected,) = read_answers(tmp_path / "a.jsonl"), read_answers(tmp_path / "b.jsonl")
    assert expected["error"] is None
    assert same_answer(answers[5], expected)
    assert re.search(case.reason, answers[5]["error"])
    told = shell.fails("predict", trained.run, table, "--out", tmp_path / "c.jsonl", "--on-bad", "fail")
    assert f"row 5: {case.place}" in told
    assert re.search(case.reason, told)
    assert not (tmp_path / "c.jsonl").exists()


@pytest.fixture(scope="module")
def measured(trained: Trained) -> dict[str, Any]:
    """What the run scores on its good rows."""
    return json.loads(
        json.dumps(polymodal.load(trained.run).evaluate(trained.folder / "rows.csv", withheld=False).json())
    )


@each_bad_cell
def test_evaluate_leaves_the_row_out(
    trained: Trained, measured: dict[str, Any], shell: Shell, tmp_path: Path, case: Case
) -> None:
    rows, _ = with_bad(trained, case, tmp_path, (7,))
    done = shell.works("evaluate", trained.run, trained.table(tmp_path / "bad.csv", rows), "--json", "--no-withheld")
    found = json.loads(done.out)
    assert found.pop("ledger") == {"skipped": 1}
    for warning in found["warnings"]:
        for pair in warning["pairs"]:
            pair["row"] -= pair["row"] > 7  # rows behind the bad one have moved
    assert found | {"ledger": {}} == measured
    assert found["rows"] == 40


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict]]:
    """Eight good rows for each part."""
    folder = tmp_path_factory.mktemp("marked")
    rows = make_rows(folder, 24)
    return folder, [{**row, "part": PARTS[i // 8]} for i, row in enumerate(rows)]


def train(shell: Shell, folder: Path, rows: list[dict], case: Case, root: Path, on_bad: str) -> tuple[Any, Path]:
    """Train the one input that the case is about, on parts that a column names."""
    table = write_table(folder / "rows.csv", rows)
    data = {"split": "column", "split_column": "part", "on_bad": on_bad, "root": str(root)}
    plan = write_spec(folder / "spec.yaml", spec(table, [case.input], data=data))
    return shell("train", plan, "--out", folder / "run", "--quiet"), table


@each_bad_cell
def test_train_skips_and_says_so(marked: Any, shell: Shell, tmp_path: Path, case: Case) -> None:
    """One bad row in every part: all three are in the ledger, with row, column, file, reason and action."""
    folder, rows = marked
    cell, at = case.make(tmp_path), (0, 9, 26)
    for number, part in zip(at, PARTS, strict=True):
        rows = [*rows[:number], {**marked[1][0], case.column: cell, "part": part}, *rows[number:]]
    done, table = train(shell, tmp_path, rows, case, folder, "skip")
    assert done == (0, "", done.err)
    ledger = read_ledger(tmp_path / "run")
    assert [e["row"] for e in ledger] == list(at)
    for entry in ledger:
        assert entry.keys() == {"table", "row", "column", "file", "reason", "action"}
        assert entry["table"] == str(table)
        assert entry["column"] == case.place
        assert entry["file"] == (cell[:4096] if case.input in ("photo", "sound") else "")
        assert re.search(case.reason, entry["reason"])
        assert entry["action"] == "skipped"
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["valid"]["rows"] == metrics["test"]["rows"] == 8


@each_bad_cell
def test_train_takes_it_as_missing_or_refuses(marked: Any, shell: Shell, tmp_path: Path, case: Case) -> None:
    folder, rows = marked
    (tmp_path / "missing").mkdir()
    (tmp_path / "fail").mkdir()
    rows = [*rows[:12], {**rows[12], case.column: case.make(tmp_path)}, *rows[13:]]
    done, _ = train(shell, tmp_path / "missing", rows, case, folder, "missing")
    assert done.code == 0, done.err
    (entry,) = read_ledger(tmp_path / "missing" / "run")
    assert (entry["row"], entry["column"], entry["action"]) == (12, case.place, "missing")
    metrics = json.loads((tmp_path / "missing" / "run" / "metrics.json").read_text())
    assert metrics["valid"]["rows"] == metrics["test"]["rows"] == 8
    done, _ = train(shell, tmp_path / "fail", rows, case, folder, "fail")
    assert done.code == 2
    assert f"row 12: {case.place}" in done.err
    assert re.search(case.reason, done.err)
    assert not (tmp_path / "fail" / "run").exists()


@each_bad_cell
def test_check_finds_it(shell: Shell, tmp_path: Path, marked: Any, case: Case) -> None:
    folder, rows = marked
    rows = [*rows[:12], {**rows[12], case.column: case.make(tmp_path)}, *rows[13:]]
    table = write_table(tmp_path / "rows.csv", rows)
    plan = write_spec(tmp_path / "spec.yaml", spec(table, [case.input], data={"root": str(folder)}))
    (entry,) = json.loads(shell.works("check", "--spec", plan, "--json").out)["bad"]
    assert (entry["row"], entry["column"]) == (12, case.place)
    assert re.search(case.reason, entry["reason"])
    assert "row 12" in shell.works("check", "--spec", plan).out


def test_a_huge_picture_costs_neither_time_nor_memory(trained: Trained, shell: Shell, tmp_path: Path) -> None:
    """The picture would take 2.5 GB; it is refused by its header."""
    rows, _ = with_bad(trained, BAD["PNG of 50,000 x 50,000 pixels"], tmp_path, (3,))
    table = trained.table(tmp_path / "rows.csv", rows)
    before = memory("VmRSS") if forget_peak() else None
    began = time.monotonic()
    shell.works("predict", trained.run, table, "--out", tmp_path / "a.csv")
    assert time.monotonic() - began < 5
    if before is not None:
        assert memory("VmHWM") - before < 100 << 10


def forget_peak() -> bool:
    """Let the kernel measure this process's peak memory anew (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return sys.platform == "linux"


def memory(name: str) -> int:
    """In kB."""
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.M)
    assert found
    return int(found[1])


def test_the_huge_picture_is_a_picture(tmp_path: Path) -> None:
    """The writer of the test is right: a smaller one opens, and is all black."""
    (tmp_path / "big.png").write_bytes(huge_png(1100))
    with Image.open(tmp_path / "big.png") as picture:
        assert picture.size == (1100, 1100)
        assert picture.getextrema() == (0, 0)


LONG = "lamp mug red " * 800_000  # 10 MB
FINE = {
    "n/a": {"price": "n/a"},
    "NaN": {"price": "NaN"},
    "no number": {"price": None},
    "unseen category": {"brand": "Zeta"},
    "empty text": {"title": ""},
    "text of spaces": {"title": "   "},
    "text of 10 MB": {"title": LONG},
    "text of signs": {"title": "\x07\u200b\U0001f600\ufeff"},
    "nothing at all": dict.fromkeys(("photo", "title", "sound", "price", "brand")),
}
ALIKE = [("n/a", "NaN"), ("n/a", "no number")]


@pytest.mark.parametrize("ending", FORMATS)
def test_odd_cells_are_answered(trained: Trained, shell: Shell, tmp_path: Path, ending: str) -> None:
    """Missing, unseen, empty and very long cells are no mistakes, and change no other row's answer."""
    odd = [{**trained.rows[3], **cells} for cells in FINE.values()]
    more = [{"brand": "Quux"}, {"title": LONG[: 64 * 128]}]
    odd += [{**trained.rows[3], **cells} for cells in more]
    table = trained.table(tmp_path / f"rows{ending}", [*odd, *trained.rows])
    shell.works("predict", trained.run, table, "--out", tmp_path / "a.jsonl")
    answers = read_answers(tmp_path / "a.jsonl")
    assert all(a["error"] is None and a["label"] in ("yes", "no") for a in answers)
    assert all(same_answer(a, b) for a, b in zip(answers[len(odd) :], trained.answers, strict=True))
    by_name = dict(zip(FINE, answers, strict=False))
    assert all(same_answer(by_name[a], by_name[b]) for a, b in ALIKE)
    unseen, cut = answers[len(FINE) : len(FINE) + 2]
    assert same_answer(by_name["unseen category"], unseen)
    assert same_answer(by_name["text of 10 MB"], cut)


@pytest.mark.parametrize("cells", FINE.values(), ids=list(FINE))
def test_odd_cells_are_trained_on(marked: Any, shell: Shell, tmp_path: Path, cells: dict[str, Any]) -> None:
    """In every part, with an empty ledger."""
    folder, rows = marked
    rows = rows + [{**rows[0], **cells, "part": part} for part in PARTS]
    names = {c if c in INPUTS else "facts" for c in cells}
    table = write_table(tmp_path / "rows.csv", rows)
    data = {"split": "column", "split_column": "part", "root": str(folder)}
    plan = write_spec(tmp_path / "spec.yaml", spec(table, sorted(names), data=data))
    shell.works("train", plan, "--out", tmp_path / "run")
    assert read_ledger(tmp_path / "run") == []
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["valid"]["rows"] == metrics["test"]["rows"] == 9


def test_a_cell_of_another_kind(trained: Trained, shell: Shell, tmp_path: Path) -> None:
    """JSON may hold lists and objects where text, a path or a number is wanted."""
    kinds = {"photo": [1, 2], "title": ["a"], "sound": {"a": 1}, "price": [3], "brand": {"b": 2}}
    rows = [{**trained.rows[0], column: cell} for column, cell in kinds.items()]
    table = trained.table(tmp_path / "rows.jsonl", [*rows, *trained.rows])
    shell.works("predict", trained.run, table, "--out", tmp_path / "a.jsonl")
    answers = read_answers(tmp_path / "a.jsonl")
    assert all(a["label"] is None for a in answers[:5])
    for (column, cell), answer in zip(kinds.items(), answers, strict=False):
        kind = type(cell).__name__
        assert column in answer["error"]
        assert kind in answer["error"] or str(cell) in answer["error"]
    assert all(same_answer(a, b) for a, b in zip(answers[5:], trained.answers, strict=True))
