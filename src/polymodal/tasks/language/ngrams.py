"""N-grams of many sentences at once, as arrays: what BLEU, CIDEr and distinct count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

ORDERS = 4


class Grams(NamedTuple):
    """How often each n-gram of one length stands in each sentence; entries by sentence, then by number of n-gram."""

    sentence: Int[np.ndarray, " E"]
    kind: Int[np.ndarray, " E"]  # the n-gram, 0 ... kinds - 1
    times: Int[np.ndarray, " E"]
    first: Int[np.ndarray, " kinds"]  # where each n-gram begins in the words of all sentences, in a row

    @property
    def kinds(self) -> int:
        return len(self.first)


def grams(sentences: Sequence[Sequence[str]], orders: int = ORDERS) -> list[Grams]:
    """The n-grams of 1 ... `orders` words of all sentences; equal n-grams have one number in all of them."""
    number: dict[str, int] = {}
    ids = np.array([number.setdefault(word, len(number)) for s in sentences for word in s], np.int64)
    lengths = np.array([len(s) for s in sentences], np.int64)
    owner = np.repeat(np.arange(len(sentences)), lengths)
    left = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(ids))  # words of the sentence from here on
    found, kind, place = [], ids, np.arange(len(ids))
    for order in range(1, orders + 1):
        if order > 1:  # an n-gram is the one before it and a word; `kind` runs over `place`
            stay = left[place] >= order
            place = place[stay]
            kind = kind[stay] * max(1, len(number)) + ids[place + order - 1]
        _, first, kind = np.unique(kind, return_index=True, return_inverse=True)
        found.append(_counted(owner[place], kind, place[first]))
    return found


def _counted(owner: np.ndarray, kind: np.ndarray, first: np.ndarray) -> Grams:
    pairs, times = np.unique(owner * max(1, len(first)) + kind, return_counts=True)
    sentence, kind = np.divmod(pairs, max(1, len(first)))
    return Grams(sentence, kind, times, first)


class Matched(NamedTuple):
    """The n-grams of one length of n said sentences and of their references, each reference beside what was said."""

    said: Grams  # of sentences 0 ... n - 1
    reference: Grams  # of references, numbered from 0 over all rows
    row: Int[np.ndarray, " E"]  # of each entry of `reference`, the row that it belongs to
    at: Int[np.ndarray, " E"]  # the entry of `said` with its row and n-gram
    there: Int[np.ndarray, " E"]  # how often that row said it; 0 where `at` means nothing


def matched(
    said: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]], orders: int = ORDERS
) -> list[Matched]:
    """For n-grams of 1 ... `orders` words: those said in each row beside those of the row's references."""
    rows = len(said)
    owner = np.repeat(np.arange(rows), np.array([len(r) for r in references], np.int64))
    every = grams([*said, *(sentence for row in references for sentence in row)], orders)
    return [_beside(found, rows, owner) for found in every]


def _beside(every: Grams, rows: int, owner: np.ndarray) -> Matched:
    cut = int(np.searchsorted(every.sentence, rows))
    said = Grams(every.sentence[:cut], every.kind[:cut], every.times[:cut], every.first)
    reference = Grams(every.sentence[cut:] - rows, every.kind[cut:], every.times[cut:], every.first)
    row = owner[reference.sentence]
    have, want = said.sentence * every.kinds + said.kind, row * every.kinds + reference.kind
    if not len(have):
        return Matched(said, reference, row, np.zeros_like(row), np.zeros_like(row))
    at = np.minimum(np.searchsorted(have, want), len(have) - 1)
    return Matched(said, reference, row, at, np.where(have[at] == want, said.times[at], 0))
