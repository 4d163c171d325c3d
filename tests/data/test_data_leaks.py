"""Columns that give the target away: planted ones are found, honest ones are not accused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymodal.core.errors import TableError
from polymodal.data import singles
from polymodal.data.check import inspect
from polymodal.data.leaks import giveaways
from polymodal.data.tables import Table, open_table

ROWS = 400
WORDS = [
    *("red", "blue", "green", "mug", "lamp", "bowl", "chair", "small", "large"),
    *("old", "new", "wooden", "steel", "round", "flat", "deep", "cheap", "fine"),
]


def honest(seed: int = 0, rows: int = ROWS, classes: int = 3) -> dict[str, list[Any]]:
    """Columns that say something about the label `y` and the value `v`, but far from all."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, rows)
    v = np.exp(rng.normal(3, 1, rows))
    return {
        "number": (y + rng.normal(0, 1.2, rows)).round(3).tolist(),
        "colour": [["red", "blue", "green"][(c + (rng.random() < 0.4)) % 3] for c in y],
        "title": [" ".join(rng.choice(WORDS, 6)) + (" bright" if c == 0 and rng.random() < 0.5 else "") for c in y],
        "photo": [f"pictures/{rng.integers(0, 10**9):09}.png" for _ in range(rows)],
        "near": (v * np.exp(rng.normal(0, 0.3, rows))).tolist(),
        "key": [f"K{k:05}" for k in rng.permutation(rows)],
        "number_of_row": list(range(rows)),
        "y": [f"class {c}" for c in y],
        "v": v.tolist(),
    }


def accused(cells: dict[str, list[Any]], target: str, **more: Any) -> dict[str, str]:
    return {g.column: g.by for g in giveaways(open_table(cells), target, **more)}


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(50, 500), classes=st.integers(2, 6))
def test_honest_columns_are_not_accused(seed: int, rows: int, classes: int) -> None:
    columns = honest(seed, rows, classes)
    for target, other in (("y", "v"), ("v", "y")):
        plain = {name: cells for name, cells in columns.items() if name != other}
        assert accused(plain, target) == {}


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), share=st.floats(0.5, 0.97), classes=st.integers(2, 6))
def test_a_column_that_is_often_wrong_is_not_accused(seed: int, share: float, classes: int) -> None:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, 600)
    guess = np.where(rng.random(600) < share, y, (y + 1) % classes)
    right = (guess == y).mean()
    found = giveaways(open_table({"guess": guess.tolist(), "other": [1, 2] * 300, "y": y.astype(str).tolist()}), "y")
    assert (right < 0.97) <= (found == [])


def leaky(kind: str) -> tuple[dict[str, list[Any]], str, str]:
    """The honest columns and one that gives `y` or `v` away: columns, target, by what."""
    columns = honest()
    y = [int(c[-1]) for c in columns["y"]]
    v = np.array(columns["v"])
    rng = np.random.default_rng(1)
    planted: dict[str, tuple[list[Any], str, str]] = {
        "copy": (columns["y"], "y", "value"),
        "recoded": ([{0: "zx", 1: "qq", 2: "pl"}[c] for c in y], "y", "value"),
        "list": ([["a", str(c)] for c in y], "y", "value"),
        "rare noise": ([c if rng.random() > 0.005 else (c + 1) % 3 for c in y], "y", "value"),
        "in a code": ([f"AB{c}-{k:06}" for c, k in zip(y, rng.integers(0, 10**6, ROWS), strict=True)], "y", "value"),
        "threshold": ([float(c * 10 + rng.random() * 9) for c in y], "y", "value"),
        "word": ([f"{t} {'xyz'[c]}{'uvw'[c]}" for t, c in zip(columns["title"], y, strict=True)], "y", "text"),
        "topic": ([" ".join(rng.choice(WORDS[6 * c : 6 * c + 6], 6)) for c in y], "y", "text"),
        "folder": ([f"files/{'abc'[c]}/{i}.png" for i, c in enumerate(y)], "y", "path"),
        "file name": ([f"files/{c}_{i}.png" for i, c in enumerate(y)], "y", "path"),
        "end of name": ([f"files/{i}-{'xyz'[c]}.jpg" for i, c in enumerate(y)], "y", "path"),
        "linear": ((3 * v + 1).tolist(), "v", "value"),
        "logarithm": (np.log(v).tolist(), "v", "value"),
        "rounded": (v.round().tolist(), "v", "value"),
        "number in a text": ([f"{t} for {n:.2f} dollars" for t, n in zip(columns["title"], v, strict=True)], "v",
                             "text"),
        "missing": ([None if c == 1 else float(c) for c in y], "y", "value"),
    }  # fmt: skip
    cells, target, by = planted[kind]
    other = "v" if target == "y" else "y"
    return {**{n: c for n, c in columns.items() if n != other}, "planted": cells}, target, by


