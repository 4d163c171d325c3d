"""Predictions and measures of classification: one class of several, or any of several."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from polymodal.core.contracts import Prediction, Records
from polymodal.core.schema import Json
from polymodal.tasks import metrics, ranking
from polymodal.tasks.targets import identity

UNLIKELY = 1e-15  # no probability is taken for smaller when its logarithm is measured
CONFUSION = 100  # classes; a larger table of confusions is not drawn


class OneOf:
    """Each row has one class. Records: `probabilities` [n C], `label` (-1 unseen), `error` = -log p(label).

    Measures: `accuracy`; `balanced_accuracy` and `macro_f1`, means over the classes (all that were not seen in training
    are one class more, never right); `auroc` and `average_precision`, means over the classes against the rest (NaN
    without two classes among the rows); `calibration_error` of the confidence in 15 bins; `log_loss`, natural, with
    probabilities not below 1e-15, which is also that of an unseen class.
    """

    metric = "accuracy"

    def __init__(self, classes: list[Json]) -> None:
        self.classes = classes

    def predict(self, logits: Float[Tensor, "B C"]) -> list[Prediction]:
        sure, best = logits.double().softmax(1).max(1)
        return [Prediction(self.classes[c], confidence=p) for p, c in zip(sure.tolist(), best.tolist(), strict=True)]

    def score(self, logits: Float[Tensor, "n C"], target: dict[str, Tensor]) -> Records:
        label, log_p = target["class"], logits.double().log_softmax(1)
        own = log_p.gather(1, label.clamp(min=0)[:, None])[:, 0].where(label >= 0, -np.inf)
        error = -own.clamp(min=np.log(UNLIKELY))
        return to_numpy(probabilities=logits.double().softmax(1), label=label, error=error)

    def measure(self, records: Records, weights: metrics.Weights) -> dict[str, metrics.PerWeighting]:
        p, label, classes = records["probabilities"], records["label"], len(self.classes)
        guess = p.argmax(1)
        right, have, given = metrics.hits(label, guess, classes, weights)
        auroc, precision = ranking.macro_areas(p, label[:, None] == np.arange(classes), weights)
        gaps = metrics.calibration_gaps(p.max(1)[:, None], (guess == label)[:, None])
        return {
            "accuracy": metrics.mean(guess == label, weights),
            "balanced_accuracy": metrics.recall(right, have),
            "macro_f1": metrics.mean_defined(metrics.f1(right, have, given)),
            "auroc": auroc,
            "average_precision": precision,
            "calibration_error": metrics.calibration_error(gaps, 1, weights),
            "log_loss": metrics.mean(records["error"], weights),
        }

    def align(self, records: Records, own: list[Json], target: dict[str, np.ndarray]) -> Records:
        moved = {n: spread(c, own, self.classes) if n == "probabilities" else c for n, c in records.items()}
        return moved | {"label": target["class"]}

    def charts(self, records: Records) -> list[Json]:
        """Who is taken for whom (rows are the truth; not beyond 100 classes), and how sure against how often right."""
        p, label = records["probabilities"], records["label"]
        guess, seen = p.argmax(1), label >= 0
        drawn = [{"kind": "reliability", "bins": reliability(p.max(1), guess == label)}]
        if len(self.classes) > CONFUSION:
            return drawn
        counts = np.zeros((len(self.classes), len(self.classes)), np.int64)
        np.add.at(counts, (label[seen], guess[seen]), 1)
        table = {"kind": "confusion", "classes": self.classes, "counts": counts.tolist(), "unseen": int((~seen).sum())}
        return [table, *drawn]


class AnyOf:
    """Each row has any number of classes; a class is predicted when its probability is above 0.5.

    The confidence of a prediction is the probability of exactly this set, the classes taken as independent.
    Records: `probabilities` [n C], `truth` [n C], `unseen`, the number of the row's classes that no training row had,
    `error`, the mean over classes of -log p(truth).

    Measures: `subset_accuracy`, all classes of the row right; `macro_f1`, mean over the classes that a row has or is
    given (the unseen ones are one class more, never right); `micro_f1`, over all decisions; `auroc` and
    `average_precision`, means over the classes where defined; `calibration_error` of all decisions' probabilities in
    15 bins; `log_loss`, binary, natural, mean over rows and classes, probabilities not below 1e-15.
    """

    metric = "average_precision"

    def __init__(self, classes: list[Json]) -> None:
        self.classes = classes

    def predict(self, logits: Float[Tensor, "B C"]) -> list[Prediction]:
        p = logits.double().sigmoid()
        sure = torch.maximum(p, 1 - p).log().sum(1).exp()
        chosen = [[c for c, yes in zip(self.classes, row, strict=True) if yes] for row in (p > 0.5).tolist()]
        return [Prediction(value, confidence=c) for value, c in zip(chosen, sure.tolist(), strict=True)]

    def score(self, logits: Float[Tensor, "n C"], target: dict[str, Tensor]) -> Records:
        x, truth = logits.double(), target["classes"] > 0.5
        error = -F.logsigmoid(x.where(truth, -x)).clamp(min=np.log(UNLIKELY)).mean(1)
        return to_numpy(probabilities=x.sigmoid(), truth=truth, unseen=target["unseen"], error=error)

    def measure(self, records: Records, weights: metrics.Weights) -> dict[str, metrics.PerWeighting]:
        p, unseen = records["probabilities"], records["unseen"]
        truth = np.c_[records["truth"], unseen > 0]
        guess = np.c_[p > 0.5, np.zeros(len(p), bool)]
        right, have, given = (weights @ x.astype(np.float64) for x in (truth & guess, truth, guess))
        missed = weights @ np.maximum(unseen - 1.0, 0.0)  # several unseen classes of one row
        auroc, precision = ranking.macro_areas(p, records["truth"], weights)
        gaps = metrics.calibration_gaps(p, records["truth"])
        return {
            "subset_accuracy": metrics.mean((truth == guess).all(1), weights),
            "macro_f1": metrics.mean_defined(metrics.f1(right, have, given)),
            "micro_f1": metrics.f1(right.sum(1), have.sum(1) + missed, given.sum(1)),
            "auroc": auroc,
            "average_precision": precision,
            "calibration_error": metrics.calibration_error(gaps, len(self.classes), weights),
            "log_loss": metrics.mean(records["error"], weights),
        }

    def align(self, records: Records, own: list[Json], target: dict[str, np.ndarray]) -> Records:
        p, truth = spread(records["probabilities"], own, self.classes), target["classes"] > 0.5
        error = -np.log(np.where(truth, p, 1 - p).clip(min=UNLIKELY)).mean(1)
        return records | {"probabilities": p, "truth": truth, "unseen": target["unseen"], "error": error}

    def charts(self, records: Records) -> list[Json]:
        """F1 of each class (none where no row has or is given it), and how sure against how often right."""
        p, truth = records["probabilities"], records["truth"]
        guess = p > 0.5
        values = metrics.f1((truth & guess).sum(0), truth.sum(0), guess.sum(0)).tolist()
        bars = {"kind": "bars", "measure": "f1", "classes": self.classes, "counts": truth.sum(0).tolist()}
        bars["values"] = [None if v != v else v for v in values]
        return [bars, {"kind": "reliability", "bins": reliability(p.ravel(), truth.ravel())}]


def spread(columns: Float[np.ndarray, "n own"], own: list[Json], classes: list[Json]) -> Float[np.ndarray, "n C"]:
    """A column for each of `classes` from those of `own`, by the class; 0 for a class that `own` lacks."""
    places = {identity(c): i for i, c in enumerate(classes)}
    found = np.zeros((len(columns), len(classes)), columns.dtype)
    found[:, [places[identity(c)] for c in own]] = columns
    return found


def reliability(sure: np.ndarray, right: np.ndarray) -> list[Json]:
    """Per bin of confidence that is not empty: its mean, how often it was right, and the number of decisions."""
    place = metrics.bins(sure)
    sums = [np.bincount(place, w, metrics.BINS) for w in (np.ones(len(sure)), sure, right.astype(np.float64))]
    return [{"confidence": s / n, "accuracy": r / n, "count": int(n)} for n, s, r in np.stack(sums, 1).tolist() if n]


def to_numpy(**columns: Tensor) -> Records:
    return {name: column.detach().cpu().numpy() for name, column in columns.items()}
