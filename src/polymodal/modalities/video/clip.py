"""A clip before its frames are decoded: when each begins, and how to get at some of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

Frames = Int64[np.ndarray, " n"]  # numbers of frames, from 0
Edges = Float64[np.ndarray, " edges"]  # when every frame begins, rising, and when the last one ends


@dataclass(frozen=True)
class Clip:
    """What is known of a clip, and its frames on demand, each as a picture that the reader of pictures takes."""

    edges: Edges  # in seconds when `clock`, else counted in frames
    clock: bool
    take: Callable[[Frames], Iterator[Any]]  # of distinct frames in rising order; raises BadCell

    def __len__(self) -> int:
        return len(self.edges) - 1


def counted(frames: int) -> Edges:
    """The edges of frames that have no times: each takes as long as the others."""
    return np.arange(frames + 1, dtype=np.float64)


def choose(clip: Clip, most: int, fps: float | None = None) -> Frames:
    """`most` frames in the middle of as many equal stretches of the clip's time; all frames when there are no more.

    With `fps`, and a clip that has a clock, the stretches last 1 / fps seconds: frames may repeat, and of a longer clip
    its middle is taken. After Wang et al., "Temporal segment networks", 2016.
    """
    start, end = clip.edges[0], clip.edges[-1]
    if fps is not None and clip.clock:
        count = min(most, max(1, round((end - start) * fps)))
        half = min(end - start, count / fps) / 2
        start, end = (start + end) / 2 - half, (start + end) / 2 + half
    elif len(clip) <= most:
        return np.arange(len(clip))
    else:
        count = most
    moments = start + (end - start) * (np.arange(count) + 0.5) / count
    return np.clip(np.searchsorted(clip.edges, moments, "right") - 1, 0, len(clip) - 1)


def nth(pictures: Iterable[Any], wanted: Frames) -> Iterator[Any]:
    """Those of some pictures, one after the other, that are wanted; those in between are passed over."""
    left = wanted.tolist()
    for at, picture in enumerate(pictures):
        if not left:
            return
        if at == left[0]:
            left.pop(0)
            yield picture
