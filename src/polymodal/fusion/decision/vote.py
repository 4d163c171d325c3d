"""Late fusion by voting."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from polymodal.core.schema import Wired
from polymodal.fusion.decision.scores import Kind, log_means


class Vote(nn.Module):
    """The answer that most inputs give: `p(c) = (votes for c + mean_i p_i(c)) / (n + 1)` over the n that are there.

    One class of several: every input votes for its most probable class. Any of several: for each class by itself, every
    input votes yes or no. The mean of the probabilities is worth one vote, which is divided: it breaks ties and can
    never outvote a majority. A number: the median, the mean of the middle two where n is even.

    Scores [B N K] and presence [B N] -> scores [B K]; uniform, or zeros, for a row with nothing.

    No parameters, nothing to set. Cost: O(N·K) operations per row, for a number a sort; beside it one head per input.
    Source: the majority vote and the median rule of Kittler et al., "On Combining Classifiers", IEEE TPAMI 1998.
    """

    learns = False

    def __init__(self, *, inputs: Wired[tuple[str, ...]], kind: Wired[Kind], size: Wired[int]) -> None:
        super().__init__()
        self.kind: Kind = kind

    def forward(self, scores: Float[Tensor, "B N K"], present: Bool[Tensor, "B N"]) -> Float[Tensor, "B K"]:
        if self.kind == "value":
            return median(scores, present)
        there = present[..., None].to(scores.dtype)
        count, shared = there.sum(1), log_means(scores, present, self.kind)
        if self.kind == "class":
            votes = (F.one_hot(scores.argmax(2), scores.shape[2]) * there).sum(1)
            return _log(votes + shared.exp()).log_softmax(1)
        yes = ((scores > 0) * there).sum(1)
        return _log(yes + shared.sigmoid()) - _log(count - yes + (-shared).sigmoid())


def _log(x: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
    return x.clamp(min=torch.finfo(x.dtype).tiny).log()


def median(x: Float[Tensor, "B N K"], present: Bool[Tensor, "B N"]) -> Float[Tensor, "B K"]:
    """The median over the inputs that are there; zero for a row that has none."""
    rising = x.masked_fill(~present[..., None], torch.finfo(x.dtype).max).sort(1).values
    count = present.sum(1)
    middle = torch.stack([(count - 1) // 2, count // 2], 1).clamp(min=0, max=x.shape[1] - 1)
    found = rising.gather(1, middle[..., None].expand(-1, -1, x.shape[2])).mean(1)
    return found.where(count[:, None] > 0, 0.0)
