"""Distinct-n: how varied what was said is.

Source: Li et al., "A Diversity-Promoting Objective Function for Neural Conversation Models", NAACL 2016.
"""

from __future__ import annotations

import numpy as np

from polymodal.tasks.language.ngrams import Grams
from polymodal.tasks.metrics import PerWeighting, Weights


def distinct(said: Grams, weights: Weights) -> PerWeighting:
    """The number of different n-grams that the rows say, over the number of n-grams that they say.

    A row of weight 2 says its n-grams twice. It is a property of one set of answers that falls as the set grows, and it
    falls when answers are repeated: of a resample, in which some rows are left out and others stand twice, it would
    tell of the resampling. There it is NaN, so that it has no bootstrap interval; also where nothing is said.
    """
    values = np.full(len(weights), np.nan)
    resampled = (weights == 0).any(1) & (weights > 1).any(1)
    for at in np.flatnonzero(~resampled):
        times = weights[at, said.sentence]
        total = times @ said.times
        if total > 0:
            values[at] = len(np.unique(said.kind[times > 0])) / total
    return values