KINDS = ["copy", "recoded", "list", "rare noise", "in a code", "threshold", "word", "topic", "folder", "file name",
         "end of name", "linear", "logarithm", "rounded", "number in a text", "missing"]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_planted_leaks_are_found(kind: str) -> None:
    columns, target, by = leaky(kind)
    assert accused(columns, target) == {"planted": by}


def test_size_of_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 120)
    names = [f"{i}.png" for i in rng.permutation(120)]
    for name, c in zip(names, y, strict=True):
        (tmp_path / name).write_bytes(bytes(int(rng.integers(100, 200)) + 200 * int(c)))
    columns = {"photo": names, "other": [1, 2] * 60, "y": [f"class {c}" for c in y]}
    whole = open_table(columns)
    table = Table("t", {n: whole._columns[n] for n in whole.columns}, root=tmp_path)
    (found,) = giveaways(table, "y")
    assert (found.column, found.by, found.rows) == ("photo", "file size", 120)
    assert "the size of the files in photo alone predicts y: accuracy" in str(found)
    (tmp_path / names[0]).unlink()  # a file that is not there is no leak, and no error
    assert [g.by for g in giveaways(table, "y")] == ["file size"]


def test_sorted_rows_accuse_nobody() -> None:
    """Numbers that count the rows know the class of sorted rows, but nothing of a row."""
    rng = np.random.default_rng(0)
    y = np.sort(rng.integers(0, 3, ROWS))
    columns = {
        "row": list(range(ROWS)),
        "stamp": np.cumsum(rng.integers(1, 50, ROWS)).tolist(),
        "seconds": (1e9 + np.cumsum(rng.random(ROWS))).tolist(),
        "photo": [f"pictures/{i:06}.png" for i in range(ROWS)],
        "key": [f"K{i:05}" for i in range(ROWS)],
        "y": [f"class {c}" for c in y],
    }
    assert accused(columns, "y") == {}
    assert accused({**columns, "copy": (y * 7 + 1).tolist()}, "y") == {"copy": "value"}


def test_one_common_class_is_no_leak() -> None:
    rng = np.random.default_rng(0)
    y = (rng.random(3000) < 0.01).astype(int)
    columns = {"a": rng.normal(size=3000).tolist(), "b": ["x", "y", "z"] * 1000, "y": [f"class {c}" for c in y]}
    assert accused(columns, "y") == {}
    assert accused({**columns, "a": y.tolist()}, "y") == {"a": "value"}


def test_a_column_needs_others_beside_it_and_rows_enough() -> None:
    y = ["a", "b"] * 40
    assert accused({"copy": y, "y": y}, "y") == {}
    assert accused({"copy": y, "other": [1, 2, 3, 4] * 20, "y": y}, "y").keys() >= {"copy"}
    assert accused({"copy": y[:40], "other": [1, 2] * 20, "y": y[:40]}, "y") == {}
    assert accused({"copy": y, "other": [1] * 80, "y": y}, "y", columns=["copy"]) == {}
    assert accused({"copy": y, "other": [1] * 80, "y": y}, "y", columns=["copy", "other"]) == {"copy": "value"}
    assert accused({"a": y, "b": y, "y": [None] * 80}, "y") == {}
    assert accused({"a": y, "b": y, "y": ["a"] * 80}, "y") == {}
    assert accused({"a": y, "b": y, "y": list(range(80))}, "y") == {}


def test_the_same_rows_say_the_same() -> None:
    columns, target, _ = leaky("rare noise")
    assert giveaways(open_table(columns), target) == giveaways(open_table(columns), target)


def test_many_rows_are_sampled() -> None:
    columns = honest(rows=30_000)
    columns["planted"] = columns["y"]
    (found,) = giveaways(open_table(columns), "y", columns=["number", "planted"])
    assert found.rows == 5000


def test_check_tells_of_it(tmp_path: Path) -> None:
    columns, _, _ = leaky("recoded")
    table = open_table({n: columns[n] for n in ("number", "title", "planted", "y")})
    assert inspect(table).giveaways == []  # no target was named
    found = inspect(table, answers=["y"])
    assert [g.column for g in found.giveaways] == ["planted"]
    assert found.json()["giveaways"][0]["measure"] == "accuracy"
    text = str(found)
    assert "leak: planted alone predicts y: accuracy 1.000 on 400 held-out rows; always the same answer:" in text
    assert "is it known before the answer is? If not, leave it out" in text


