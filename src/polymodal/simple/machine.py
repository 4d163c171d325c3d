"""A support vector machine with a Gaussian kernel, quick on some thousand rows, with probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np

from polymodal.simple import estimate

LARGE = 6000  # rows up to which the kernel is held in memory, which is many times as fast
FOLDS = 5


class Machine:
    """As an estimator of scikit-learn: SVC or SVR with C = `strength` and kernel exp(-|x - y|² / columns).

    Of several classes each pair has a border of its own; a class is as likely as its smallest distance from any of its
    borders says, over a temperature that makes the classes of rows most likely that the machine was not fitted on
    (Guo et al., "On Calibration of Modern Neural Networks", 2017).
    """

    def __init__(self, classifier: bool, *, strength: float, seed: int) -> None:
        self.strength, self.seed, self.classifier = strength, seed, classifier

    def fit(self, x: np.ndarray, y: np.ndarray) -> Machine:
        """`y`: numbers, or at least two different classes."""
        self.x, self.held = x, len(x) <= LARGE
        kernel = self._kernel(x)
        if self.classifier:
            self.classes_, y = np.unique(y, return_inverse=True)
            self.temperature = self._temperature(kernel, y)
        self.machine = self._bare().fit(kernel, y)
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Numbers."""
        return self.machine.predict(self._kernel(x))

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        """[n, C], in the order of `classes_`."""
        from scipy.special import softmax

        return softmax(smallest(self.machine, self._kernel(x)) / self.temperature, axis=1)

    def _kernel(self, x: np.ndarray) -> np.ndarray:
        """[n, rows fitted on], or, with too many of them, `x` itself."""
        if not self.held:
            return x
        squares = (x**2).sum(1)[:, None] + (self.x**2).sum(1) - 2.0 * x @ self.x.T
        return np.exp(-np.maximum(squares, 0.0) / x.shape[1])

    def _bare(self) -> Any:
        from sklearn.svm import SVC, SVR

        kernel = {"kernel": "precomputed"} if self.held else {"kernel": "rbf", "gamma": 1.0 / self.x.shape[1]}
        return SVC(C=self.strength, decision_function_shape="ovo", **kernel) if self.classifier else SVR(
            C=self.strength, **kernel)  # fmt: skip

    def _temperature(self, kernel: np.ndarray, y: np.ndarray) -> float:
        """Rows whose class no other fold has are left out; 1 where nothing is left."""
        from scipy.optimize import minimize_scalar
        from scipy.special import log_softmax

        fold = estimate.deal(y, FOLDS, self.seed)
        unseen = []
        for number in range(FOLDS):
            inside = np.flatnonzero(fold != number)
            known = np.unique(y[inside])
            outside = np.flatnonzero((fold == number) & np.isin(y, known))
            if len(known) > 1 and len(outside):
                columns = inside if self.held else slice(None)
                machine = self._bare().fit(kernel[inside][:, columns], y[inside])
                scores = smallest(machine, kernel[outside][:, columns])
                unseen.append((scores, np.searchsorted(known, y[outside])))
        if not unseen:
            return 1.0

        def surprise(exponent: float) -> float:
            likely = [log_softmax(s / np.exp(exponent), axis=1)[np.arange(len(s)), at] for s, at in unseen]
            return -float(np.concatenate(likely).mean())

        return float(np.exp(minimize_scalar(surprise, bounds=(-5.0, 5.0), method="bounded").x))


def smallest(machine: Any, kernel: np.ndarray) -> np.ndarray:
    """[n, C]: each class's smallest distance from the borders to the others, negative on the wrong side."""
    found, count = machine.decision_function(kernel), len(machine.classes_)
    if count == 2:
        return np.stack([-found, found], axis=1)
    least = np.full((len(found), count), np.inf)
    for pair, (one, two) in enumerate(zip(*np.triu_indices(count, 1), strict=True)):
        least[:, one] = np.minimum(least[:, one], found[:, pair])
        least[:, two] = np.minimum(least[:, two], -found[:, pair])
    return least
