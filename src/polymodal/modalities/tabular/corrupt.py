"""Noise in tables."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32, Int64

from polymodal.core.noise import hit
from polymodal.core.seeds import Rng
from polymodal.modalities.tabular.columns import MISSING_CODE

Columns = tuple[Float32[np.ndarray, "N F"], Bool[np.ndarray, "N F"], Int64[np.ndarray, "N G"]]


def noisy(
    numbers: Float32[np.ndarray, "N F"], known: Bool[np.ndarray, "N F"], codes: Int64[np.ndarray, "N G"],
    level: float, rng: Rng,
) -> Columns:  # fmt: skip
    """With chance `level` a value is lost: missing or, by even odds, that of another record in the same column.

    After `drop` and `swap` of MultiBench (Liang et al. 2021), which swaps a value with that of the column beside it.
    The other record is any of those given; a single one has nothing to swap with, and its values go missing.
    """
    rows, columns = len(numbers), numbers.shape[1] + codes.shape[1]
    lost = hit(np.ones((rows, columns), bool), level, rng)
    swapped = (rng.random((rows, columns)) < 0.5) & (rows > 1)
    source = (np.arange(rows)[:, None] + rng.integers(1, max(rows, 2), (rows, columns))) % max(rows, 1)
    of_numbers, of_codes = np.s_[:, : numbers.shape[1]], np.s_[:, numbers.shape[1] :]

    def replace(values: np.ndarray, place: tuple[slice, slice], missing: float | bool | int) -> np.ndarray:
        others = np.take_along_axis(values, source[place], 0)
        return np.where(lost[place], np.where(swapped[place], others, np.array(missing, values.dtype)), values)

    return (
        replace(numbers, of_numbers, 0.0),
        replace(known, of_numbers, False),
        replace(codes, of_codes, MISSING_CODE),
    )
