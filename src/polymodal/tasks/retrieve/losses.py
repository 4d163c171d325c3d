"""How far a row's own cells are from being the nearest: InfoNCE, sigmoid, triplet."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from polymodal.core.contrast import nearest
from polymodal.tasks.retrieve.views import View, near, own

Negatives = Literal["semi_hard", "hardest", "all"]
Loss = Literal["infonce", "sigmoid", "triplet"]


def one_way(
    mine: View, pair: View, others: View, same: Bool[Tensor, "B C"], scale: Float[Tensor, "B S"], kind: Loss,
    margin: float, negatives: Negatives,
) -> Float[Tensor, " B"]:  # fmt: skip
    """The loss of each row's cells in one input, which look for those of `pair` among `others`.

    The mean over the pairs of a cell and its own ones; 0 for a row without such a pair. `same` says which of the other
    rows are no negatives; `scale` is what the loss has learned: the logarithm of what similarities are multiplied by,
    and what is added.
    """
    with torch.autocast(mine.vectors.device.type, enabled=False):
        apart = near(mine, others).flatten(2)  # [B K C*J]
        barred = (same[:, :, None] | ~others.present).flatten(1)[:, None].expand_as(apart)
        each = _each(own(mine, pair), apart, barred, others, scale, kind, margin, negatives)
    counts = (mine.present[:, :, None] & pair.present[:, None]).float()
    return (each * counts).sum((1, 2)) / counts.sum((1, 2)).clamp(min=1)


def _each(
    together: Float[Tensor, "B K J"], apart: Float[Tensor, "B K N"], barred: Bool[Tensor, "B K N"], others: View,
    scale: Float[Tensor, "B S"], kind: Loss, margin: float, negatives: Negatives,
) -> Float[Tensor, "B K J"]:  # fmt: skip
    if kind == "triplet":
        return triplet(together, apart, barred, margin, negatives)
    times = scale[:, 0].exp()[:, None, None]
    if kind == "infonce":
        return nearest(times * together, times * apart, barred)
    bias, present = scale[:, 1][:, None, None], others.present.float()
    share = (present / present.sum(1, keepdim=True).clamp(min=1)).flatten()  # a row counts once, however many cells
    against = (F.softplus(times * apart + bias) * share).masked_fill(barred, 0.0).sum(2, keepdim=True)
    return F.softplus(-(times * together + bias)) + against


def triplet(
    together: Float[Tensor, "B K J"], apart: Float[Tensor, "B K N"], barred: Bool[Tensor, "B K N"], margin: float,
    negatives: Negatives,
) -> Float[Tensor, "B K J"]:  # fmt: skip
    """`max(0, margin + s_negative - s_positive)`; 0 where there is no negative.

    The hardest negative is the most similar one; the semi-hard one the most similar of those that are less similar than
    the positive, or, where there is none, the least similar of all; of all of them the mean over those that cost.
    """
    low = torch.finfo(apart.dtype).min
    if negatives == "all":
        cost = (margin + apart[:, :, None] - together[..., None]).relu().masked_fill(barred[:, :, None], 0.0)
        return cost.sum(3) / (cost > 0).sum(3).clamp(min=1)
    hardest = apart.masked_fill(barred, low).amax(2, keepdim=True)
    if negatives == "semi_hard":
        outside = ~barred[:, :, None] & (apart[:, :, None] < together[..., None])
        below = apart[:, :, None].masked_fill(~outside, low).amax(3)
        easiest = apart.masked_fill(barred, -low).amin(2, keepdim=True)
        hardest = below.where(outside.any(3), easiest)
    return (margin + hardest - together).relu().where(~barred.all(2, keepdim=True), 0.0)
