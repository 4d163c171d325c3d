"""What the rules share: means over the inputs that are there, in the terms of the scores."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

Kind = Literal["class", "classes", "value"]  # log-probabilities of K classes; log-odds of each of K; K numbers


def mean(x: Float[Tensor, "B N K"], present: Bool[Tensor, "B N"]) -> Float[Tensor, "B K"]:
    """The mean over the inputs that are there; zero for a row that has none."""
    weight = present.to(x.dtype)
    total = torch.where(present[..., None], x, 0.0).sum(1)
    return total / weight.sum(1, keepdim=True).clamp(min=1)


def log_mean(x: Float[Tensor, "B N K"], present: Bool[Tensor, "B N"]) -> Float[Tensor, "B K"]:
    """`log mean exp x` over the inputs that are there; zero for a row that has none."""
    low = x.masked_fill(~present[..., None], torch.finfo(x.dtype).min)
    count = present.sum(1, keepdim=True).to(x.dtype)
    found = torch.logsumexp(low, 1) - count.clamp(min=1).log()
    return found.where(count > 0, 0.0)


def log_means(scores: Float[Tensor, "B N K"], present: Bool[Tensor, "B N"], kind: Kind) -> Float[Tensor, "B K"]:
    """The scores of the mean probability: of a row's one class, or of each of its classes by itself."""
    if kind == "class":
        return log_mean(scores, present)
    return log_mean(F.logsigmoid(scores), present) - log_mean(F.logsigmoid(-scores), present)
