"""The task of naming a number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from polymodal.core.contracts import Gather, Prediction, Records
from polymodal.core.schema import Chance, Json, Natural, Wired
from polymodal.core.streams import Answer, Cells, Row, Stream, Streams, Target, pool
from polymodal.tasks import metrics
from polymodal.tasks.head import HeadNorm, head

LOSSES: dict[str, Callable[..., Tensor]] = {"mse": F.mse_loss, "mae": F.l1_loss, "huber": F.huber_loss}
LARGEST = 700.0  # its exponential is still a double
POINTS = 2000  # in a chart


class Regress(nn.Module):
    """Regression from the fused vector, trained on the standardised target (mean 0, standard deviation 1).

    Fused stream [B T D], pooled over T -> `value` [B]. Predictions are in the table's own units. With `log` the natural
    logarithm of the target is learned, and the prediction is its exponential (a median rather than a mean).

    Measures: `rmse`, `mae`, `r2` (NaN where all targets are equal) of the target as it is trained: in its own units, or
    of the logarithm with `log`; then also `rmse_original`, `mae_original` in its own units and `mape`, the mean of
    |t - p| / t. Records: `truth`, `predicted` in the table's units, `error`, the absolute error of what is trained.

    Settings: `log`; `hidden`, units of a hidden layer, 0 for a linear head; `dropout` before the last layer;
    `norm: layer` of the fused vector; `loss`: `mse`, `mae` or `huber` (quadratic within one standard deviation; Huber,
    "Robust Estimation of a Location Parameter", 1964).
    """

    reads = frozenset({"fused"})
    says: tuple[str, ...] = ()
    bounds, extent = ("low", "high"), "interval_width"
    metric = "rmse"
    maximize = False
    joins, size = "value", 1

    def __init__(
        self,
        *,
        field: Wired[dict],
        width: Wired[int],
        inputs: Wired[tuple[str, ...]],
        log: bool = False,
        hidden: Natural = 0,
        dropout: Chance = 0.0,
        norm: HeadNorm = "none",
        loss: Literal["mse", "mae", "huber"] = "mse",
    ) -> None:
        super().__init__()
        self.log: bool = field["log"]  # what the target was fitted with; `log` reaches it through `target`
        self.mean, self.std = field["mean"], field["std"]
        self.penalty = LOSSES[loss]
        self.head = head(width, 1, hidden, dropout, norm)

    @staticmethod
    def target(settings: Json, files: Path) -> tuple[str, Json]:
        return "number", {"log": settings.get("log", False)}

    def prepare(
        self, inputs: dict[str, Cells], target: Target | None, key: Tensor
    ) -> tuple[dict[str, Cells], Target | None]:
        return inputs, target

    def forward(self, streams: Streams, fused: Stream, target: Target | None) -> Answer:
        return {"value": self.head(pool(fused.tokens, fused.mask))[:, 0]}

    def loss(self, answer: Answer, target: Target, gather: Gather | None) -> Float[Tensor, " B"]:
        return self.penalty(answer["value"].float(), target.data["value"], reduction="none")

    def weight(self, target: Target) -> Float[Tensor, " B"]:
        return target.present.to(target.data["value"].dtype)

    def respond(self, streams: Streams, fused: Stream, **options: Json) -> Answer:
        return self(streams, fused, None)

    def predict(self, answer: Answer, rows: Sequence[Row]) -> list[Prediction]:
        return [Prediction(value) for value in self.original(answer["value"]).tolist()]

    def score(self, answer: Answer, target: Target) -> Records:
        there = target.present
        value, truth = answer["value"].detach()[there], target.data["value"][there]
        error = (value.double() - truth.double()).abs().cpu().numpy() * self.std
        return {"truth": self.original(truth), "predicted": self.original(value), "error": error}

    def original(self, value: Float[Tensor, " n"]) -> Float[np.ndarray, " n"]:
        """Standardised numbers in the table's units."""
        plain = value.double().cpu().numpy() * self.std + self.mean
        return np.exp(np.clip(plain, -LARGEST, LARGEST)) if self.log else plain

    def measure(self, records: Records, weights: Float[np.ndarray, "W n"]) -> dict[str, Float[np.ndarray, " W"]]:
        truth, guess = records["truth"], records["predicted"]
        if not self.log:
            return errors(truth, guess, weights)
        original = errors(truth, guess, weights)
        return {
            **errors(np.log(truth), np.log(guess), weights),
            "rmse_original": original["rmse"],
            "mae_original": original["mae"],
            "mape": metrics.mean(np.abs(truth - guess) / truth, weights),
        }

    def strangeness(self, records: Records) -> Float[np.ndarray, " n"]:
        """The absolute error of what is trained."""
        return records["error"]

    def region(self, answer: Answer, limit: Float[np.ndarray, " B"]) -> list[dict[str, Json]]:
        """The numbers within `limit` of the prediction, as it is trained, in the table's units; None: without end."""
        ends = self._around(answer["value"].detach().double().cpu().numpy() * self.std + self.mean, limit)
        known = [[v if np.isfinite(v) else None for v in end.tolist()] for end in ends]
        return [{"low": low, "high": high} for low, high in zip(*known, strict=True)]

    def extents(self, records: Records, limit: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """How wide the intervals are in the table's units."""
        predicted = records["predicted"]
        low, high = self._around(np.log(predicted) if self.log else predicted, limit)
        return high - low

    def _around(
        self, centre: Float[np.ndarray, " n"], limit: Float[np.ndarray, " n"]
    ) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Both ends in the table's units; infinite where nothing bounds them."""
        low, high = (np.exp(np.clip(end, -LARGEST, LARGEST)) if self.log else end
                     for end in (centre - limit, centre + limit))  # fmt: skip
        return np.where(np.isfinite(limit), low, -np.inf), np.where(np.isfinite(limit), high, np.inf)

    def charts(self, records: Records) -> list[Json]:
        """Truth against prediction in the table's units, at most 2,000 rows, evenly spaced in order."""
        rows = len(records["truth"])
        kept = np.arange(rows) if rows <= POINTS else np.linspace(0, rows - 1, POINTS).round().astype(np.int64)
        truth, predicted = (records[name][kept].tolist() for name in ("truth", "predicted"))
        return [{"kind": "scatter", "truth": truth, "predicted": predicted, "log": self.log}]

    def scores(self, answer: Answer) -> Float[Tensor, "B 1"]:
        """The standardised number."""
        return answer["value"].float()[:, None]

    def joined(self, scores: Float[Tensor, "B 1"]) -> Answer:
        return {"value": scores[:, 0]}

    def prior(self) -> Float[Tensor, " 1"]:
        """Zero: the mean of the training rows."""
        return torch.zeros(1)

    def credit(self, answer: Answer, target: Target) -> Float[Tensor, " B"]:
        """`1 / (1 + e²)`, with e the error in standard deviations."""
        return 1 / (1 + (answer["value"].float() - target.data["value"]).square())


def errors(
    truth: Float[np.ndarray, " n"], guess: Float[np.ndarray, " n"], weights: Float[np.ndarray, "W n"]
) -> dict[str, Float[np.ndarray, " W"]]:
    """Root of the mean squared error, mean absolute error, coefficient of determination."""
    return {
        "rmse": np.sqrt(metrics.mean((truth - guess) ** 2, weights)),
        "mae": metrics.mean(np.abs(truth - guess), weights),
        "r2": metrics.r2(truth, guess, weights),
    }
