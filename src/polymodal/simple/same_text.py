"""What was right for the same text before: how far a question takes one who sees nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from polymodal.core.clean import clean
from polymodal.core.contracts import Answers, Block, Goal
from polymodal.core.schema import Rate, Wired
from polymodal.core.seeds import derive
from polymodal.simple import estimate


class SameText:
    """The answer that training rows with the very same text have: of a question without its picture, the best guess.

    Texts are compared in lower case with single spaces, all texts of a row at once. The shares of the classes (of a set
    of classes each class's, of a number the mean) among the n rows of one text are drawn towards those of all rows, as
    if `prior` rows more had been typical: `(n p + prior · p_all) / (n + prior)`. A text that no training row has gets
    those of all rows. Known as the per-question prior of VQA (Goyal et al., "Making the V in VQA Matter", CVPR 2017).
    """

    def __init__(self, *, types: Wired[dict[str, str]], prior: Rate = 0.5) -> None:
        self.names, self.prior = [name for name, kind in types.items() if kind == "text"], prior

    @staticmethod
    def takes(types: Sequence[str]) -> bool:
        return "text" in types

    def features(self, block: Block) -> np.ndarray:
        texts = [[str(c) for name in self.names for c in block.inputs[name].cells[row] if c is not None]
                 for row in range(block.rows)]  # fmt: skip
        return np.array([derive(*(clean(t, "basic").lower() for t in row)) % 2**62 for row in texts], np.int64)

    def fit(self, features: np.ndarray, goal: Goal) -> Callable[[np.ndarray], Answers]:
        known, place = np.unique(features, return_inverse=True)
        y = np.eye(goal.classes)[goal.y] if goal.kind == "class" else goal.y.astype(np.float64).reshape(len(goal.y), -1)
        count = np.bincount(place, minlength=len(known))[:, None]
        sums = np.zeros((len(known), y.shape[1]))
        np.add.at(sums, place, y)
        overall = y.mean(0)
        table = np.concatenate([(sums + self.prior * overall) / (count + self.prior), overall[None]])

        def answer(texts: np.ndarray) -> Answers:
            at = np.searchsorted(known, texts).clip(max=len(known) - 1)
            found = table[np.where(known[at] == texts, at, len(known))]
            if goal.kind == "value":
                return {"value": found[:, 0]}
            logs = estimate.logarithms(found)
            return {"logits": logs if goal.kind == "class" else logs - estimate.logarithms(1.0 - found)}

        return answer
