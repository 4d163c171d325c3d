"""Two laws of counting, exactly: the binomial tail, and how often a conformal set holds the truth."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def log_factorials(most: int) -> Float[np.ndarray, " most1"]:
    """log n! for n = 0 ... most."""
    return np.cumsum(np.log(np.maximum(np.arange(most + 1), 1)))


def binomial_tail(count: int, trials: int, chance: float) -> float:
    """The chance of at most `count` hits in so many trials, each a hit with `chance`, 0 < chance < 1."""
    log_n = log_factorials(trials)
    k = np.arange(min(count, trials) + 1)
    terms = log_n[trials] - log_n[k] - log_n[trials - k] + k * np.log(chance) + (trials - k) * np.log1p(-chance)
    return min(1.0, float(np.exp(terms).sum()))


def covered(place: int, rows: int, trials: int) -> Float[np.ndarray, " trials1"]:
    """The chance of 0 ... `trials` new rows being covered by a limit that stands at `place` among `rows` sorted scores.

    The coverage of the limit itself is drawn from Beta(place, rows + 1 - place), so the count is beta-binomial. Source:
    Vovk, "Conditional validity of inductive conformal predictors", ACML 2012; Angelopoulos & Bates 2021, app. C.
    """
    log_n = log_factorials(rows + trials)
    k, after = np.arange(trials + 1), rows - place
    ways = log_n[trials] - log_n[k] - log_n[trials - k]
    over = log_n[place - 1 + k] + log_n[after + trials - k] - log_n[rows + trials]
    under = log_n[place - 1] + log_n[after] - log_n[rows]
    return np.exp(ways + over - under)


def expected_coverage(place: int, rows: int, trials: int) -> tuple[float, float]:
    """Between which shares of `trials` new rows the coverage lies, 95 times in 100; (1, 1) when there is no limit."""
    if place > rows:
        return 1.0, 1.0
    below = np.cumsum(covered(place, rows, trials))
    ends = [int(np.searchsorted(below, q)) for q in (0.025, 0.975)]
    return ends[0] / trials, min(ends[1], trials) / trials
