"""Late fusion by averaging."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor, nn

from polymodal.core.schema import Wired
from polymodal.fusion.decision.scores import Kind, log_means, mean


class Average(nn.Module):
    """The mean of the answers: `p(c) = 1/n Σ_i p_i(c)` over the n inputs that are there.

    One class of several: the mean of the probabilities. Any of several: the same for each class by itself. A number:
    the mean of the numbers. Scores [B N K] and presence [B N] -> scores [B K]; zeros for a row with nothing.

    No parameters, nothing to set. Cost: O(N·K) operations per row; beside it one head per input instead of one head.
    Source: the sum rule of Kittler et al., "On Combining Classifiers", IEEE TPAMI 1998 (the linear opinion pool).
    """

    learns = False

    def __init__(self, *, inputs: Wired[tuple[str, ...]], kind: Wired[Kind], size: Wired[int]) -> None:
        super().__init__()
        self.kind: Kind = kind

    def forward(self, scores: Float[Tensor, "B N K"], present: Bool[Tensor, "B N"]) -> Float[Tensor, "B K"]:
        return mean(scores, present) if self.kind == "value" else log_means(scores, present, self.kind)
