"""How sure a comparison is: intervals over seeds and rows, paired tests, Holm's correction, Kendall's tau.

A candidate is trained with several seeds, and every one of its runs answers the same test rows. Both would come out
otherwise another time, so both are drawn again: seeds with replacement and, by themselves, clusters of rows with
replacement; the statistic of a draw is the mean over the drawn seeds of the measure on the drawn rows. Seeds and rows
are crossed, not nested, because every seed answers the same rows. Source: Owen 2007, "The pigeonhole bootstrap".

Of S seeds S - 1 are drawn: the variance of their mean is then that of a mean of S seeds without bias, which matters
when S is 3. Source: Hesterberg 2015, "What Teachers Should Know About the Bootstrap", section 3.3, and Rao and Wu 1988.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Float64, Integer, Num

from polymodal.core.contracts import Records
from polymodal.core.schema import Json
from polymodal.core.seeds import generator
from polymodal.work.intervals import Measure, limits, plain, resamples, rows_in

Samples = Float64[np.ndarray, " draws"]  # [0] the statistic on all seeds and rows, then on each draw of them
DRAWS = 1000


class Draws:
    """The seeds and rows of every draw: one for all candidates of a comparison, so that samples can be subtracted.

    `seeds` are the names of all seeds that candidates were trained with, `clusters` [n] says which rows hang together.
    Beyond 20,000 rows there are fewer draws, see `intervals.resamples`.
    """

    def __init__(
        self,
        rows: int,
        seeds: Sequence[int],
        *,
        seed: int = 0,
        draws: int = DRAWS,
        clusters: Integer[np.ndarray, " n"] | None = None,
    ) -> None:
        if not seeds or len(set(seeds)) < len(seeds):
            raise ValueError(f"the seeds must be one or more different ones, not {list(seeds)}")
        self.rows, self.seeds, self.seed, self.draws, self.clusters = rows, tuple(seeds), seed, draws, clusters

    def level(self, measure: Measure, records: Mapping[int, Records]) -> dict[str, Samples]:
        """Each measure's samples for a candidate with these records by seed, [1 + draws].

        Every seed is measured on every draw of rows once; then seeds are drawn. A candidate that lacks some of the
        seeds (runs that failed) has the mean over those drawn that it has, and NaN where it has none of them.
        Raises ValueError for a seed that is not one of `seeds`, and for other rows than promised.
        """
        self._check(records)
        found: dict[str, list[np.ndarray]] = {}
        for weights in resamples(self.rows, self.seed, self.draws, self.clusters):
            by_seed = [measure(one, weights) for one in records.values()]
            for name in by_seed[0]:
                found.setdefault(name, []).append(np.stack([m[name] for m in by_seed]))
        places = [self.seeds.index(seed) for seed in records]
        return {name: self._mean(np.concatenate(blocks, 1), places) for name, blocks in found.items()}

    def fixed(self, measure: Measure, records: Records) -> dict[str, Samples]:
        """The same for a candidate without a seed, such as a simple model: only the rows are drawn."""
        self._check({self.seeds[0]: records})
        parts = [measure(records, w) for w in resamples(self.rows, self.seed, self.draws, self.clusters)]
        return {name: np.concatenate([p[name] for p in parts], dtype=np.float64) for name in parts[0]}

    def _check(self, records: Mapping[int, Records]) -> None:
        if not records or set(records) - set(self.seeds):
            raise ValueError(f"seeds {list(records)}, of {list(self.seeds)}")
        for seed, one in records.items():
            if rows_in(one) != self.rows:
                raise ValueError(f"seed {seed} answered {rows_in(one)} rows, not {self.rows}")

    def _mean(self, values: Float[np.ndarray, "S draws"], places: list[int]) -> Samples:
        """Over the drawn seeds, by how often each was drawn."""
        times = self._times(values.shape[1] - 1)[places]
        total = times.sum(0)
        drawn = np.where(times > 0, times * values, 0.0).sum(0)
        return np.where(total > 0, drawn / np.maximum(total, 1), np.nan)

    def _times(self, draws: int) -> Integer[np.ndarray, "S draws"]:
        """How often each seed stands in each draw; first all of them, once."""
        count = len(self.seeds)
        drawn = generator(self.seed, "seeds", *self.seeds).integers(0, count, (draws, max(1, count - 1)))
        times = (drawn[..., None] == np.arange(count)).sum(1)
        return np.concatenate([np.ones((1, count), times.dtype), times]).T


def told(samples: Samples) -> dict[str, Json]:
    """`{"value": x, "ci95": [lo, hi]}`: the statistic, and the 2.5th and 97.5th percentile of its draws."""
    return {"value": plain(samples[0]), "ci95": limits(samples[1:])}


def difference(ours: Samples, rival: Samples) -> dict[str, Json]:
    """`ours - rival`, paired: both come from the same `Draws`. As `told`, and `p`, see `p_value`."""
    gap = ours - rival
    return {**told(gap), "p": p_value(gap)}


def p_value(differences: Samples) -> float | None:
    """The two-sided bootstrap p-value of "there is no difference": 2 min(P(d <= 0), P(d >= 0)) over the draws.

    It inverts the percentile interval: p < 0.05 where the 95 % interval excludes 0 (up to one draw). One is added to
    either count and to the number of draws (Davison and Hinkley 1997, section 4.2.3), so that p is never 0 and at least
    2 / (draws + 1): `needed` says how many draws a corrected test takes. None where no draw is defined.
    """
    known = differences[1:][np.isfinite(differences[1:])]
    if not len(known):
        return None
    tail = min(int((known <= 0).sum()), int((known >= 0).sum()))
    return min(1.0, 2 * (tail + 1) / (len(known) + 1))


def needed(tests: int, level: float = 0.05) -> int:
    """Draws after which the smallest p-value of so many tests can stay below `level` / 2 by Holm's correction."""
    return max(DRAWS, math.ceil(4 * tests / level))


def holm(p: Mapping[str, float | None]) -> dict[str, float | None]:
    """p-values corrected for how many there are: below 0.05 all of them are wrong in at most 5 of 100 such families.

    The i-th smallest of m, i = 1 ... m, becomes the largest so far of (m + 1 - i) p, at most 1. Source: Holm 1979,
    "A Simple Sequentially Rejective Multiple Test Procedure". A test without a p-value (None) is not counted.
    """
    order = sorted((value, name) for name, value in p.items() if value is not None)
    adjusted: dict[str, float | None] = dict.fromkeys(p)
    largest = 0.0
    for rank, (value, name) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * value))
        adjusted[name] = largest
    return adjusted


def kendall(x: Num[np.ndarray, "k *draws"], y: Num[np.ndarray, "k *draws"]) -> Float64[np.ndarray, "*draws"]:
    """Kendall's tau-b of the order of k candidates by `x` and by `y`: 1 the same order, -1 the reverse.

    (concordant - discordant pairs) / sqrt(pairs that differ in x * pairs that differ in y); NaN where one of the two
    does not differ at all. With samples [k, 1 + draws] it is a sample vector itself, for `told`; draws shake an order
    that is nearly level, so that their tau lies below that of the whole. Source: Kendall 1945, "The Treatment of Ties".
    """
    one, two = np.triu_indices(len(x), 1)
    dx, dy = np.sign(x[one] - x[two]), np.sign(y[one] - y[two])
    differing = np.sqrt((dx != 0).sum(0) * (dy != 0).sum(0) * 1.0)
    with np.errstate(invalid="ignore"):
        return np.asarray((dx * dy).sum(0) / np.where(differing > 0, differing, np.nan), np.float64)
