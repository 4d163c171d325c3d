"""Late fusion by a model of the answers."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from polymodal.core.schema import Wired
from polymodal.core.transformer import rows_of
from polymodal.fusion.decision.scores import Kind


class Stack(nn.Module):
    """A learned linear map of all answers: `z = W [s_1; …; s_N] + b`, with scores `s_i` of K numbers each.

    One class of several: s are log-probabilities and z logits. Any of several: log-odds. A number: numbers. A missing
    input's place holds K learned numbers of its own. W begins as the mean of the inputs, b and the learned numbers as
    zeros. They learn from the joint answer's loss; it reaches neither heads nor encoders.

    Scores [B N K] and presence [B N] -> scores [B K]. The heads learn on the same rows at the same time, where the
    original fits W on answers to held-out rows: an input that overfits is believed too much.

    Cost: N·K² multiplications per row; N·K² + (N + 1)·K parameters; beside it one head per input.
    Source: Wolpert, "Stacked Generalization", Neural Networks 1992; linear maps of class probabilities: Ting & Witten,
    "Issues in Stacked Generalization", JAIR 1999.
    """

    learns = True

    def __init__(self, *, inputs: Wired[tuple[str, ...]], kind: Wired[Kind], size: Wired[int]) -> None:
        super().__init__()
        self.missing = nn.Embedding(len(inputs), size)
        self.join = nn.Linear(len(inputs) * size, size)
        nn.init.zeros_(self.missing.weight)
        nn.init.zeros_(self.join.bias)
        with torch.no_grad():
            self.join.weight.copy_(torch.eye(size).repeat(1, len(inputs)) / len(inputs))

    def forward(self, scores: Float[Tensor, "B N K"], present: Bool[Tensor, "B N"]) -> Float[Tensor, "B K"]:
        return self.join(torch.where(present[..., None], scores, rows_of(self.missing, len(scores))).flatten(1))
