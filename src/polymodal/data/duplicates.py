"""Which rows nearly repeat a training row: an exact search for fingerprints within a number of differing bits."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64, Integer, UInt64

from polymodal.core.schema import Json
from polymodal.data.fingerprints import Marks

BLOCK = 64, 4096  # fingerprints compared at once
COMPARED = 5_000_000_000  # pairs at most, some 10 s; beyond it, rows from all over the part are looked up
SHOWN = 20  # pairs that are named
SAMPLE = 300, 20_000  # training cells that are looked up, and among which, to see whether an input repeats by nature
BY_NATURE = {True: 4.0, False: 1.0}  # others like a training cell, on average: of files, of what the table holds itself


class Pair(NamedTuple):
    """A row, the training row most like it in an input, and how many bits of their fingerprints differ."""

    row: int
    train_row: int
    distance: int


@dataclass
class Near:
    """The rows of a part that nearly repeat a training row in one input."""

    input: str
    part: str
    rows: int
    of: int  # rows that were looked up
    same: int  # of `rows`, those whose fingerprint differs in nothing
    pairs: list[Pair] = field(default_factory=list)  # the most alike first, `SHOWN` at most
    numbers: list[int] = field(default_factory=list, repr=False)  # of all the rows

    def json(self) -> dict[str, Json]:
        """Counts, and the pairs that are most alike."""
        plain = {k: v for k, v in vars(self).items() if k != "numbers"}
        return {**plain, "pairs": [p._asdict() for p in self.pairs]}

    def lines(self, most: int = 3) -> list[str]:
        """Some of the pairs, for a person to look at."""
        told = [f"  {self.part} row {p.row}, train row {p.train_row}: {p.distance} bits differ" for p in self.pairs]
        return told[:most] + ([f"  … and {self.rows - most} more"] if self.rows > most else [])

    def __str__(self) -> str:
        same = f", {self.same} of them without a difference" if self.same else ""
        return f"{self.rows} of {self.of} {self.part} rows nearly repeat a training row in {self.input}{same}"


def find_near(train: dict[str, Marks], others: dict[str, dict[str, Marks]],
              readers: dict[str, Any]) -> tuple[list[Near], list[str]]:  # fmt: skip
    """What each part has near the training rows, by input; and the inputs left out because they repeat by nature."""
    found: list[Near] = []
    natural = []
    for name, marks in train.items():
        if by_nature(marks, readers[name].alike, readers[name].files):
            natural.append(name)
            continue
        for part, theirs in others.items():
            one = near(name, part, readers[name].alike, marks, theirs[name]) if name in theirs else None
            found += [one] if one is not None else []
    return found, natural


def near(name: str, part: str, alike: int, train: Marks, other: Marks) -> Near | None:
    """Rows of `other` with a cell within `alike` bits of one in `train`; None where there are none."""
    if not len(train.rows) or not len(other.rows) or train.words.shape[1] != other.words.shape[1]:
        return None
    first = first_of_each(train.words)
    known = train.words if len(first) == len(train.words) else train.words[first]
    asked, place = np.unique(other.words, axis=0, return_inverse=True)
    few = np.arange(len(asked))
    if len(asked) * len(known) > COMPARED:
        few = np.unique(np.linspace(0, len(asked) - 1, max(1, COMPARED // len(known))).astype(int))
    distance = np.full(len(asked), -1)
    at = np.zeros(len(asked), np.int64)
    distance[few], at[few] = nearest(asked[few], known, alike)
    place = place.reshape(-1)
    hits = np.flatnonzero(distance[place] >= 0)
    if not len(hits):
        return None
    order = hits[np.lexsort((other.rows[hits], distance[place[hits]]))]
    rows = other.rows[order]
    once = np.sort(np.unique(rows, return_index=True)[1])  # a row's cell that is most alike
    pairs = [Pair(int(other.rows[i]), int(train.rows[first[at[place[i]]]]), int(distance[place[i]]))
             for i in order[once]]  # fmt: skip
    looked = len(np.unique(other.rows[np.isin(place, few)]))
    same = sum(p.distance == 0 for p in pairs)
    return Near(name, part, len(pairs), looked, same, pairs[:SHOWN], [p.row for p in pairs])


def first_of_each(words: UInt64[np.ndarray, "n words"]) -> Int64[np.ndarray, " m"]:
    """Where each different fingerprint stands first, in order; in the memory of a few words of each."""
    order = np.lexsort(words.T)
    new = np.ones(len(order), bool)
    new[1:] = False
    for column in words.T:
        ordered = column[order]
        new[1:] |= ordered[1:] != ordered[:-1]
    return np.sort(order[new])


def nearest(
    asked: UInt64[np.ndarray, "n words"], known: UInt64[np.ndarray, "m words"], alike: int
) -> tuple[Integer[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """For each fingerprint the distance and place of the nearest known one, -1 where none is within `alike` bits.

    Exact. Distances can only grow from word to word, so that nearly all pairs are told apart by the words looked at
    first, those whose bits vary most.
    """
    best = np.full(len(asked), alike + 1)
    at = np.zeros(len(asked), np.int64)
    words = _most_varied_first(known)[: max(1, math.ceil(alike / 24))]
    columns = [np.ascontiguousarray(known[:, w]) for w in words]
    for i in range(0, len(asked), BLOCK[0]):
        block = asked[i : i + BLOCK[0]]
        for j in range(0, len(known), BLOCK[1]):
            few = _bits(block[:, words[0], None] ^ columns[0][None, j : j + BLOCK[1]])
            for w, column in zip(words[1:], columns[1:], strict=True):
                few = few + _bits(block[:, w, None] ^ column[None, j : j + BLOCK[1]])
            a, b = np.divmod(np.flatnonzero(few <= alike), few.shape[1])
            whole = _bits(block[a] ^ known[j + b]).sum(1, dtype=np.int64)
            order = np.argsort(-whole, kind="stable")  # the nearest is written last
            order = order[whole[order] < best[i + a[order]]]
            best[i + a[order]], at[i + a[order]] = whole[order], j + b[order]
    return np.where(best <= alike, best, -1), at


def _bits(words: UInt64[np.ndarray, "..."]) -> np.ndarray:
    return np.bitwise_count(words)


def _most_varied_first(known: UInt64[np.ndarray, "m words"]) -> list[int]:
    sample = known[:: max(1, len(known) // 1000)]
    shares = np.unpackbits(np.ascontiguousarray(sample).view(np.uint8), axis=1).mean(0).reshape(known.shape[1], 64)
    return np.argsort(-(shares * (1 - shares)).sum(1), kind="stable").tolist()


def by_nature(train: Marks, alike: int, files: bool) -> bool:
    """Whether training cells are so often like each other that it tells nothing when others are: templates, tones."""
    among = _some(train.words, SAMPLE[1])
    sample = _some(among, SAMPLE[0])
    found = sum(int((_bits(one ^ among).sum(1, dtype=np.int64) <= alike).sum()) - 1 for one in sample)
    return found * len(train.words) > BY_NATURE[files] * len(sample) * len(among)


def _some(words: UInt64[np.ndarray, "n words"], most: int) -> UInt64[np.ndarray, "m words"]:
    """At most so many, from all over."""
    return words if len(words) <= most else words[np.linspace(0, len(words) - 1, most).astype(int)]
