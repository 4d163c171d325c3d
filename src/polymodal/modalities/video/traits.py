"""What moves in a clip."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from polymodal.core.traits import Traits, numbers


def moved(clips: Sequence[UInt8[np.ndarray, "_T C H W"]]) -> Traits:
    """`frames`, those that are read, and `motion`, the mean step of a pixel from frame to frame, of the full range."""
    steps = [np.abs(np.diff(clip.astype(np.float32), axis=0)).mean() / 255 if len(clip) > 1 else 0.0 for clip in clips]
    return {"frames": numbers(len(clip) for clip in clips), "motion": numbers(steps)}
