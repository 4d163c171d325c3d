"""Flickr8k with the sentences of a picture in one row, English and Chinese, and what the captions owe to the pictures.

    python recipes/flickr8k.py --data DATA --out FOLDER

Needs DATA/flickr8k. Writes FOLDER/flickr8k/table.csv: split, picture, en and zh (lists of five sentences, as JSON),
en_1 ... en_5 (the English ones, one by one), words (what AGREED or more of these five say, of the words that do so in
OFTEN training pictures), blank (the same grey picture in every row: a model that is trained on it knows the language
and no picture). The official validation pictures are the test rows; every twelfth of the training pictures, by name,
chooses.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from PIL import Image

from polymodal.core.seeds import generator
from polymodal.data.tables import open_table
from polymodal.modalities.text.stopwords import ENGLISH

HELD_OUT = 12  # every so many-th training picture chooses the epoch
AGREED, OFTEN = 2, 25
EACH = [f"en_{number}" for number in range(1, 6)]
COLUMNS = ["split", "picture", "en", "zh", *EACH, "words", "blank"]
FILES = {"en": "captions.csv", "zh": "captions_zh.csv"}


def prepare(data: Path, out: Path) -> Path:
    """Write the table unless it is there; returns the folder that the spec's paths start from."""
    folder = out / "flickr8k"
    if not (folder / "table.csv").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (128, 128, 128)).save(folder / "blank.png")
        found = rows(data.resolve() / "flickr8k", str((folder / "blank.png").resolve()))
        with (folder / "table.new").open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            table.writeheader()
            table.writerows(found)
        (folder / "table.new").replace(folder / "table.csv")
    return out


def rows(data: Path, blank: str) -> list[dict[str, str]]:
    """A row for each picture, in the order of the English file."""
    said: dict[str, dict[str, Any]] = {}
    for language, name in FILES.items():
        table = open_table(data / name)
        for i in range(len(table)):
            one = said.setdefault(str(table.cell(i, "image")), {"split": table.cell(i, "split"), "en": [], "zh": []})
            one[language].append(table.cell(i, "caption"))
    train = sorted(name for name, one in said.items() if one["split"] == "train")
    chosen = frozenset(train[::HELD_OUT])
    words = {name: agreed(one["en"]) for name, one in said.items()}
    counts = Counter(word for name in train if name not in chosen for word in words[name])
    return [
        {"split": "test" if one["split"] != "train" else "valid" if name in chosen else "train",
         "picture": str(data / name), "blank": blank,
         **dict(zip(EACH, one["en"], strict=False)),  # a picture may have fewer
         "words": "|".join(word for word in words[name] if counts[word] >= OFTEN),
         **{language: json.dumps(one[language], ensure_ascii=False) for language in FILES}}
        for name, one in said.items()
    ]  # fmt: skip


def agreed(sentences: list[str]) -> list[str]:
    """The words of content that AGREED or more of the sentences say, in alphabetical order."""
    each = Counter(word for text in sentences for word in set(re.findall(r"[a-z]+", text.lower())))
    return sorted(word for word, n in each.items() if n >= AGREED and len(word) > 1 and word not in ENGLISH)


def also(run: Any, data: Path) -> dict[str, Any]:
    """The test rows with another row's picture each: what is left is what is true of any photograph."""
    table = open_table(data / "flickr8k" / "table.csv")
    test = [i for i in range(len(table)) if table.cell(i, "split") == "test"]
    column = run.spec.inputs["picture"].columns[0]
    order = derangement(len(test))
    swapped = [{name: table.cell(i, name) for name in table.columns} | {column: table.cell(test[j], column)}
               for i, j in zip(test, order, strict=True)]  # fmt: skip
    import pandas as pd

    tasks = run.evaluate(pd.DataFrame(swapped)).json()["tasks"]
    return {f"{task}.{name}, other people's pictures": value for task, measures in tasks.items()
            for name, value in measures.items() if name.startswith(("cider", "bleu", "rouge"))}  # fmt: skip


def derangement(count: int) -> list[int]:
    """The numbers in an order by lot, none in its own place: each is replaced by the next in a round."""
    order = generator(0, "other people's pictures").permutation(count).tolist()
    after = dict(zip(order, [*order[1:], order[0]], strict=True))
    return [after[i] for i in range(count)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    prepare(options.data, options.out)
