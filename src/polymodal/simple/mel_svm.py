"""Statistics of a sound's spectrogram under a support vector machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated

import numpy as np
from annotated_types import MinLen

from polymodal.core.catalog import need
from polymodal.core.contracts import Answers, Block, Goal
from polymodal.core.schema import Positive, Rate, Wired
from polymodal.simple import estimate
from polymodal.simple.linear import Standard
from polymodal.simple.machine import Machine


class MelSVM:
    """Statistics over time of the log-mel bands, under a support vector machine; see `machine.Machine`.

    Mean, deviation, smallest and largest value of every band, as the input's own reader makes it, over the whole sound,
    and mean and deviation in each of `segments` equal pieces of it; the same of the bands' differences from frame to
    frame. Columns are standardised; a missing sound is an average one. Of several `strengths` (C of the machine) the
    one is taken that does best in cross-validation in `folds` on the training rows.
    """

    def __init__(
        self,
        *,
        seed: Wired[int],
        types: Wired[dict[str, str]],
        segments: Positive = 4,
        strengths: Annotated[tuple[Rate, ...], MinLen(1)] = (10.0,),
        folds: Positive = 5,
    ) -> None:
        need("sklearn", "baseline mel_svm")
        self.seed, self.segments, self.strengths, self.folds = seed, segments, strengths, folds
        self.names = [name for name, kind in types.items() if kind == "audio"]

    @staticmethod
    def takes(types: Sequence[str]) -> bool:
        return "audio" in types

    def features(self, block: Block) -> np.ndarray:
        found = []
        for name in self.names:
            given = block.inputs[name]
            mel, there = given.data["mel"], given.data["mel_mask"]
            each = np.stack([statistics(one[known], self.segments) for one, known in zip(mel, there, strict=True)])
            found.append(np.where(given.index[..., None] >= 0, each[given.index], np.nan).reshape(block.rows, -1))
        return np.concatenate(found, axis=1)

    def fit(self, features: np.ndarray, goal: Goal) -> Callable[[np.ndarray], Answers]:
        scale = Standard(features)
        candidates = [partial(Machine, strength=strength, seed=self.seed) for strength in self.strengths]
        answer = estimate.best(candidates, scale(features), goal, self.folds, self.seed)
        return lambda given: answer(scale(given))


def statistics(mel: np.ndarray, segments: int) -> np.ndarray:
    """[T, M] -> [(2 * 4 + 2 * 2 * segments) M]."""
    steps = np.diff(mel, axis=0) if len(mel) > 1 else np.zeros_like(mel)
    found = []
    for x in (mel, steps):
        found += [x.mean(0), x.std(0), x.min(0), x.max(0)]
        ends = np.linspace(0, len(x), segments + 1)
        for first, last in zip(np.floor(ends[:-1]).astype(int), np.ceil(ends[1:]).astype(int), strict=True):
            found += [x[first:last].mean(0), x[first:last].std(0)]
    return np.concatenate(found)
