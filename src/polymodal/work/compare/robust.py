"""Robustness: how a score falls with the level of noise, or with the share of rows that lack an input.

After Liang et al. 2021, "MultiBench: Multiscale Benchmarks for Multimodal Representation Learning" (NeurIPS Datasets
and Benchmarks), sections 3.3 and 4.3, and its program `eval_scripts/robustness.py`; effective robustness goes back to
Taori et al. 2020, "Measuring Robustness to Natural Distribution Shifts in Image Classification".

A curve is the samples of a measure at each level, [levels, 1 + draws], see `bootstrap.Draws`: what is computed from it
is a sample vector too, and has an interval. The first level is the clean one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float64, Integer

from polymodal.core.contracts import Records
from polymodal.core.seeds import derive, row_keys
from polymodal.work.compare.bootstrap import Samples

Curve = Float64[np.ndarray, "levels draws"]
LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)


def relative(levels: Sequence[float], curve: Curve) -> Samples:
    """Relative robustness: the area under the curve by trapezoids, over the width of the levels.

    R = 1 / (x_L - x_0) * integral of s(x) dx: the mean score from the clean rows to the worst level, in the measure's
    own units, lower being better where it is so for the measure. In MultiBench it is the area itself at steps of 0.1.
    """
    x = np.asarray(levels, np.float64)
    if len(x) != len(curve) or len(x) < 2 or (np.diff(x) <= 0).any():
        raise ValueError(f"{len(curve)} scores at levels {list(levels)}: two or more rising levels are needed")
    steps = np.diff(x)[:, None]
    return (steps * (curve[1:] + curve[:-1]) / 2).sum(0) / (x[-1] - x[0])


def effective(levels: Sequence[float], curve: Curve, baseline: Curve, *, lower: bool = False) -> Samples:
    """Effective robustness: how far the curve stays above what its clean score and the baseline's fall predict.

    The baseline (late fusion in MultiBench), shifted to the same clean score, is the prediction
    b(x) = s_0(x) + s(0) - s_0(0), and E = 1 / (x_L - x_0) * integral of s(x) - b(x) dx; positive = holds out better
    than the baseline does, also where lower is better. In MultiBench it is the sum over the levels of s - b.
    """
    gap = curve - baseline
    return (-1.0 if lower else 1.0) * relative(levels, gap - gap[:1])


def scaled(values: Mapping[str, float | None], *, lower: bool = False) -> dict[str, float | None]:
    """Values from 0, the worst candidate, to 1, the best, as MultiBench reports both kinds of robustness.

    It depends on who else is compared. None where a value is not known, or all are equal.
    """
    known = [v for v in values.values() if v is not None]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    best, width = (low, low - high) if lower else (high, high - low)
    return {n: None if v is None or not width else 1.0 - (best - v) / width for n, v in values.items()}


def gone(rows: Integer[np.ndarray, " n"], share: float, seed: int, name: str) -> Bool[np.ndarray, " n"]:
    """The rows that lack input `name` at this share: a row's own lot, and the same rows again at every higher share."""
    return row_keys(derive(seed, "gone", name), 0, rows) / 2.0**63 < share


def mixed(whole: Records, blind: Records, lacking: Bool[np.ndarray, " n"]) -> Records:
    """How rows are answered when those `lacking` an input are answered without it; nothing is run again."""
    return {
        name: np.where(lacking.reshape(-1, *[1] * (column.ndim - 1)), blind[name], column)
        for name, column in whole.items()
    }
