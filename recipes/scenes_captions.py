"""Scenes to be spoken of: up to three things in a picture, said in English and in Chinese, and questions about them.

The table is the built-in data: ROWS rows, a picture stands in two, English and Chinese blocks in turn. What a caption
states is judged by reading it back, thing by thing: `facts_right` is the share of the stated facts (shape, colour,
size, place) that are true, `objects_named` the share of the things in the pictures that are stated with their shape,
colour and place. A caption that cannot be read back counts as if it had stated as many facts as there are, all wrong.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from polymodal.core.schema import Json
from polymodal.data.tables import open_table
from polymodal.scenes import make_scenes
from polymodal.scenes.facts import SEEN
from polymodal.scenes.say import parse_caption
from polymodal.work.intervals import intervals

ROWS, SIZE, OBJECTS = 8000, 32, 3
LANGUAGES = {"caption": "caption", "caption_zh": "caption.caption_zh"}  # column of the truth -> of what was said


def prepare(data: Path, out: Path) -> Path:
    """Write them to `out`/scenes, unless they are there; nothing is needed of `data`."""
    if not (out / "scenes" / "README.md").is_file():  # written last
        make_scenes(out / "scenes", ROWS, seed=1, size=SIZE, objects=OBJECTS, language="both")
    return out


def also(run: Any, data: Path) -> dict[str, Json]:
    """What the captions of the test rows state, in each language that the run speaks."""
    test = test_rows(data / "scenes" / "table.csv")
    lines = run.predict(test)
    pictures = np.unique(test["picture"], return_inverse=True)[1]
    found = {}
    for column, said in LANGUAGES.items():
        if said in lines[0]:
            records = judged([line[said] for line in lines], list(test[column]))
            measures = intervals(shares, records, 0, clusters=pictures)
            found |= {f"{said}: {name}": value for name, value in measures.items()}
    return found


def test_rows(path: Path) -> pd.DataFrame:
    """The test rows, with the paths of their files made whole."""
    table = open_table(path)
    rows = [{c: table.cell(i, c) for c in table.columns} for i in range(len(table)) if table.cell(i, "split") == "test"]
    files = [c for c in ("picture", "sound") if c in rows[0]]
    return pd.DataFrame([row | {c: str(path.parent / str(row[c])) for c in files} for row in rows])


def judged(said: list[str], truth: list[str]) -> dict[str, np.ndarray]:
    """For each caption: facts stated, those of them that are right, things that there are, and that are named."""
    counts = np.array([judge(one, known) for one, known in zip(said, truth, strict=True)], np.float64)
    stated, right, things, named = counts.T
    return {"stated": stated, "right": right, "things": things, "named": named, "error": stated - right}


def judge(said: str, truth: str) -> tuple[int, int, int, int]:
    """Facts stated and right, things there and named, of one caption; things are told apart by their places."""
    there = {thing.place: thing for thing in parse_caption(truth).things}
    try:
        stated = parse_caption(said).things
    except ValueError:
        return len(SEEN) * len(there), 0, len(there), 0
    right = sum(getattr(one, fact) == getattr(there[one.place], fact)
                for one in stated if one.place in there for fact in SEEN)  # fmt: skip
    named = {
        one.place
        for one in stated
        if one.place in there and (one.shape, one.colour) == (there[one.place].shape, there[one.place].colour)
    }
    return len(SEEN) * len(stated), right, len(there), len(named)


def shares(records: dict[str, np.ndarray], weights: np.ndarray) -> dict[str, np.ndarray]:
    """Of facts and of things, over all rows."""
    total = {name: weights @ column for name, column in records.items()}
    right = total["right"] / np.maximum(total["stated"], 1)
    return {"facts_right": right, "objects_named": total["named"] / total["things"]}
