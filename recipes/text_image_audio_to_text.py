"""Text, picture and sound in, a sentence out: the built-in scenes, told by three inputs of which none says all.

The picture shows up to two things; the sound is low or high; the text gives the weight in words of its own ("the
object weighs 7.2 kilograms at 11 degrees"; more than 5 kilograms is heavy). The sentence to be said has all of it: "a
large red circle at the top left, heavy, with a high tone". `judge` of `scenes_captions` tells what of it is true;
weight and tone are judged by themselves.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from scenes_captions import judged, shares, test_rows

from polymodal.core.schema import Json
from polymodal.data.tables import open_table
from polymodal.scenes import make_scenes
from polymodal.scenes.say import parse_caption
from polymodal.work.intervals import intervals

ROWS, SIZE, OBJECTS = 8000, 32, 2
TEXT = "the object weighs {kilograms} kilograms at {celsius} degrees"
SENTENCE = "{caption}, {weight}, with a {pitch} tone"
KEPT = ("split", "picture", "sound")


def prepare(data: Path, out: Path) -> Path:
    """Write them to `out`/scenes, unless they are there; nothing is needed of `data`."""
    folder = out / "scenes"
    if not (folder / "told.csv").is_file():
        make_scenes(folder, ROWS, seed=2, size=SIZE, objects=OBJECTS)
        table = open_table(folder / "table.csv")
        rows = {table.cell(i, "picture"): {c: table.cell(i, c) for c in table.columns} for i in range(len(table))}
        told = [{c: row[c] for c in KEPT} | {"text": TEXT.format(**row), "sentence": SENTENCE.format(**row)}
                for row in rows.values()]  # fmt: skip
        with (folder / "told.new").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(told[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(told)
        (folder / "told.new").replace(folder / "told.csv")
    return out


def also(run: Any, data: Path) -> dict[str, Json]:
    """What the sentences of the test rows state: of the things seen, of the weight read, of the tone heard."""
    test = test_rows(data / "scenes" / "told.csv")
    said, truth = [str(line["sentence"]) for line in run.predict(test)], list(test["sentence"])
    heard = np.array([_heard(one, known) for one, known in zip(said, truth, strict=True)], np.float64)
    records = judged(said, truth) | {"weight": heard[:, 0], "tone": heard[:, 1]}
    return intervals(_measures, records, 0)


def _heard(said: str, truth: str) -> tuple[bool, bool]:
    known = parse_caption(truth)
    try:
        found = parse_caption(said)
    except ValueError:
        return False, False
    return found.weight == known.weight, found.pitch == known.pitch


def _measures(records: dict[str, np.ndarray], weights: np.ndarray) -> dict[str, np.ndarray]:
    rows = weights.sum(1)
    told = {name: weights @ records[name] / rows for name in ("weight", "tone")}
    return shares(records, weights) | {"weight_right": told["weight"], "tone_right": told["tone"]}
