"""What a classifier's records say of its confidence: fitting a temperature, sets of classes, answering or not."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from polymodal.core.contracts import Records
from polymodal.core.schema import Json
from polymodal.core.streams import Answer
from polymodal.tasks import metrics
from polymodal.tasks.metrics import PerWeighting, Weights
from polymodal.tasks.temperature import Choice, choose, heated, log, odds_against

UNLIKELY = 1e-15  # as in `classes`


class Confident(nn.Module):
    """The part of a classifier that knows how far it is to be believed.

    The buffer `temperature` divides the logits in predictions and records, never in the loss; it stays 1 until
    `calibrate`. Sets of classes are read from the probabilities as they were without it, so that nothing but the
    limit is fitted on the rows that give the limit. Weights saved before there was a temperature load with 1.
    """

    bounds, extent = ("set",), "set_size"

    def __init__(self, classes: list[Json], multi: bool) -> None:
        super().__init__()
        self.classes = classes
        self.sure: OneSure | AnySure = AnySure() if multi else OneSure()
        self.temperature: Tensor
        self.register_buffer("temperature", torch.ones(()))
        self.register_load_state_dict_pre_hook(_with_temperature)

    def cooled(self, logits: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
        return logits.double() / self.temperature.double()

    def calibrated(self) -> dict[str, Json]:
        return {"temperature": float(self.temperature)}

    def calibrate(self, records: Records) -> Records:
        """Fit the temperature on rows that trained nothing; the records as they are scored from now on."""
        plain = self.uncalibrated(records)
        self.temperature.fill_(self.sure.choose(plain).used)
        return self.sure.heat(plain, float(self.temperature))

    def uncalibrated(self, records: Records) -> Records:
        """The records as they would be at temperature 1."""
        temperature = float(self.temperature)
        return records if temperature == 1 else self.sure.heat(records, 1 / temperature)

    def calibration(self, records: Records, weights: Weights) -> dict[str, PerWeighting]:
        """The measures that a temperature moves: calibration error and log loss."""
        return self.sure.calibration(records, weights)

    def certainty(self, records: Records) -> tuple[Float[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
        """The confidence of each row's answer, and whether it is right."""
        return self.sure.certainty(records)

    def strangeness(self, records: Records) -> Float[np.ndarray, " n"]:
        """The log odds against the truth, rising as -log p (Sadinle et al. 2019) does; infinite for an unseen class."""
        return self.sure.strangeness(self.uncalibrated(records))

    def region(self, answer: Answer, limit: Float[np.ndarray, " B"]) -> list[dict[str, Json]]:
        """The classes of each row whose log odds against them are at most its limit."""
        logits = answer["logits"].detach().double()
        p = (logits.sigmoid() if isinstance(self.sure, AnySure) else logits.softmax(1)).cpu().numpy()
        held = self.sure.odds(p) <= limit[:, None]
        return [{"set": [c for c, yes in zip(self.classes, row, strict=True) if yes]} for row in held.tolist()]

    def extents(self, records: Records, limit: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """How many classes the sets hold."""
        held = self.sure.odds(self.uncalibrated(records)["probabilities"]) <= limit[:, None]
        return held.sum(1).astype(np.float64)


def _with_temperature(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    state.setdefault(f"{prefix}temperature", torch.ones(()))


class OneSure:
    """Records of `classes.OneOf`: one class per row."""

    def choose(self, records: Records) -> Choice:
        return choose(log(records["probabilities"])[:, None], records["label"][:, None], self._gaps)

    def _gaps(self, p: Float[np.ndarray, "n 1 C"], label: Int[np.ndarray, "n 1"]) -> Float[np.ndarray, "n bins"]:
        return metrics.calibration_gaps(p.max(2), p.argmax(2) == label)

    def heat(self, records: Records, temperature: float) -> Records:
        """The records with every row's probabilities at this temperature."""
        p, label = heated(log(records["probabilities"]), temperature), records["label"]
        own = np.take_along_axis(p, np.maximum(label, 0)[:, None], 1)[:, 0]
        return records | {"probabilities": p, "error": -np.log(np.where(label >= 0, own, 0.0).clip(min=UNLIKELY))}

    def calibration(self, records: Records, weights: Weights) -> dict[str, PerWeighting]:
        p, label = records["probabilities"], records["label"]
        gaps = self._gaps(p[:, None], label[:, None])
        return _calibration(gaps, 1, records, weights)

    def odds(self, p: Float[np.ndarray, "n C"]) -> Float[np.ndarray, "n C"]:
        """How strange each class is for a row: the log odds against it."""
        return odds_against(p)

    def strangeness(self, records: Records) -> Float[np.ndarray, " n"]:
        """Of each row's class; infinite for one that no training row had."""
        label = records["label"]
        own = np.take_along_axis(self.odds(records["probabilities"]), np.maximum(label, 0)[:, None], 1)[:, 0]
        return np.where(label >= 0, own, np.inf)

    def certainty(self, records: Records) -> tuple[Float[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
        p = records["probabilities"]
        return p.max(1), p.argmax(1) == records["label"]


class AnySure:
    """Records of `classes.AnyOf`: any number of classes per row, each a decision of its own."""

    def choose(self, records: Records) -> Choice:
        p = records["probabilities"]
        return choose(log(np.stack([1 - p, p], 2)), records["truth"].astype(np.int64), self._gaps)

    def _gaps(self, p: Float[np.ndarray, "n C 2"], label: Int[np.ndarray, "n C"]) -> Float[np.ndarray, "n bins"]:
        return metrics.calibration_gaps(p[..., 1], label == 1)

    def heat(self, records: Records, temperature: float) -> Records:
        p, truth = records["probabilities"], records["truth"]
        both = heated(log(np.stack([1 - p, p], 2)), temperature)
        own = np.where(truth, both[..., 1], both[..., 0])
        return records | {"probabilities": both[..., 1], "error": -np.log(own.clip(min=UNLIKELY)).mean(1)}

    def calibration(self, records: Records, weights: Weights) -> dict[str, PerWeighting]:
        p, truth = records["probabilities"], records["truth"]
        return _calibration(metrics.calibration_gaps(p, truth), p.shape[1], records, weights)

    def odds(self, p: Float[np.ndarray, "n C"]) -> Float[np.ndarray, "n C"]:
        return log(1 - p) - log(p)

    def strangeness(self, records: Records) -> Float[np.ndarray, " n"]:
        """Of the strangest of each row's classes, all of which a set must hold; minus infinite for a row of none."""
        own = np.where(records["truth"], self.odds(records["probabilities"]), -np.inf).max(1)
        return np.where(records["unseen"] > 0, np.inf, own)

    def certainty(self, records: Records) -> tuple[Float[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
        p = records["probabilities"]
        right = (records["truth"] == (p > 0.5)).all(1) & (records["unseen"] == 0)
        return np.exp(log(np.maximum(p, 1 - p)).sum(1)), right


def _calibration(
    gaps: Float[np.ndarray, "n bins"], decisions: int, records: Records, weights: Weights
) -> dict[str, PerWeighting]:
    return {
        "calibration_error": metrics.calibration_error(gaps, decisions, weights),
        "log_loss": metrics.mean(records["error"], weights),
    }
