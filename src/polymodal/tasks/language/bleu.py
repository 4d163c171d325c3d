"""BLEU: how many of the n-grams that were said stand in a reference.

Source: Papineni et al., "BLEU: a Method for Automatic Evaluation of Machine Translation", ACL 2002; constants and the
closest reference length as in `pycocoevalcap`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from polymodal.tasks.language.ngrams import ORDERS, Matched
from polymodal.tasks.metrics import PerWeighting, Weights

SMALL, TINY = 1e-9, 1e-15  # in the denominators; in the numerators, so that nothing right gives about 0


def right(found: Sequence[Matched], rows: int) -> Int[np.ndarray, "n 4"]:
    """Per row, the n-grams said that stand in a reference, each at most as often as in the reference with most."""
    counts = np.zeros((rows, len(found)), np.int64)
    for order, match in enumerate(found):
        most = np.zeros(len(match.said.times), np.int64)
        hit = match.there > 0
        np.maximum.at(most, match.at[hit], match.reference.times[hit])
        np.add.at(counts[:, order], match.said.sentence, np.minimum(most, match.said.times))
    return counts


def said_of(lengths: Int[np.ndarray, " n"]) -> Int[np.ndarray, "n 4"]:
    """Per row, the n-grams that sentences of so many words hold."""
    return np.maximum(lengths[:, None] - np.arange(ORDERS), 0)


def closest(length: int, others: Sequence[int]) -> int:
    """The reference length closest to `length`, the shorter of two as close; 0 without references."""
    return min(others, key=lambda other: (abs(other - length), other), default=0)


def bleu(
    right: Int[np.ndarray, "n 4"], length: Int[np.ndarray, " n"], reference: Int[np.ndarray, " n"], weights: Weights
) -> list[PerWeighting]:
    """BLEU-1 ... BLEU-4 of the whole (sums over rows first): geometric mean of precisions times the brevity penalty.

    `length` of what was said and `reference`, the closest reference length, in words. NaN where no row has weight.
    """
    shares = (weights @ right + TINY) / (weights @ said_of(length) + SMALL)
    ratio = (weights @ length + TINY) / (weights @ reference + SMALL)
    brevity = np.where(ratio < 1, np.exp(1 - 1 / np.minimum(ratio, 1)), 1.0)
    values = np.exp(np.cumsum(np.log(shares), 1) / np.arange(1, ORDERS + 1)) * brevity[:, None]
    values = np.where(weights.sum(1, keepdims=True) > 0, values, np.nan)
    return [values[:, order] for order in range(ORDERS)]


def sentence_bleu(
    right: Int[np.ndarray, "n 4"], length: Int[np.ndarray, " n"], reference: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """BLEU-4 of each row by itself, with the same constants: close to 0 as soon as no four words are right."""
    return bleu(right, length, reference, np.eye(len(right)))[-1]
