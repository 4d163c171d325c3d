"""DAQUAR's official training questions with a split of its own by picture, as one table.

    python recipes/daquar.py --data DATA --out FOLDER

Neighbouring pictures often show one room from two sides, and distant ones other kinds of rooms. So ten neighbours at
a time go to one part, by lot from a fixed seed: a fifth of these blocks is the test, a tenth of the others chooses. No
picture stands in two parts.

Needs DATA/daquar (questions.csv with image, question, answer). Writes FOLDER/daquar/table.parquet: split, image (the
file in DATA), picture (its number), question, answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from audio_visual_digits import write_once
from easy_vqa import by_order, main, rows

from polymodal.core.seeds import generator

BLOCK = 10  # pictures


def prepare(data: Path, out: Path) -> Path:
    """Write the table, unless it is there; returns `out`, where the recipe's spec finds it."""
    write_once(out / "daquar" / "table.parquet", lambda: rows(data / "daquar", by_blocks))
    return out


def by_blocks(pictures: Sequence[int]) -> dict[int, str]:
    """Blocks of neighbours, by lot."""
    blocks = [pictures[i : i + BLOCK] for i in range(0, len(pictures), BLOCK)]
    order = generator(0, "daquar", "blocks").permutation(len(blocks)).tolist()
    parts = by_order(order)
    return {picture: parts[at] for at in order for picture in blocks[at]}


if __name__ == "__main__":
    main(prepare, "daquar", __doc__)
