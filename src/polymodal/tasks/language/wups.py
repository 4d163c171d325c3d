"""WUPS: accuracy of answers that forgives near misses, by how near nouns are in WordNet.

Source: Malinowski & Fritz, "A Multi-World Approach to Question Answering about Real-World Scenes based on Uncertain
Input", NeurIPS 2014.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from polymodal.core.contracts import Records
from polymodal.tasks.language.words import spoken
from polymodal.tasks.metrics import PerWeighting, Weights, mean

THRESHOLDS = {"wups_09": 0.9, "wups_00": 0.0}
BELOW = 0.1  # what a similarity below the threshold is multiplied by

Similarity = Callable[[str, str], float]


def items(answer: str) -> list[str]:
    """The set that an answer names: what stands between commas, lower case, without punctuation."""
    return list(dict.fromkeys(item for part in answer.split(",") if (item := " ".join(spoken(part)))))


def wups(ours: Sequence[str], theirs: Sequence[str], similarity: Similarity, threshold: float) -> float:
    """`min(Π_a max_t s(a, t), Π_t max_a s(a, t))` over two sets; s below `threshold` counts a tenth.

    1 for two empty sets, 0 where one is empty.
    """
    if not ours or not theirs:
        return float(not ours and not theirs)
    near = np.array([[similarity(a, t) for t in theirs] for a in ours])
    near = np.where(near < threshold, BELOW * near, near)
    return min(math.prod(near.max(1).tolist()), math.prod(near.max(0).tolist()))


def records(said: Sequence[str], answers: Sequence[Iterable[str]], similarity: Similarity) -> Records:
    """Per row `wups_09` and `wups_00` [n]: towards the nearest of the row's answers; 0 where it has none.

    `similarity` of two words is in 0 ... 1: `wordnet.wordnet().similarity`, or of a folder.
    """
    found = {name: np.zeros(len(said)) for name in THRESHOLDS}
    for row, (ours, theirs) in enumerate(zip(said, answers, strict=True)):
        one, others = items(ours), [items(answer) for answer in theirs]
        for name, threshold in THRESHOLDS.items():
            found[name][row] = max((wups(one, other, similarity, threshold) for other in others), default=0.0)
    return found


def measure(records: Records, weights: Weights) -> dict[str, PerWeighting]:
    """`wups_09` and `wups_00`: the weighted means of the rows."""
    return {name: mean(records[name], weights) for name in THRESHOLDS}
