"""AVLetters as one table: who trains, who chooses, who is tested; what moves in a clip, shifted and trimmed copies.

    python recipes/avletters.py --data DATA --out FOLDER

Ten speakers say each letter once a take. Rows cut out of take 1 to choose by would be letters that training never
met of their speaker, and a net learns that the speaker's other letters are likelier there: the opposite of what take 2
asks. So all of take 1 trains, and take 2, recorded apart, both chooses and tests, no utterance for both: with speakers
and letters in alphabetical order, rows with an even sum of their places choose and those with an odd one are the test,
like the squares of a chessboard. Every speaker is tested on 13 letters, and every letter by 5 speakers; intervals over
speakers have ten clusters, where holding out five whole speakers would leave five.

Every training utterance stands in COPIES rows: once as it is, then with the clip moved by up to SHIFT pixels each way
(edges repeat) and with up to TRIM of clip and sound, each by lot for itself, left out at either end. They are made
here, and not while training, so that what frozen encoders say of them is computed once. Rows that choose and test rows
stand once, as they are. SHIFT, TRIM and COPIES were chosen by validation rows.

A clip has three channels: the grey frames; how far each is from the clip's mean picture, in units of the deviation of
all these differences; and the difference to the frame before (`views`). Faces differ more than what a mouth does: nets
that were given grey frames alone spent their first epochs on whose face it is, some seeds most of them.

Needs DATA/avletters. Writes FOLDER/avletters/table.parquet: split, item (in the array file), letter, speaker, take,
utterance (its number in the data set); and clips.npz: `video`, uint8 frames x 30 x 40 x 3, and `mfcc`, float32 steps x
26, with `offsets` and `mfcc_offsets`. The same versions of numpy and pyarrow write the same bytes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from audio_visual_digits import write_once

from polymodal.core.contracts import Archive
from polymodal.core.seeds import Rng, generator
from polymodal.data.archive import Items
from polymodal.data.tables import Table, open_table

COPIES = 4  # rows in which a training utterance stands
SHIFT = 1  # pixels
TRIM = 0.15  # of the time
MIDDLE, SPREAD = 128, 40  # grey levels that stand for no difference, and for one of a deviation
SOURCE = "avletters_half_takes12.npz"


def prepare(data: Path, out: Path) -> Path:
    """Write table and array file, unless they are there; returns `out`, where the recipe's spec finds them."""
    write_once(out / "avletters" / "table.parquet", lambda: rows(data / "avletters", out / "avletters"))
    return out


def rows(source: Path, folder: Path) -> list[dict[str, Any]]:
    """The rows of the table, utterance by utterance, after the array file has been written beside it."""
    table = open_table(source / "table.csv")
    videos = Items(Archive(SOURCE, "video", "offsets"), source)
    sounds = Items(Archive(SOURCE, "mfcc", "mfcc_offsets"), source)
    made, clips, heard = [], [], []
    for row, part in enumerate(parts(table)):
        number = table.cell(row, "index")
        told = {name: table.cell(row, name) for name in ("letter", "speaker", "take")}
        for copy in range(COPIES if part == "train" else 1):
            made.append({"split": part, "item": len(made), **told, "utterance": int(number)})
            clip, sound = videos[number], sounds[number]
            if copy:
                rng = generator(0, "avletters", number, copy)
                clip, sound = shifted(trimmed(clip, rng), rng), trimmed(sound, rng)
            clips.append(views(clip))
            heard.append(sound)
    np.savez(folder / "clips.npz", video=np.concatenate(clips), offsets=edges(clips), mfcc=np.concatenate(heard),
             mfcc_offsets=edges(heard))  # fmt: skip
    return made


def parts(table: Table) -> list[str]:
    """Each row's part: take 1 trains, take 2 chooses and tests like the squares of a chessboard."""
    speakers, letters = (place(table.column(name)) for name in ("speaker", "letter"))
    takes = [str(take) for take in table.column("take")]
    return [
        "train" if take == "1" else "test" if (speaker + letter) % 2 else "valid"
        for take, speaker, letter in zip(takes, speakers, letters, strict=True)
    ]


def place(names: list[Any]) -> list[int]:
    """Where each name stands in the alphabetical order of all different ones, from 0."""
    order = {name: number for number, name in enumerate(sorted(set(names)))}
    return [order[name] for name in names]


def trimmed(steps: np.ndarray, rng: Rng) -> np.ndarray:
    """Without up to TRIM of its steps at either end."""
    first, last = (round(share * len(steps)) for share in rng.uniform(0, TRIM, 2))
    return steps[first : len(steps) - last]


def shifted(clip: np.ndarray, rng: Rng) -> np.ndarray:
    """All frames moved alike, by up to SHIFT pixels each way; the pixels at the edge are repeated."""
    padded = np.pad(clip, ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT)), "edge")
    top, left = rng.integers(0, 2 * SHIFT + 1, 2)
    return padded[:, top : top + clip.shape[1], left : left + clip.shape[2]]


def views(clip: np.ndarray) -> np.ndarray:
    """Grey frames [T H W] -> [T H W 3]: with what sets each apart from the clip's mean, and from the frame before."""
    grey = clip.astype(np.float32)
    apart, change = grey - grey.mean(0), np.diff(grey, axis=0, prepend=grey[:1])
    every = np.stack([grey, MIDDLE + SPREAD * apart / (apart.std() + 1), MIDDLE + 2 * change], -1)
    return np.clip(np.rint(every), 0, 255).astype(np.uint8)


def edges(items: list[np.ndarray]) -> np.ndarray:
    """Where each item begins when they lie one after the other, and where the last one ends."""
    return np.cumsum([0, *map(len, items)])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds avletters")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write avletters/ into")
    options = parser.parse_args()
    prepare(options.data, options.out)
    print(options.out / "avletters" / "table.parquet")
