"""The task of answering a question by one of the frequent answers."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float
from torch import Tensor

from polymodal.core.contracts import Gather, Records
from polymodal.core.schema import Chance, Json, Natural, Positive, Share, Wired
from polymodal.core.streams import Answer as Raw
from polymodal.core.streams import Target
from polymodal.tasks import answering, losses, metrics
from polymodal.tasks.classify import Classify
from polymodal.tasks.head import HeadNorm
from polymodal.tasks.metrics import PerWeighting


class Answer(Classify):
    """Visual question answering as in VQA: a choice among the most frequent answers of the training rows.

    Fused stream [B T D], pooled over T -> `logits` [B K]. The truth of a row is soft, `q_k` the share of its people who
    gave answer k. Loss `soft`: `-Σ_k q_k log p_k` with the softmax p, q made to sum to 1; loss `binary`: `Σ_k` of the
    binary cross-entropy between `q_k` and the sigmoid, as in Teney et al., "Tips and Tricks for Visual Question
    Answering", CVPR 2018. An answer outside the list is never trained on and counts as wrong. The prediction is the
    likeliest answer, its confidence the softmax at the temperature that is fitted on validation rows.

    Measures: `vqa_accuracy`, `exact_match` and, with `wups`, `wups_09`, `wups_00`, see `tasks.language`; `in_reach`,
    the share of rows that one of the listed answers is right for; `calibration_error` and `log_loss`, of the answer
    that most people gave. Records: as of `classes.OneOf`, and each row's own measures.

    Settings: `question`, the input that asks, the only text when not given: where rows are measured, the whole is
    compared with it alone; `answers`, the length of the list, and `min_count`, how many people of the training rows
    must have given one for it to be listed; `loss`; `wups`, which needs `polymodal[wordnet]`; `hidden`, `dropout` and
    `norm`, see `head.head`; `label_smoothing`, ε, the share of the truth that all answers get alike.
    """

    metric = "vqa_accuracy"

    def __init__(
        self,
        *,
        field: Wired[dict],
        width: Wired[int],
        inputs: Wired[tuple[str, ...]],
        question: str | None = None,
        answers: Positive = 1000,
        min_count: Positive = 1,
        loss: Literal["soft", "binary"] = "soft",
        wups: bool = False,
        hidden: Natural = 0,
        dropout: Chance = 0.0,
        norm: HeadNorm = "none",
        label_smoothing: Share = 0.0,
    ) -> None:
        super().__init__(field={**field, "rows": field["people"]}, width=width, inputs=inputs, hidden=hidden,
                         dropout=dropout, norm=norm, label_smoothing=label_smoothing)  # fmt: skip
        self.metric = Answer.metric  # not that of one class
        self.question, self.penalty, self.near = answering.check_question(question, inputs), loss, wups

    @staticmethod
    def target(settings: Json, files: Path) -> tuple[str, Json]:
        names = {"answers": "most", "min_count": "min_count"}
        return "answers", {names[name]: settings[name] for name in names if name in settings}

    def loss(self, answer: Raw, target: Target, gather: Gather | None) -> Float[Tensor, " B"]:
        logits, share = answer["logits"], target.data["share"]
        if self.penalty == "binary":
            return logits.shape[1] * losses.any_of(logits, share, self.class_weight, self.smoothing, None)
        share = share / share.sum(1, keepdim=True).clamp(min=1e-6)
        share = (1 - self.smoothing) * share + self.smoothing / logits.shape[1]
        return -(share * logits.float().log_softmax(1)).sum(1)

    def weight(self, target: Target) -> Float[Tensor, " B"]:
        share = target.data["share"]
        return (target.present & (share.sum(1) > 0)).to(share.dtype)

    def score(self, answer: Raw, target: Target) -> Records:
        there = target.present
        said = [self.classes[at] for at in answer["logits"][there].argmax(1).tolist()]
        known = (target.data["share"][there].sum(1) > 0).cpu().numpy()
        answers = answering.records(said, target.data["text"][there].cpu().numpy(), self.near)
        return super().score(answer, target) | answers | {"known": known}

    def measure(self, records: Records, weights: Float[np.ndarray, "W n"]) -> dict[str, PerWeighting]:
        return {
            **answering.measure(records, weights),
            "in_reach": metrics.mean(records["known"], weights),
            **self.calibration(records, weights),
        }
