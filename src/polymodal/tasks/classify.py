"""The task of naming a class, or all the classes, of a row."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor

from polymodal.core.contracts import Gather, Prediction, Records
from polymodal.core.errors import SpecError, suggest
from polymodal.core.schema import Chance, Json, Natural, Share, Wired
from polymodal.core.streams import Answer, Cells, Row, Stream, Streams, Target, pool
from polymodal.tasks import losses
from polymodal.tasks.classes import AnyOf, OneOf
from polymodal.tasks.confidence import Confident
from polymodal.tasks.head import HeadNorm, head
from polymodal.tasks.targets import Separator

Nonnegative = Annotated[float, Ge(0.0)]


class Classify(Confident):
    """Classification from the fused vector: one class per row (softmax), or with `multi` any number (sigmoids).

    Fused stream [B T D], pooled over T -> `logits` [B C]. Losses: `losses.one_of`, `losses.any_of`. Predictions are in
    the table's own type with the probability as confidence, at the temperature that `calibrate` fits. A class that no
    training row had is never trained on and counts as wrong. Measures: see `classes.OneOf` and `classes.AnyOf`.

    Settings: `multi`; `separator` between the classes of a text cell (multi); `hidden`, units of a hidden layer, 0 for
    a linear head; `dropout` before the last layer; `norm: layer` of the fused vector; `label_smoothing`, ε; `focal`, γ
    of the focal loss; `class_weights`, by class name (1 where not named), or `balanced`: rows / (classes · rows of the
    class). With `multi` they weigh the rows that have the class against those that have not; `balanced` is the ratio of
    the latter to the former.
    """

    reads = frozenset({"fused"})
    says = ("confidence",)
    maximize = True

    def __init__(
        self,
        *,
        field: Wired[dict],
        width: Wired[int],
        inputs: Wired[tuple[str, ...]],
        multi: bool = False,
        separator: Separator = "|",
        hidden: Natural = 0,
        dropout: Chance = 0.0,
        norm: HeadNorm = "none",
        label_smoothing: Share = 0.0,
        focal: Nonnegative | None = None,
        class_weights: Literal["balanced"] | dict[str, Nonnegative] | None = None,
    ) -> None:
        super().__init__(field["classes"], multi)
        self.multi, self.smoothing, self.focal = multi, label_smoothing, focal
        self.kind: OneOf | AnyOf = AnyOf(field["classes"]) if multi else OneOf(field["classes"])
        self.metric = self.kind.metric
        self.joins, self.size = "classes" if multi else "class", len(field["classes"])
        self.head = head(width, len(field["classes"]), hidden, dropout, norm)
        self.class_weight: Tensor
        weights = torch.tensor(weights_of(field, class_weights, multi), dtype=torch.float32)
        self.register_buffer("class_weight", weights, persistent=False)
        self.frequency: Tensor
        self.register_buffer("frequency", torch.tensor(field["counts"]) / field["rows"], persistent=False)

    @staticmethod
    def target(settings: Json, files: Path) -> tuple[str, Json]:
        if settings.get("multi", False):
            return "labels", {"separator": settings["separator"]} if "separator" in settings else {}
        return "label", {}

    def prepare(
        self, inputs: dict[str, Cells], target: Target | None, key: Tensor
    ) -> tuple[dict[str, Cells], Target | None]:
        return inputs, target

    def forward(self, streams: Streams, fused: Stream, target: Target | None) -> Answer:
        return {"logits": self.head(pool(fused.tokens, fused.mask))}

    def loss(self, answer: Answer, target: Target, gather: Gather | None) -> Float[Tensor, " B"]:
        known = target.data["classes" if self.multi else "class"]
        loss = losses.any_of if self.multi else losses.one_of
        return loss(answer["logits"], known, self.class_weight, self.smoothing, self.focal)

    def weight(self, target: Target) -> Float[Tensor, " B"]:
        if self.multi:
            return target.present.to(self.class_weight.dtype)
        label = target.data["class"]
        return self.class_weight[label.clamp(min=0)] * (target.present & (label >= 0))

    def respond(self, streams: Streams, fused: Stream, **options: Json) -> Answer:
        return self(streams, fused, None)

    def predict(self, answer: Answer, rows: Sequence[Row]) -> list[Prediction]:
        return self.kind.predict(self.cooled(answer["logits"]))

    def score(self, answer: Answer, target: Target) -> Records:
        there = target.present
        return self.kind.score(self.cooled(answer["logits"])[there], {k: v[there] for k, v in target.data.items()})

    def measure(self, records: Records, weights: Float[np.ndarray, "W n"]) -> dict[str, Float[np.ndarray, " W"]]:
        return self.kind.measure(records, weights)

    def align(self, records: Records, field: dict[str, Json], target: dict[str, np.ndarray]) -> Records:
        """Records of a model that was fitted with `field`, in terms of this task's classes.

        `target` are this task's own samples of the same rows, stacked. A class that `field` lacks has probability 0, so
        a row of it stays wrong.
        """
        return self.kind.align(records, field["classes"], target)

    def charts(self, records: Records) -> list[Json]:
        return self.kind.charts(records)

    def scores(self, answer: Answer) -> Float[Tensor, "B C"]:
        """Log-probabilities; with `multi` log-odds."""
        logits = answer["logits"].float()
        return logits if self.multi else logits.log_softmax(1)

    def joined(self, scores: Float[Tensor, "B C"]) -> Answer:
        return {"logits": scores}

    def prior(self) -> Float[Tensor, " C"]:
        """The scores of how frequent each class is among the training rows."""
        return self.frequency.logit(eps=1e-6) if self.multi else self.frequency.log()

    def credit(self, answer: Answer, target: Target) -> Float[Tensor, " B"]:
        """The probability of the row's class; with `multi` of what is true of each class, on average over them."""
        if self.multi:
            p, truth = answer["logits"].float().sigmoid(), target.data["classes"]
            return torch.where(truth > 0.5, p, 1 - p).mean(1)
        label = target.data["class"]
        own = answer["logits"].float().softmax(1).gather(1, label.clamp(min=0)[:, None])[:, 0]
        return own * (label >= 0)


def weights_of(field: dict, chosen: Literal["balanced"] | dict[str, float] | None, multi: bool) -> list[float]:
    """The weight of each class. Raises SpecError for a name that is no class."""
    classes, counts, rows = field["classes"], field["counts"], field["rows"]
    if chosen == "balanced":
        return [max(1, rows - n) / n if multi else rows / (len(classes) * n) for n in counts]
    names = [c if isinstance(c, str) else json.dumps(c) for c in classes]
    for name in chosen or {}:
        if name not in names:
            raise SpecError("class_weights", "no class of this name", given=name, advice=suggest(name, names))
    return [(chosen or {}).get(name, 1.0) for name in names]
