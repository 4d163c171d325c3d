"""Words and pieces of words, counted and weighed, under a linear model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import numpy as np
from annotated_types import MinLen

from polymodal.core.catalog import need
from polymodal.core.contracts import Answers, Block, Goal
from polymodal.core.schema import Positive, Rate, Wired
from polymodal.simple import estimate


class Tfidf:
    """TF-IDF of words and of pieces of words, under logistic regression, or ridge regression for a number.

    Runs of up to `words` words, and of `chars` letters within words, which also serve languages that put no spaces
    between words; a run counts 1 + ln n, times its inverse document frequency, each row of either kind at length 1
    (Salton and Buckley 1988). Of several classes each is told from the rest. All texts of a row are read as one, as
    they stand in the table, whatever an encoder makes of them. Of the `strengths` (C of the logistic regression,
    1 / alpha of the ridge) the one is taken that does best in cross-validation in `folds` on the training rows.
    """

    def __init__(
        self,
        *,
        seed: Wired[int],
        types: Wired[dict[str, str]],
        words: Positive = 2,
        chars: tuple[Positive, Positive] = (2, 5),
        strengths: Annotated[tuple[Rate, ...], MinLen(1)] = (1.0, 3.0, 10.0),
        folds: Positive = 5,
    ) -> None:
        need("sklearn", "baseline tfidf")
        self.seed, self.folds, self.strengths = seed, folds, strengths
        self.names = [name for name, kind in types.items() if kind == "text"]
        self.words, self.chars = words, chars

    @staticmethod
    def takes(types: Sequence[str]) -> bool:
        return "text" in types

    def features(self, block: Block) -> np.ndarray:
        texts = np.full(block.rows, "", dtype=object)
        for name in self.names:
            for row, cells in enumerate(block.inputs[name].cells):
                texts[row] = "\n".join([*filter(None, [texts[row]]), *(str(c) for c in cells if c is not None)])
        return texts

    def fit(self, features: np.ndarray, goal: Goal) -> Callable[[np.ndarray], Answers]:
        from scipy.sparse import hstack
        from sklearn.feature_extraction.text import TfidfVectorizer

        vectorizers = [
            TfidfVectorizer(ngram_range=(1, self.words), token_pattern=r"(?u)\b\w+\b", sublinear_tf=True),
            TfidfVectorizer(analyzer="char_wb", ngram_range=tuple(self.chars), sublinear_tf=True),
        ]
        used = [v.fit(features) for v in vectorizers if any(map(v.build_analyzer(), features))]
        if not used:
            return estimate.constant(goal)

        def weigh(texts: np.ndarray) -> Any:
            return hstack([v.transform(texts) for v in used]).tocsr()

        candidates = [sparse_linear(strength, self.seed) for strength in self.strengths]
        answer = estimate.best(candidates, weigh(features), goal, self.folds, self.seed)
        return lambda texts: answer(weigh(texts))


def sparse_linear(strength: float, seed: int) -> estimate.Make:
    """A maker of scikit-learn's estimator for far more columns than rows."""
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.multiclass import OneVsRestClassifier

    def make(classifier: bool) -> Any:
        if not classifier:
            return Ridge(alpha=1.0 / strength, solver="sparse_cg")
        one = LogisticRegression(C=strength, solver="liblinear", dual=True, max_iter=1000,
                                 random_state=estimate.state(seed, "tfidf"))  # fmt: skip
        return OneVsRestClassifier(one)

    return make
