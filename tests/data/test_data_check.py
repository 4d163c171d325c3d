"""Inspection finds what was planted; guesses are those a person would make."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from polymodal.core.errors import TableError
from polymodal.data.check import guess_inputs, guess_task, inspect
from polymodal.data.dataset import InputPlan, TargetPlan
from polymodal.data.guess import Kinds, look, looks_like
from polymodal.data.splits import Part
from polymodal.data.tables import open_table

KINDS = Kinds(endings={".bin": "bytes"}, text="words", record="numbers", array="bytes", sound="sound")


def planted(tmp_path: Path) -> Path:
    """60 rows: bad files in 3 and 4, 50 broken, 59 equal to 58, the file of 40 equal to that of 0, class z once."""
    lines = ["file,title,price,colour,y,split"]
    for i in range(59):
        (tmp_path / f"{i}.bin").write_bytes(f"{0 if i == 40 else i:05}".encode())
        part = "train" if i < 40 else "test"
        words = f"a sentence about thing {i} here" if i != 41 else "a sentence about thing 1 here"
        lines.append(f"{i}.bin,{words},{i / 4},{'red' if i % 2 else ''},{'z' if i == 7 else 'ab'[i % 2]},{part}")
    lines.append(lines[-1])
    lines[51] = "50.bin,too short"
    (tmp_path / "3.bin").write_bytes(b"x")
    (tmp_path / "4.bin").unlink()
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "t.csv"


@pytest.mark.parametrize("spec", [False, True])
def test_finds_what_was_planted(small: Any, tmp_path: Path, spec: bool) -> None:
    table = open_table(planted(tmp_path))
    plans: dict[str, Any] = {"readers": {"bytes": small.Bytes()}}
    if spec:
        title = InputPlan(small.Letters(), ("title",))
        plans = {"inputs": {"file": InputPlan(small.Bytes(), ("file",)), "title": title},
                 "targets": {"y": TargetPlan(small.Number(), ("y",))}}  # fmt: skip
        plans["targets"]["y"].reader.__class__ = type("Any", (small.Number,), {"__call__": lambda self, cell: {}})
    found = inspect(table, kinds=KINDS, **plans)
    assert [(c.name, c.looks, c.missing) for c in found.columns] == [
        ("file", "bytes", 1), ("title", "words", 1), ("price", "number", 1), ("colour", "category", 31),
        ("y", "category", 1), ("split", "category", 1),
    ]  # fmt: skip
    assert [c.distinct for c in found.columns] == [58, 57, 58, 1, 3, 2]
    assert found.columns[0].bad == 2
    assert {(e.row, e.column) for e in found.bad} == {(3, "file"), (4, "file"), (50, "")}
    assert found.duplicates == 1
    assert found.parts == {"train": 40, "test": 19}
    assert {(k.input, k.part, k.rows, k.of) for k in found.leaks} == {("file", "test", 1, 19), ("title", "test", 1, 19)}
    assert [(t.distinct, t.missing, t.thin) for t in found.targets] == ([(3, 1, {"z": 1})] if spec else [])
    text = str(found)
    for part in ("60 rows, 6 columns", "row 4: file: file not found (4.bin)", "3 cells in 3 rows", "1 of 19 test rows"):
        assert part in text
    assert json.loads(json.dumps(found.json()))["bad"][0]["row"] == 50


def test_leaks_between_tables(small: Any) -> None:
    train, valid = (open_table({"title": [f"t {i}" for i in range(a, a + 9)], "y": [1] * 9}) for a in (0, 7))
    parts = {"train": Part(train, np.arange(9)), "valid": Part(valid, np.arange(9))}
    plans = {"title": InputPlan(small.Letters(), ("title",))}
    found = inspect(train, parts=parts, inputs=plans, targets={"y": TargetPlan(small.Number(), ("y",))}, kinds=KINDS)
    assert [(k.part, k.rows) for k in found.leaks] == [("valid", 2)]
    assert found.targets[0].distinct == 1
    assert "never changes" in str(found)


@pytest.mark.parametrize(
    ("cells", "looks"),
    [
        ([], "nothing"),
        (["1.5", "2", "-3e4"], "number"),
        ([str(i) for i in range(50)], "id"),
        ([3, 1, 2] * 20, "number"),
        ([i / 4 for i in range(50)], "number"),
        ([True, False], "category"),
        (["red", "blue"] * 30, "category"),
        ([f"user{i}" for i in range(50)], "id"),
        ([f"the {i} quick brown foxes" for i in range(50)], "text"),
        ([f"今天天气真好{i}" for i in range(50)], "text"),
        (["a/b.JPG", "c.png", "d.jpeg"], "image"),
        (["a.wav", "b.flac"], "audio"),
        ([b"\x89PNG", b""], "image"),
        ([b"RIFF0000WAVE"], "audio"),
        ([np.zeros((2, 2))], "image"),
        (["a/b.MP4", "c.webm", "d.avi"], "video"),
        (["a.gif", "b.gif"], "image"),
        ([b"\0\0\0\x20ftypisom"], "video"),
        ([b"\0\0\0\x20ftypavif"], "image"),
        ([b"RIFF0000AVI LIST"], "video"),
        ([b"\x1aE\xdf\xa3webm"], "video"),
        ([np.zeros((4, 30, 40))], "video"),
        ([np.zeros((30, 40, 3))], "image"),
        ([np.zeros((1, 30, 40, 3))], "video"),
        ([["a", "b"]], "list"),
        ([{"a": 1}], "record"),
    ],
)
def test_looks(cells: list, looks: str) -> None:
    assert looks_like(cells) == looks


def test_a_gif_is_a_clip_where_it_moves(tmp_path: Path) -> None:
    """Of the files that are there the first one decides."""
    frames = [Image.new("L", (4, 4), grey) for grey in (0, 90, 200)]
    frames[0].save(tmp_path / "moves.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "still.gif")
    (tmp_path / "broken.gif").write_bytes(b"GIF89a")
    for names, looks in ((["gone.gif", "broken.gif", "moves.gif", "still.gif"], "video"),
                         (["still.gif", "moves.gif"], "image"), (["gone.gif"], "image")):  # fmt: skip
        table = tmp_path / "rows.csv"
        table.write_text("\n".join(["file", *names]))
        assert look(open_table(table), "file") == looks, names


def test_guessed_blocks(tmp_path: Path) -> None:
    table = open_table(planted(tmp_path))
    assert guess_inputs(table, "y", KINDS) == {
        "file": {"type": "bytes", "column": "file"},
        "title": {"type": "words", "column": "title"},
        "table": {"type": "numbers", "columns": ["price"]},
    }
    assert guess_task(table, "y") == {"type": "classify", "column": "y"}
    assert guess_task(table, "price") == {"type": "regress", "column": "price"}
    assert guess_task(open_table({"y": [["a"], []]}), "y")["multi"] is True
    with pytest.raises(TableError, match="no column could be an input"):
        guess_inputs(open_table({"y": ["a", "b"], "x": [1, 1]}), "y")


def test_real_tables(real_data: Path) -> None:
    """What the guesses are worth: every real table, against what its description says."""
    expected = {
        "mvsa_single/table.csv": ("label", "classify", {"image": "image", "text": "text"}),
        "easy_vqa/questions.csv": ("answer", "classify", {"image": "image", "question": "text"}),
        "fsdd/table.csv": ("label", "classify", {"audio": "audio"}),
        "houses/table.csv": ("price", "regress", dict.fromkeys(("frontal", "bedroom", "bathroom", "kitchen"), "image")),
        "flickr8k/captions_zh.csv": ("caption", "classify", {"image": "image"}),
    }
    for path, (target, task, inputs) in expected.items():
        table = open_table(real_data / path)
        blocks = guess_inputs(table, target)
        assert {n: b["type"] for n, b in blocks.items() if n != "table"} == inputs, path
        assert guess_task(table, target)["type"] == task, path
