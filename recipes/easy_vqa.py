"""Easy-VQA with a split of its own by picture, as one table.

    python recipes/easy_vqa.py --data DATA --out FOLDER

The published test part is not among the data, so the training part is divided: the last fifth of the pictures are the
test, the last tenth of the others choose. No picture stands in two parts; the questions do, there are only 107.

Needs DATA/easy_vqa (questions.csv with image, question, answer). Writes FOLDER/easy_vqa/table.parquet: split, image
(the file in DATA), picture (its number), question, answer.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from audio_visual_digits import write_once

from polymodal.data.tables import open_table

TEST, VALID = 0.2, 0.1  # of all pictures; of those left


def prepare(data: Path, out: Path) -> Path:
    """Write the table, unless it is there; returns `out`, where the recipe's spec finds it."""
    write_once(out / "easy_vqa" / "table.parquet", lambda: rows(data / "easy_vqa", by_order))
    return out


def rows(folder: Path, divide: Callable[[Sequence[int]], dict[int, str]]) -> list[dict[str, Any]]:
    """Every question with its picture's part; `divide` gives each picture's part from all their numbers, in order."""
    table = open_table(folder / "questions.csv")
    given = [{name: table.cell(i, name) for name in ("image", "question", "answer")} for i in range(len(table))]
    numbers = [int("".join(c for c in Path(row["image"]).stem if c.isdigit())) for row in given]
    parts = divide(sorted(set(numbers)))
    return [
        {"split": parts[n], "image": str((folder / row["image"]).resolve()), "picture": n, **_asked(row)}
        for n, row in zip(numbers, given, strict=True)
    ]


def _asked(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("question", "answer")}


def by_order(pictures: Sequence[int]) -> dict[int, str]:
    """The last pictures are the test, those before them choose."""
    test = math.ceil(len(pictures) * TEST)
    valid = math.ceil((len(pictures) - test) * VALID)
    train = len(pictures) - test - valid
    return dict(zip(pictures, ["train"] * train + ["valid"] * valid + ["test"] * test, strict=True))


def main(prepare: Callable[[Path, Path], Path], name: str, about: str | None) -> None:
    """The command line of a table maker."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help=f"the folder that holds {name}")
    parser.add_argument("--out", type=Path, required=True, help=f"the folder to write {name}/ into")
    options = parser.parse_args()
    print(prepare(options.data, options.out) / name / "table.parquet")


if __name__ == "__main__":
    main(prepare, "easy_vqa", __doc__)
