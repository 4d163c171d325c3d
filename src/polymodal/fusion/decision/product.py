"""Late fusion by a product of experts."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from polymodal.core.schema import Wired
from polymodal.core.transformer import masked_softmax, rows_of
from polymodal.fusion.decision.scores import Kind


class Product(nn.Module):
    """The product of the experts: `p(c) = Π_i p_i(c) / Σ_k Π_i p_i(k)` over the inputs that are there.

    One class of several: the log-probabilities are added and normalised, so that one input which is sure that it is not
    this class outweighs the others. Any of several: the log-odds of each class are added. A number: every expert is a
    normal distribution around its own number with a precision `τ_i = exp(s_i)` that is learned, one per input; their
    product has its mean at `Σ τ_i v_i / Σ τ_i`. The `s_i` learn from the joint answer's loss, which reaches nothing
    else; with a squared loss that is maximum likelihood of the product. They begin alike.

    Scores [B N K] and presence [B N] -> scores [B K]; for a row with nothing uniform log-probabilities, or zeros.
    Experts that repeat each other are counted twice: the product is then surer than it should be, which a fitted
    temperature mends.

    Cost: O(N·K) operations per row; N parameters for a number, none otherwise; beside it one head per input.
    Source: Hinton, "Training Products of Experts by Minimizing Contrastive Divergence", Neural Computation 2002
    (section 1; the logarithmic opinion pool with weights 1), with experts that are trained each by itself.
    """

    learns = False

    def __init__(self, *, inputs: Wired[tuple[str, ...]], kind: Wired[Kind], size: Wired[int]) -> None:
        super().__init__()
        self.kind: Kind = kind
        self.learns = kind == "value"
        if self.learns:
            self.precision = nn.Embedding(len(inputs), 1)
            nn.init.zeros_(self.precision.weight)

    def forward(self, scores: Float[Tensor, "B N K"], present: Bool[Tensor, "B N"]) -> Float[Tensor, "B K"]:
        there = present[..., None]
        if self.kind == "value":
            return (scores * masked_softmax(rows_of(self.precision, len(scores)), there, 1)).sum(1)
        total = torch.where(there, scores, 0.0).sum(1)
        return total.log_softmax(1) if self.kind == "class" else total
