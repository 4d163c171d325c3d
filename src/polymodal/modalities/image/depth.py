"""Pixels of any depth -> bytes: 16 bits, floats, windows of intensities."""

from __future__ import annotations

from typing import Literal

import numpy as np

from polymodal.core.errors import BadCell

Span = Literal["full", "minmax"] | tuple[float, float]  # stored values that become 0 ... 255
SAY = "say which range of them is meant: range: [low, high], or minmax"


def to_bytes(pixels: np.ndarray, span: Span = "full") -> np.ndarray:
    """Stored values `low` to `high` as uint8 0 to 255, in equal steps, rounded; what lies outside is cut off.

    - `full`: the range of the type, 0 to 255 for 8 bits, 0 to 65535 for 16 bits (and for wider integers that stay in
      it), 0 to 1 for floats, false and true. Values outside cannot be meant, and raise BadCell;
    - `minmax`: from this picture's smallest value to its largest; a picture of one value is black;
    - `(low, high)`: a window, in stored values.

    Floats that are no finite numbers raise BadCell.
    """
    if pixels.dtype.kind not in "biuf":
        raise BadCell(f"an array of {pixels.dtype} holds no pixels")
    if pixels.dtype == np.uint8 and span == "full":
        return pixels
    values = pixels.astype(np.float32 if pixels.dtype.itemsize < 4 else np.float64)
    if not np.isfinite(values).all():
        raise BadCell("pixels that are no finite numbers")
    low, high = _ends(pixels, values, span)
    return np.rint((np.clip(values, low, high) - low) * (255 / (high - low))).astype(np.uint8)


def _ends(pixels: np.ndarray, values: np.ndarray, span: Span) -> tuple[float, float]:
    if not isinstance(span, str):
        return span
    least, most = float(values.min()), float(values.max())
    if span == "minmax":
        return least, most if most > least else least + 1.0
    top = {"b": 1.0, "f": 1.0}.get(pixels.dtype.kind, 255.0 if pixels.dtype == np.uint8 else 65535.0)
    if least < 0 or most > top:
        kind = "floating-point numbers" if pixels.dtype.kind == "f" else f"{pixels.dtype} numbers"
        raise BadCell(f"pixels are {kind} from {least:g} to {most:g}, not 0 to {top:g}; {SAY}")
    return 0.0, top