def test_check_command(shell: Any, tmp_path: Path) -> None:
    columns, _, _ = leaky("folder")
    rows = [f"{n},{p},{y}" for n, p, y in zip(columns["number"], columns["planted"], columns["y"], strict=True)]
    (tmp_path / "t.csv").write_text("\n".join(["number,picture,y", *rows]) + "\n")
    told = shell.works("check", tmp_path / "t.csv", "--target", "y").out
    assert "leak: the path in picture alone predicts y" in told
    assert "keep the name out" in told
    assert "alone predicts" not in shell.works("check", tmp_path / "t.csv").out
    import polymodal

    with pytest.raises(TableError, match="no column of this name"):
        polymodal.check(tmp_path / "t.csv", target="z")


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_categories_and_numbers_against_plain_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes, target = rng.integers(0, 6, 60), rng.integers(0, 3, 60)
    held = rng.random(60) < 0.3
    if not held.any() or held.all():
        return
    common = np.bincount(target[~held]).argmax()
    got = singles.by_category(codes, target, held)
    for answer, code in zip(got, codes[held], strict=True):
        theirs = target[~held][codes[~held] == code]
        counts = np.bincount(theirs, minlength=3)
        assert counts[answer] == counts.max() if len(theirs) else answer == common
    values = rng.normal(size=60)
    means = singles.by_category(codes, values, held)
    for answer, code in zip(means, codes[held], strict=True):
        theirs = values[~held][codes[~held] == code]
        assert answer == pytest.approx(theirs.mean() if len(theirs) else values[~held].mean())


def test_naive_bayes_is_that_of_the_formula() -> None:
    rng = np.random.default_rng(3)
    texts = [sorted(set(rng.integers(0, 9, 5).tolist())) for _ in range(50)]
    target = rng.integers(0, 3, 50)
    held = np.arange(50) % 5 == 0
    expected = []
    for i in np.flatnonzero(held):
        scores = []
        for c in range(3):
            mine = [texts[j] for j in np.flatnonzero(~held & (target == c))]
            chances = [(sum(w in t for t in mine) + 0.1) / (len(mine) + 0.2) for w in texts[i]]
            scores.append(np.log(len(mine)) + np.log(chances).sum())
        expected.append(int(np.argmax(scores)))
    assert singles.by_words(texts, target, held).tolist() == expected


def test_the_purest_word_decides() -> None:
    rng = np.random.default_rng(5)
    target = rng.integers(0, 2, 200)
    swamp = [[int(w) for w in rng.permutation(8)[:5]] for _ in target]  # words that say little
    texts = [[*words, 8 + int(c)] for words, c in zip(swamp, target, strict=True)]
    held = np.arange(200) % 2 == 0
    assert (singles.by_marker(texts, target, held) == target[held]).all()
    assert (singles.by_marker(swamp, target, held) == target[held]).mean() < 0.8
    texts[0] = []
    assert singles.by_marker(texts, target, held)[0] == np.bincount(target[~held]).argmax()


def test_lines_through_numbers() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=2000)
    held = np.arange(2000) % 4 == 0
    given = singles.by_number(x, np.sin(2 * x), held)
    assert np.abs(given - np.sin(2 * x[held])).mean() < 0.01
    noise = rng.normal(size=2000)
    blind = singles.by_number(x, noise, held)
    assert 1 - ((blind - noise[held]) ** 2).sum() / (noise[held] ** 2).sum() < 0.05


def test_pieces_of_names() -> None:
    first, *_, last = singles.pieces_of(["a/b1_x.png", "q.png", None])
    assert first == ["a", "q", None]
    assert ["png", "png", None] in singles.pieces_of(["a/b1_x.png", "q.png", None])
    assert last.count(None) >= 1


def test_real_tables(real_data: Path) -> None:
    """Real tables: names that hold the answer are found, and no honest column is accused."""
    expected = {
        ("mvsa_single/table.csv", "label"): {},
        ("houses/table.csv", "price"): {},
        ("ham10000_subset/table.csv", "dx"): {},
        ("fsdd/table.csv", "label"): {"audio": "path"},
        ("easy_vqa/questions.csv", "answer"): {},
        ("medpix2/table.csv", "modality"): {},
        ("avletters/table.csv", "letter"): {},
    }
    for (path, target), leaks in expected.items():
        found = giveaways(open_table(real_data / path), target)
        assert {g.column: g.by for g in found} == leaks, path
