"""What can be seen of a picture at a glance: light, contrast, colour, sharpness, size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from polymodal.core.traits import Traits, numbers

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


def seen(pictures: Sequence[UInt8[np.ndarray, "C H W"]]) -> Traits:
    """`brightness`, mean of the luma, and `contrast`, its deviation, in shares of the full range; `sharpness`, the mean
    step between neighbouring pixels; in colour `saturation`, the mean distance between largest and smallest channel,
    and `warmth`, the mean of red minus blue."""
    lights, colours = [], []
    for pixels in pictures:
        scaled = pixels.astype(np.float32) / 255
        light = np.tensordot(LUMA, scaled, 1) if len(scaled) == 3 else scaled.mean(0)
        steps = [np.abs(np.diff(light, axis=axis)).mean() if light.shape[axis] > 1 else 0.0 for axis in (0, 1)]
        lights.append((light.mean(), light.std(), sum(steps) / 2))
        if len(scaled) == 3:
            colours.append(((scaled.max(0) - scaled.min(0)).mean(), (scaled[0] - scaled[2]).mean()))
    found: Traits = {}
    for names, rows in ((("brightness", "contrast", "sharpness"), lights), (("saturation", "warmth"), colours)):
        found |= {name: numbers(column) for name, column in zip(names, zip(*rows, strict=True), strict=False)}
    return found
