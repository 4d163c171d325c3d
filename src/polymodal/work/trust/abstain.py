"""Leaving rows unanswered, so that those that are answered are right as often as wanted.

A threshold of confidence is trusted when the validation rows above it show the accuracy: were it lower, so few mistakes
would be seen there with a small chance only. Every threshold looked at is one more occasion for luck, so they are
tested in a fixed order, from few answered rows to all, and share a chance of 10 % (fallback procedure): each is given
half of what is left, and one that passes hands its share on to the next. All that pass then keep the promise with 90 %
certainty, and one unlucky mistake among the surest rows does not end the search. Sources: Geifman & El-Yaniv, NeurIPS
2017; Angelopoulos et al., "Learn then Test", 2021; Wiens & Dmitrienko, J. Biopharm. Stat. 2005 (fallback).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from polymodal.work.trust.chance import binomial_tail

DOUBT = 0.1  # chance that a threshold is trusted which does not keep its promise
SHARES = (*range(5, 95, 5), *range(95, 101))  # per cent of the rows answered, at the thresholds that are looked at


class Threshold(NamedTuple):
    """The least confidence that is answered; infinite when none shows the accuracy."""

    level: float  # the accuracy wanted
    least: float
    rows: int  # validation rows it was tested on
    answered: int  # of them, those it answers
    right: int  # of those
    best: tuple[float, int]  # the highest accuracy among the surest 5 %, 10 %, ... of the rows, and their number


def threshold(confidence: Float[np.ndarray, " n"], right: Bool[np.ndarray, " n"], level: float) -> Threshold:
    """The smallest confidence from which on the accuracy is at least `level`, with 90 % certainty."""
    rows = len(confidence)
    falling = np.sort(confidence)[::-1]
    chosen = Threshold(level, np.inf, rows, 0, 0, _best(confidence, right))
    left, handed_on = DOUBT, 0.0
    for share in SHARES:
        wanted = round(share * rows / 100)
        # strictly above one row: given its confidence, those above it are a fair sample of what is to be answered
        least = float(np.nextafter(falling[wanted], np.inf)) if wanted < rows else 0.0
        answers = confidence >= least
        count, good = int(answers.sum()), int(right[answers].sum())
        if not count or level**count > left / 2:
            continue  # could not pass without a single mistake, whatever the rows say
        left, handed_on = left / 2, handed_on + left / 2
        if binomial_tail(count - good, count, 1 - level) <= handed_on:
            chosen = chosen._replace(least=least, answered=count, right=good)
        else:
            handed_on = 0.0
    return chosen


def _best(confidence: Float[np.ndarray, " n"], right: Bool[np.ndarray, " n"]) -> tuple[float, int]:
    order = np.argsort(-confidence, kind="stable")
    counts = [round(share * len(order) / 100) for share in SHARES]
    return max(((float(right[order[:n]].mean()), n) for n in counts if n), default=(0.0, 0))
