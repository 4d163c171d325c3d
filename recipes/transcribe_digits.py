"""Strings of spoken digits with what is said in them, spelled out: `three one nine`.

    python recipes/transcribe_digits.py --data DATA --out FOLDER

One to four sounds of the Free Spoken Digit Dataset, of one speaker and one part, in an order drawn by lot, with up to
GAP seconds of silence before each and after the last; nothing else is done to them. Takes 0 to 4 make the test rows, as
the data set has it, 5 to 13 the validation rows, the others those of training, so that no sound stands in two parts.
All six speakers are in every part. Lots are drawn from fixed seeds.

Needs DATA/fsdd (table.csv with split, audio, label, speaker, take). Writes FOLDER/transcribe_digits/table.parquet:
split, audio (WAV, 8 kHz), text, digits (how many), speaker, sounds (their files). The same versions of numpy and
pyarrow write the same bytes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from audio_visual_digits import write_once
from av_mnist_manner import RATE, read_wav, split, write_wav

from polymodal.core.seeds import generator
from polymodal.data.tables import open_table

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ROWS = {"train": 3000, "valid": 300, "test": 600}
LONGEST = 4  # digits
GAP = 0.1  # seconds


def prepare(data: Path, out: Path) -> Path:
    """Write the table, unless it is there; returns `out`, where the recipe's spec finds it."""
    write_once(out / "transcribe_digits" / "table.parquet", lambda: rows(data))
    return out


def rows(data: Path) -> list[dict[str, Any]]:
    """Part by part; every row's own lots decide speaker, number of digits, sounds and silences."""
    table = open_table(data / "fsdd" / "table.csv")
    every = [{c: table.cell(i, c) for c in ("audio", "label", "speaker", "take")} for i in range(len(table))]
    speakers = sorted({one["speaker"] for one in every})
    made = []
    for part, count in ROWS.items():
        own = {s: [o for o in every if o["speaker"] == s and split(int(o["take"])) == part] for s in speakers}
        for number in range(count):
            lot = generator(0, "transcribe digits", part, number)
            speaker = speakers[int(lot.integers(len(speakers)))]
            said = [own[speaker][int(at)] for at in lot.integers(len(own[speaker]), size=lot.integers(1, LONGEST + 1))]
            heard = [read_wav(data / "fsdd" / one["audio"]) for one in said]
            gaps = [np.zeros(int(lot.integers(round(GAP * RATE) + 1))) for _ in range(len(said) + 1)]
            pieces = [piece for pair in zip(gaps, [*heard, np.zeros(0)], strict=True) for piece in pair]
            text = " ".join(WORDS[int(one["label"])] for one in said)
            made.append({"split": part, "audio": write_wav(np.concatenate(pieces)), "text": text, "digits": len(said),
                         "speaker": speaker, "sounds": [one["audio"] for one in said]})  # fmt: skip
    return made


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds fsdd")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write transcribe_digits/ into")
    options = parser.parse_args()
    prepare(options.data, options.out)
    print(options.out / "transcribe_digits" / "table.parquet")
