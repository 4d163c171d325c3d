"""Losses of classification per row, from logits."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


def surprise(log_p: Float[Tensor, "*B"], focal: float | None) -> Float[Tensor, "*B"]:
    """`-log p`, or with `focal` = γ the focal `-(1 - p)^γ log p`, which counts what is already sure for less.

    Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017.
    """
    if focal is None:
        return -log_p
    doubt = (-torch.expm1(log_p)).clamp(min=torch.finfo(log_p.dtype).tiny ** 0.25)  # finite gradients for γ < 1
    return -(doubt**focal) * log_p


def one_of(
    logits: Float[Tensor, "B C"],
    label: Int[Tensor, " B"],
    weights: Float[Tensor, " C"],
    smoothing: float,
    focal: float | None,
) -> Float[Tensor, " B"]:
    """Softmax cross-entropy `Σ_c q_c s(p_c)` with `q = (1 - ε) onehot(label) + ε / C` and s the surprise.

    Averaged with the row's class weight it is `F.cross_entropy(weight=weights, label_smoothing=ε)`, which weighs the
    smoothed part by each class's own weight; that is why they are needed here. Labels below 0 give a finite number.
    """
    terms = surprise(logits.float().log_softmax(1), focal)
    label = label.clamp(min=0)
    own = terms.gather(1, label[:, None])[:, 0]
    if not smoothing:
        return own
    scale = weights[label].where(weights[label] > 0, 1.0)
    return (1 - smoothing) * own + smoothing / logits.shape[1] * (terms @ weights) / scale


def any_of(
    logits: Float[Tensor, "B C"],
    truth: Float[Tensor, "B C"],
    positive: Float[Tensor, " C"],
    smoothing: float,
    focal: float | None,
) -> Float[Tensor, " B"]:
    """Binary cross-entropy, the mean over classes of `w q s(p) + (1 - q) s(1 - p)`, `q = (1 - ε) truth + ε / 2`.

    `positive` is w: how many times a row that has the class counts (`pos_weight` in torch).
    """
    x, q = logits.float(), (1 - smoothing) * truth + smoothing / 2
    yes, no = surprise(F.logsigmoid(x), focal), surprise(F.logsigmoid(-x), focal)
    return (positive * q * yes + (1 - q) * no).mean(1)
