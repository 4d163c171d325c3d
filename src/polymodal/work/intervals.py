"""Bootstrap intervals of measures: how much they would move with another sample of rows.

Resampling rows (or clusters of rows that hang together, such as questions about one picture) with replacement, and
reading the 2.5th and 97.5th percentile. It tells what the choice of test rows does to a number, not what another
training seed would. Source: Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, ch. 13.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float, Integer

from polymodal.core.contracts import Records
from polymodal.core.schema import Json
from polymodal.core.seeds import generator

Measure = Callable[[Records, np.ndarray], dict[str, np.ndarray]]
ENTRIES = 500_000  # weights made at once: measures take a multiple of their memory
DRAWN = 20_000_000  # rows drawn in all, beyond which there are fewer resamples: such intervals are narrow
FEWEST = 200  # resamples


def intervals(
    measure: Measure, records: Records, seed: int, draws: int = 1000, clusters: np.ndarray | None = None
) -> dict[str, dict[str, Json]]:
    """Each measure's value on all rows and its 95 % percentile interval: `{name: {"value": x, "ci95": [lo, hi]}}`.

    `clusters` [n]: rows of equal number are drawn together. The same seed draws the same rows. None stands for a value
    that is not defined; resamples in which a measure is not defined are passed over.
    """
    weightings = resamples(rows_in(records), seed, draws, clusters)
    return summary([measure(records, w) for w in weightings])


def paired(
    measure: Measure,
    ours: Records,
    rival: Records,
    seed: int,
    draws: int = 1000,
    clusters: np.ndarray | None = None,
) -> dict[str, dict[str, Json]]:
    """The difference `ours - rival` of each measure, with its interval; both are measured on the same resamples.

    The two must answer the same rows in the same order. An interval without 0 is a difference that the choice of rows
    does not explain. Raises ValueError when their numbers of rows differ.
    """
    if rows_in(ours) != rows_in(rival):
        raise ValueError(f"{rows_in(ours)} rows against {rows_in(rival)}: they must be the same rows")
    differences = []
    for w in resamples(rows_in(ours), seed, draws, clusters):
        one, two = measure(ours, w), measure(rival, w)
        differences.append({name: one[name] - two[name] for name in one if name in two})
    return summary(differences)


def rows_in(records: Records) -> int:
    return len(records["error"])


def resamples(
    rows: int, seed: int, draws: int, clusters: Integer[np.ndarray, " n"] | None = None
) -> Iterator[Float[np.ndarray, "W n"]]:
    """Weights of ones, then how often each row stands in each of `draws` resamples, a bounded number at a time.

    Of more than 20,000 rows there are fewer than 1,000 resamples, so that time does not grow with the rows, until there
    are 200.
    """
    yield np.ones((1, rows))
    draws = min(draws, max(FEWEST, DRAWN // max(1, rows)))
    groups, place = (rows, None) if clusters is None else distinct(clusters)
    random = generator(seed, "bootstrap")
    step = max(1, ENTRIES // max(1, rows))
    for first in range(0, draws if rows else 0, step):
        count = min(step, draws - first)
        drawn = random.integers(0, groups, (count, groups)) + groups * np.arange(count)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=count * groups).reshape(count, groups).astype(np.float64)
        yield counts if place is None else counts[:, place]


def distinct(clusters: np.ndarray) -> tuple[int, np.ndarray]:
    """The number of clusters, and the place of each row's own."""
    found, place = np.unique(clusters, return_inverse=True)
    return len(found), place


def summary(parts: list[dict[str, np.ndarray]]) -> dict[str, dict[str, Json]]:
    """The first value of each measure, and the percentiles of the others."""
    whole = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
    return {name: {"value": plain(v[0]), "ci95": limits(v[1:])} for name, v in whole.items()}


def limits(values: Float[np.ndarray, " draws"]) -> list[float | None]:
    known = values[np.isfinite(values)]
    return [float(q) for q in np.percentile(known, [2.5, 97.5])] if len(known) else [None, None]


def plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
