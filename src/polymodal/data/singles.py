"""Simple predictors of a target from one column, cross-validated: what a single column can tell by itself.

Each takes what it sees of the rows, the target and which rows are held out, and answers for the held-out rows. A target
is a class as a number from 0 on, or a value, a float.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import zip_longest

import numpy as np
from jaxtyping import Bool, Float, Int64, Shaped

Target = Shaped[np.ndarray, " n"]  # int64 classes, or float64 values
Held = Bool[np.ndarray, " n"]
Answers = Shaped[np.ndarray, " held"]
Codes = Int64[np.ndarray, " n"]

NEAREST = 5  # rows that vote on a class
LEAF = 16  # rows to which a line is fitted
WORDS = 64  # looked at in a text
PIECES = 12  # of a name, from its beginning, and from its end
_WORD = re.compile(r"\w+|[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]")
_PIECE = re.compile(r"[^\W\d_]+|\d+")
_NUMBER = re.compile(r"-?\d+(?:,\d{3})*(?:\.\d+)?")


def by_category(codes: Codes, target: Target, held: Held) -> Answers:
    """The most common class, or the mean, of the rows of the same category; of all rows for a category not seen."""
    seen = ~held
    known = int(codes.max(initial=0)) + 1
    if target.dtype == np.float64:
        count = np.bincount(codes[seen], minlength=known)
        total = np.bincount(codes[seen], target[seen], minlength=known)
        mean = np.where(count > 0, total / np.maximum(count, 1), target[seen].mean())
        return mean[codes[held]]
    classes = int(target.max()) + 1
    pairs, count = np.unique(codes[seen] * classes + target[seen], return_counts=True)
    order = np.argsort(count, kind="stable")  # the most common is written last
    best = np.full(known, np.bincount(target[seen]).argmax())
    best[pairs[order] // classes] = pairs[order] % classes
    return best[codes[held]]


def by_number(values: Float[np.ndarray, " n"], target: Target, held: Held) -> Answers:
    """What the rows with the nearest numbers have: the commonest class of five; a line through some dozens of values.

    A missing number (NaN) stands below all others.
    """
    values = np.where(np.isnan(values), np.nanmin(values, initial=0.0) - 1.0, values)
    order = np.argsort(values[~held], kind="stable")
    known, theirs, asked = values[~held][order], target[~held][order], values[held]
    middle = (np.searchsorted(known, asked, "left") + np.searchsorted(known, asked, "right")) // 2
    if target.dtype == np.float64:
        return _on_lines(known, theirs, asked, middle)
    start = np.clip(middle - NEAREST // 2, 0, max(0, len(known) - NEAREST))
    votes = theirs[np.minimum(start[:, None] + np.arange(NEAREST), len(known) - 1)]
    agreed = (votes[:, :, None] == votes[:, None, :]).sum(2)
    return votes[np.arange(len(votes)), agreed.argmax(1)]


def between_numbers(values: Float[np.ndarray, " n"], target: Target, held: Held) -> Answers:
    """The value between those of the two rows with the nearest numbers: exact where there is no noise. Values only."""
    known, place = np.unique(np.nan_to_num(values[~held]), return_inverse=True)
    place = place.reshape(-1)
    mean = np.bincount(place, target[~held]) / np.bincount(place)
    return np.interp(np.nan_to_num(values[held]), known, mean)


def _on_lines(known: np.ndarray, theirs: np.ndarray, asked: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """Least squares in leaves of as many rows; no answer beyond what a leaf has seen."""
    leaves = max(1, min(256, len(known) // LEAF))
    leaf = np.arange(len(known)) * leaves // len(known)
    mine = np.minimum(middle * leaves // len(known), leaves - 1)
    count = np.bincount(leaf)
    x, y = (np.bincount(leaf, v) / count for v in (known, theirs))
    dx = known - x[leaf]
    spread = np.bincount(leaf, dx * dx)
    slope = np.bincount(leaf, dx * (theirs - y[leaf])) / np.where(spread > 0, spread, 1.0)
    edges = np.flatnonzero(np.diff(leaf, prepend=-1))
    low, high = np.minimum.reduceat(theirs, edges), np.maximum.reduceat(theirs, edges)
    return np.clip(y[mine] + slope[mine] * (asked - x[mine]), low[mine], high[mine])


def by_words(texts: Sequence[Sequence[int]], target: Target, held: Held) -> Answers:
    """Naive Bayes over which words there are, each counted once. Classes only."""
    row = np.repeat(np.arange(len(texts)), [len(t) for t in texts])
    word = np.array([w for t in texts for w in t], np.int64)
    classes, known = int(target.max()) + 1, int(word.max(initial=0)) + 1
    seen = ~held[row]
    count = np.bincount(word[seen] * classes + target[row[seen]], minlength=known * classes).reshape(known, classes)
    rows = np.bincount(target[~held], minlength=classes)
    chance = np.log((count + 0.1) / (rows + 0.2))
    mine = np.flatnonzero(held)
    scores = np.zeros((len(held), classes))
    for c in range(classes):
        scores[:, c] = np.bincount(row, chance[word, c], minlength=len(held))
    return (scores[mine] + np.log(np.maximum(rows, 0.5))).argmax(1)


def by_marker(texts: Sequence[Sequence[int]], target: Target, held: Held) -> Answers:
    """What one word gives away: of a row's words, the one that stood beside one class most purely. Classes only."""
    row = np.repeat(np.arange(len(texts)), [len(t) for t in texts])
    word = np.array([w for t in texts for w in t], np.int64)
    classes, known = int(target.max()) + 1, int(word.max(initial=0)) + 1
    seen = ~held[row]
    count = np.bincount(word[seen] * classes + target[row[seen]], minlength=known * classes).reshape(known, classes)
    purity = (count.max(1) + 0.5) / (count.sum(1) + 1.0)
    order = np.argsort(purity[word], kind="stable")  # the purest is written last
    best = np.full(len(held), -1)
    best[row[order]] = word[order]
    common = np.bincount(target[~held]).argmax()
    return np.where(best >= 0, count.argmax(1)[best], common)[held]


def codes_of(cells: Sequence[object]) -> Codes:
    """Equal cells as equal numbers; a missing one is a category too."""
    seen: dict[object, int] = {}
    return np.array([seen.setdefault(c, len(seen)) for c in cells], np.int64)


def words_of(texts: Sequence[str | None]) -> list[list[int]]:
    """The distinct words of each text's beginning, as numbers."""
    seen: dict[str, int] = {}
    split = (_WORD.findall((t or "").lower())[:WORDS] for t in texts)
    return [[seen.setdefault(w, len(seen)) for w in dict.fromkeys(words)] for words in split]


def pieces_of(names: Sequence[str | None]) -> list[list[object]]:
    """Columns of a name's pieces, runs of letters or of digits, counted from its beginning and from its end."""
    cut = [[p.lower() for p in _PIECE.findall(n or "")] for n in names]
    first = [c[:PIECES] for c in cut]
    last = [c[: -PIECES - 1 : -1] for c in cut]
    return [list(column) for side in (first, last) for column in zip_longest(*side)] if cut else []


def numbers_of(texts: Sequence[str | None]) -> list[np.ndarray]:
    """The first, the last and the largest number of each text; NaN where there is none."""
    found = [[float(n.replace(",", "")) for n in _NUMBER.findall(t or "")] for t in texts]
    picks: list[Callable[[list[float]], float]] = [lambda n: n[0], lambda n: n[-1], max]
    return [np.array([pick(n) if n else np.nan for n in found]) for pick in picks]
