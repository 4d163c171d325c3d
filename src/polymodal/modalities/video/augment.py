"""Random changes of a clip in time that keep its meaning. All off by default and drawn from the generator given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from polymodal.core.seeds import Rng
from polymodal.modalities.video.clip import Frames

ROOM = 3  # frames that are decoded for each that is used, so that there is a choice


@dataclass(frozen=True)
class Vary:
    """Which of the decoded frames are used."""

    jitter: bool = False  # any frame of each equal stretch, not its middle one (Wang et al. 2016)
    trim: float = 0.0  # up to this share of the clip's time is left out, before and after
    reverse: float = 0.0  # chance of playing backwards

    @property
    def any(self) -> bool:
        return bool(self.jitter or self.trim or self.reverse)

    @property
    def room(self) -> int:
        return ROOM if self.jitter or self.trim else 1

    def __call__(self, decoded: int, most: int, rng: Rng | None) -> Frames:
        """At most `most` of the numbers 0 to `decoded` - 1; without `rng` those in the middle of equal stretches."""
        if rng is None:
            return _spread(0.0, float(decoded), min(most, decoded))
        left = decoded * (1.0 - rng.uniform(0.0, self.trim))
        start = rng.uniform(0.0, decoded - left)
        count = min(most, max(1, round(left)))
        chosen = _spread(start, left, count, rng.random(count) if self.jitter else 0.5)
        chosen = np.minimum(chosen, decoded - 1)
        return chosen[::-1] if rng.random() < self.reverse else chosen


def _spread(start: float, length: float, count: int, within: np.ndarray | float = 0.5) -> Frames:
    return np.floor(start + length * (np.arange(count) + within) / count).astype(np.int64)
