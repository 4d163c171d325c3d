"""Audio-visual digits: every sound of the spoken digits with a written digit of the same class, as one table.

    python recipes/audio_visual_digits.py --data DATA --out FOLDER

After the idea of AV-MNIST (Vielzeuf et al., "CentralNet: a Multilayer Approach for Multimodal Fusion", 2018), with
other sounds and with nothing taken away: pictures are MNIST's as they are, 28 x 28, sounds the Free Spoken Digit
Dataset's as they are. The pairs are made up: nobody said what they wrote. The k-th sound of a class, in the order of
its table, meets the k-th picture of that class in an order drawn from a fixed seed; training sounds meet training
pictures and test sounds test pictures, so that a test row has nothing in common with a training row but its speaker.
Every sound stands in one row, and no picture in two.

Needs DATA/mnist (IDX files) and DATA/fsdd (table.csv with split, audio, label, speaker, take). Writes
FOLDER/audio_visual_digits/table.parquet: split, image (PNG), audio (WAV), label, speaker, take, picture (its number in
MNIST's part). The same versions of pyarrow and Pillow write the same bytes.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from polymodal.core.seeds import generator
from polymodal.data.tables import Table, open_table

PICTURES = {"train": "train-images-idx3-ubyte.gz", "test": "t10k-images-idx3-ubyte.gz"}


def prepare(data: Path, out: Path) -> Path:
    """Write the table, unless it is there; returns `out`, where the recipe's spec finds it."""
    write_once(out / "audio_visual_digits" / "table.parquet", lambda: pairs(data))
    return out


def write_once(place: Path, rows: Callable[[], list[dict[str, Any]]]) -> None:
    """The rows as a table there, unless there is one; the whole of it or nothing."""
    if not place.is_file():
        place.parent.mkdir(parents=True, exist_ok=True)
        fresh = place.with_name("table.new")
        pq.write_table(pa.Table.from_pylist(rows()), fresh, compression="none")
        fresh.replace(place)


def pairs(data: Path) -> list[dict[str, Any]]:
    """The rows, in the order of the sounds."""
    sounds = open_table(data / "fsdd" / "table.csv")
    pictures = {part: open_table(data / "mnist" / name) for part, name in PICTURES.items()}
    waiting = {part: by_class(table, part) for part, table in pictures.items()}
    rows = []
    for i in range(len(sounds)):
        part, label = sounds.cell(i, "split"), sounds.cell(i, "label")
        picture = waiting[part][label].pop(0)
        rows.append({
            "split": part,
            "image": png(np.asarray(pictures[part].cell(picture, "image"))),
            "audio": (data / "fsdd" / sounds.cell(i, "audio")).read_bytes(),
            "label": label,
            "speaker": sounds.cell(i, "speaker"),
            "take": int(sounds.cell(i, "take")),
            "picture": picture,
        })  # fmt: skip
    return rows


def by_class(table: Table, part: str) -> dict[str, list[int]]:
    """The rows of each class, in an order by lot."""
    labels = np.array([str(label) for label in table.column("label")])
    order = generator(0, "audio-visual digits", part).permutation(len(labels))
    return {label: [int(row) for row in order if labels[row] == label] for label in sorted(set(labels))}


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds mnist and fsdd")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write audio_visual_digits/ into")
    options = parser.parse_args()
    prepare(options.data, options.out)
    print(options.out / "audio_visual_digits" / "table.parquet")
