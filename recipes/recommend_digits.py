"""Users with made-up tastes and real pictures: who takes which written digit next.

No user is real: there is no such data set, so tastes are drawn by lot, with a fixed seed, and said here. PICTURES of
MNIST's training pictures appear one after the other between the times 0 and 1. Their appeal grows with their ink: e
to half its standard score. A user likes two digits and takes them in turn: after a picture of the one comes one of the
other with the chance TURN. Once, at a time of the user's own, one of the two gives its place to another digit. With
the chance WHIM a picture of any digit is taken. Of a digit, those are taken that appeared within WINDOW, by their
appeal.

The split is one in time, so most pictures of the test rows were never seen in training; their digits were. `odds` are
the chances of each digit as they were when a row was drawn; with the appeal they are what nobody can do better than.

Needs DATA/mnist (IDX files). Writes FOLDER/recommend_digits/table.parquet.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from audio_visual_digits import png, write_once

from polymodal.core.schema import Json
from polymodal.core.seeds import generator
from polymodal.data.histories import Names, histories
from polymodal.data.tables import Table, open_table
from polymodal.tasks import metrics
from polymodal.tasks.recommend_ranks import order, places
from polymodal.work.intervals import intervals

USERS, TAKES, PICTURES, KEEP = 1000, 22, 10_000, 8
TURN, WHIM, WINDOW, FIRST = 0.85, 0.1, 0.5, 0.1


def prepare(data: Path, out: Path) -> Path:
    """Write the table, unless it is there; returns `out`, where the recipe's spec finds it."""
    write_once(out / "recommend_digits" / "table.parquet", lambda: rows(data))
    return out


def rows(data: Path) -> list[dict[str, Any]]:
    """Every picture that somebody took, with those that the user took before."""
    pictures = open_table(data / "mnist" / "train-images-idx3-ubyte.gz")
    chosen = np.sort(generator(0, "recommended pictures").permutation(len(pictures))[:PICTURES])
    digits = np.array([int(label) for label in pictures.cells(chosen, "label")])
    shown = [np.asarray(pixels) for pixels in pictures.cells(chosen, "image")]
    ink = np.array([pixels.mean() for pixels in shown])
    appeal = np.exp((ink - ink.mean()) / ink.std() / 2)
    items = {"item": np.arange(PICTURES), "image": list(map(png, shown)), "digit": digits, "appeal": appeal}
    lines = histories(open_table(takes(digits, appeal)), open_table(items), Names(), keep=KEEP, valid=0.1, test=0.15)
    return list(lines)


def takes(digits: np.ndarray, appeal: np.ndarray) -> list[dict[str, Any]]:
    """Who took which picture when; the n-th of the pictures appears at the time n / PICTURES."""
    chance = generator(0, "tastes")
    found = []
    for user in range(USERS):
        likes, change, last = chance.permutation(10)[:3].tolist(), chance.random(), 0
        for time in np.sort(chance.uniform(FIRST, 1, TAKES)).tolist():
            pair = likes[:2] if time < change else [likes[2], likes[1]]
            odds = np.full(10, WHIM / 10)
            odds[pair[1 - last]] += (1 - WHIM) * TURN
            odds[pair[last]] += (1 - WHIM) * (1 - TURN)
            digit = int(chance.choice(10, p=odds))
            last = pair.index(digit) if digit in pair else last
            fresh = slice(int(max(0.0, time - WINDOW) * len(digits)), int(time * len(digits)))
            weight = np.where(digits[fresh] == digit, appeal[fresh], 0.0)
            item = fresh.start + int(chance.choice(len(weight), p=weight / weight.sum()))
            found.append({"user": user, "item": item, "time": time, "odds": odds.tolist()})
    return found


def also(run: Any, data: Path) -> dict[str, Json]:
    """The run beside guesses that need no training, on the test rows and among the same pictures.

    `popularity`: how often a picture was taken before the row's time. `nearest to the last`: the cosine of the run's
    own vectors to the picture taken last. `knows the odds`: the chance of the picture's digit, as the rows were drawn,
    times its appeal.
    """
    table = open_table(data / "recommend_digits" / "table.parquet")
    split = np.array(table.column("split"))
    test = np.flatnonzero(split == "test")
    item = np.array(table.cells(test, "item"))
    names, first, own = np.unique(item, return_index=True, return_inverse=True)
    digits = np.array(table.cells(test, "digit"))
    earlier = np.stack([_numbers(table.cells(test, f"before_{k}.item")) for k in range(1, KEEP + 1)], 1)
    gone = places(names, earlier)
    lines = [{c: table.cell(row, c) for c in table.columns} for row in test.tolist()]
    vectors = run.embed(lines, ["item"])["item"][first, 0]
    users = run.embed(lines, ["user"])["user"][:, 0]
    last = run.embed([{"image": line["before_1.image"]} for line in lines], ["item"])["item"][:, 0]
    odds = np.array(table.cells(test, "odds"))[:, digits[first]]
    lot = generator(0, "equal guesses").random((2, *odds.shape))  # those that are as good stand in an order by lot
    guesses = {
        "the run": users @ vectors.T,
        "popularity": taken_before(table, names, np.array(table.cells(test, "time"))) + 0.5 * lot[0],
        "nearest to the last": np.nan_to_num(last) @ vectors.T,
        "knows the odds": odds * np.array(table.cells(test, "appeal"))[first] * (1 + 1e-9 * lot[1]),
    }
    found: dict[str, Json] = {}
    for name, near in guesses.items():
        rank, top = order(near, own, gone)
        right = np.take_along_axis(odds, top, 1).mean(1)
        records = {"rank": rank, "odds": right, "error": rank}
        found |= {f"{name}: {measure}": value for measure, value in intervals(measures, records, 0).items()}
    return found


def measures(records: dict[str, np.ndarray], weights: np.ndarray) -> dict[str, np.ndarray]:
    """Of the ranks; `odds_10` is how likely the digits of the first ten were, on average."""
    rank = records["rank"]
    return {"mrr": metrics.mean(1 / rank, weights), "recall_10": metrics.mean(rank <= 10, weights),
            "odds_10": metrics.mean(records["odds"], weights)}  # fmt: skip


def taken_before(table: Table, names: np.ndarray, times: np.ndarray) -> np.ndarray:
    """[rows, items]: how often each item was taken strictly before each time, by anybody."""
    when, what = np.array(table.column("time")), places(names, np.array(table.column("item"))[:, None])[:, 0]
    counts = np.zeros((len(times), len(names)))
    for at in range(len(names)):
        counts[:, at] = np.searchsorted(np.sort(when[what == at]), times)
    return counts


def _numbers(cells: list[Any]) -> np.ndarray:
    return np.array([-1 if cell is None else int(cell) for cell in cells], np.int64)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds mnist")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write recommend_digits/ into")
    options = parser.parse_args()
    prepare(options.data, options.out)
    print(options.out / "recommend_digits" / "table.parquet")
