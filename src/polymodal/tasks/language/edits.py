"""Edit distances between many pairs of sequences at once, and the error rates of words and of characters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from jaxtyping import Int

from polymodal.core.contracts import Records
from polymodal.tasks.language.words import joined, spoken
from polymodal.tasks.metrics import PerWeighting, Weights, ratio

CHUNK = 1024  # pairs of like lengths that are compared at once


def distances(
    ours: Sequence[Sequence[str]], theirs: Sequence[Sequence[str]], substitution: int = 1
) -> Int[np.ndarray, " n"]:
    """The fewest edits that turn each of `ours` into its partner: insertions and deletions cost 1, a substitution 1.

    With `substitution=2` none is worth its price: what is left are insertions and deletions, so that
    `(len(a) + len(b) - distance) / 2` is the length of the longest common subsequence. A text is a sequence of
    characters. O(n · A · B) time, 1024 pairs of like lengths at a time. Source: Wagner & Fischer, "The
    String-to-String Correction Problem", JACM 1974.
    """
    number: dict[str, int] = {}
    sizes = np.array([[len(a), len(b)] for a, b in zip(ours, theirs, strict=True)], np.int64).reshape(-1, 2)
    found = np.empty(len(ours), np.int64)
    order = np.lexsort((sizes[:, 1], sizes[:, 0]))
    for start in range(0, len(order), CHUNK):
        rows = order[start : start + CHUNK]
        ids = [_padded([side[i] for i in rows], number, fill) for side, fill in ((ours, -1), (theirs, -2))]
        found[rows] = _table(ids[0], ids[1], sizes[rows], substitution)
    return found


def _padded(sequences: Sequence[Sequence[str]], number: dict[str, int], fill: int) -> Int[np.ndarray, "n L"]:
    padded = np.full((len(sequences), max(map(len, sequences), default=0)), fill, np.int32)
    for row, sequence in zip(padded, sequences, strict=True):
        row[: len(sequence)] = [number.setdefault(item, len(number)) for item in sequence]
    return padded


def _table(
    ours: Int[np.ndarray, "n A"], theirs: Int[np.ndarray, "n B"], sizes: Int[np.ndarray, "n 2"], substitution: int
) -> Int[np.ndarray, " n"]:
    """Row after row of Wagner and Fischer's table, for all pairs; insertions along a row are a running minimum."""
    step = np.arange(theirs.shape[1] + 1, dtype=np.int32)
    row = np.broadcast_to(step, (len(ours), len(step)))
    pairs, found = np.arange(len(ours)), sizes[:, 1].copy()
    for taken in range(1, ours.shape[1] + 1):
        swapped = row[:, :-1] + np.int32(substitution) * (ours[:, taken - 1 : taken] != theirs)
        row = row + np.int32(1)
        np.minimum(row[:, 1:], swapped, out=row[:, 1:])
        row = np.minimum.accumulate(row - step, axis=1) + step
        found = np.where(sizes[:, 0] == taken, row[pairs, sizes[:, 1]], found)
    return found


def records(said: Sequence[str], references: Sequence[Iterable[str]], as_is: bool = False) -> Records:
    """Per row: edits of words and of characters towards the closest reference, and that reference's lengths.

    Words are those of `words.spoken` (lower case, no punctuation) and characters those of these words with one space
    between them; `as_is` compares texts as they stand: words between white space, characters after white space has
    become single spaces. The closest reference is the one with the lowest rate, the first of several. Columns
    `word_edits`, `word_total`, `char_edits`, `char_total`, each [n].
    """
    split: Callable[[str], list[str]] = str.split if as_is else spoken
    join: Callable[[Iterable[str]], str] = " ".join if as_is else joined
    ours, theirs = [split(text) for text in said], [[split(text) for text in row] or [[]] for row in references]
    words = _closest(ours, theirs)
    characters = _closest([join(o) for o in ours], [[join(r) for r in row] for row in theirs])
    names = ("word_edits", "word_total", "char_edits", "char_total")
    return dict(zip(names, (*words, *characters), strict=True))


def _closest(ours: Sequence[Sequence[str]], theirs: Sequence[Sequence[Sequence[str]]]) -> tuple[np.ndarray, np.ndarray]:
    counts = np.array([len(row) for row in theirs], np.int64)
    owner = np.repeat(np.arange(len(ours)), counts)
    flat = [reference for row in theirs for reference in row]
    edits = distances([ours[i] for i in owner.tolist()], flat)
    sizes = np.array([len(reference) for reference in flat], np.int64)
    order = np.lexsort((np.arange(len(flat)), edits / np.maximum(sizes, 1), owner))
    best = order[np.cumsum(counts) - counts]
    return edits[best], sizes[best]


def measure(records: Records, weights: Weights) -> dict[str, PerWeighting]:
    """`wer` and `cer`: edits over the words (characters) of the references, summed over rows first.

    0 is perfect; above 1 where more is wrong than there was to say. NaN where the references hold nothing.
    """
    rate = {
        name: ratio(weights @ records[f"{unit}_edits"], weights @ records[f"{unit}_total"])
        for name, unit in (("wer", "word"), ("cer", "char"))
    }
    return rate
