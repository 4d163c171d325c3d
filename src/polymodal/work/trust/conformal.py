"""Split conformal prediction: how strange an answer may be, so that the truth is among those as often as wanted.

The truth's strangeness on n validation rows and on a new row are n + 1 draws alike, so the new one is at most the
k-th smallest of the others with a chance of exactly k / (n + 1); k = ceil((n + 1) level). Source: Vovk, Gammerman,
Shafer, "Algorithmic Learning in a Random World", 2005; Lei et al., JASA 2018; Sadinle, Lei, Wasserman, JASA 2019.

That is exact only where no two rows tie, and rows that show the model the same do. So strangeness is counted in steps
too fine to matter, and a lot in [0, 1) drawn from the row's number is added: ties are broken by lot.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Int

from polymodal.core.seeds import derive, row_keys

FINE = 1e-6  # a step, as a share of the range of all strangeness


def step_of(strange: Float[np.ndarray, " n"]) -> float:
    """The width of a step: far below the differences between rows, far above rounding."""
    known = strange[np.isfinite(strange)]
    if not len(known):
        return FINE
    spread = float(known.max() - known.min())
    return FINE * (spread or max(1.0, float(np.abs(known).max())))


def lots(task: str, purpose: str, rows: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """A number in [0, 1) for each row, the same whenever it is asked for."""
    return (row_keys(derive("lots", task, purpose), 0, rows) >> 10) / 2.0**53


def ranked(strange: Float[np.ndarray, " n"], lot: Float[np.ndarray, " n"], step: float) -> Float[np.ndarray, " n"]:
    """Strangeness in steps with the lot added, in rising order."""
    return np.sort(np.round(strange / step) + lot)


def place(rows: int, level: float) -> int:
    """k = ceil((rows + 1) level), not led astray by 0.9 being a little more than nine tenths."""
    return max(1, math.ceil((rows + 1) * level - 1e-9))


def limits(
    scores: Float[np.ndarray, " n"], level: float, lot: Float[np.ndarray, " B"], step: float
) -> Float[np.ndarray, " B"]:
    """The most strangeness that each row's region, by its lot, admits; infinite with too few scores for `level`."""
    k = place(len(scores), level)
    bound = scores[k - 1] if k <= len(scores) else np.inf
    return (np.floor(bound - lot) + 0.5) * step
