"""Parallel co-attention: one affinity for two inputs, from which both read where to look."""

from __future__ import annotations

from itertools import combinations

from jaxtyping import Float
from torch import Tensor, nn

from polymodal.attention.tokens import Masks, Tokens
from polymodal.core.transformer import masked_softmax


class Parallel(nn.Module):
    """How much every token of every input counts, as all inputs see it together.

        C_ij = tanh(X_i W_ij X_jᵀ)                          one for each unordered pair, [T S]; C_ji = C_ijᵀ
        H_i  = tanh(X_i A_i + Σ_{j ≠ i} C_ij (X_j A_j))
        a_i  = softmax(H_i w_i)                             over the real tokens

    Tokens of [B T D] and masks [B T] -> for each input a_i [B T], which adds up to 1, or is 0 where the input is
    missing. A missing input adds nothing to H; a single one is pooled by attention, `softmax(tanh(X A) w)`.

    Cost: N·(N − 1)/2·D² + N·(D² + D) parameters; N·(N − 1)/2·(T·D² + 3·T²·D) + N·(T·D² + T·D) multiplications.
    Source: Lu et al., "Hierarchical Question-Image Co-Attention for Visual Question Answering", NeurIPS 2016, section
    3.3, with a sum over the other inputs where there are more than two. The W begin so small that no affinity is
    saturated.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.affinity = nn.ModuleDict(
            {f"{i}_{j}": nn.Linear(width, width, bias=False) for i, j in combinations(range(inputs), 2)}
        )
        for one in self.affinity.values():
            nn.init.normal_(one.get_parameter("weight"), std=1 / width)
        self.maps = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(inputs))
        self.scores = nn.ModuleList(nn.Linear(width, 1, bias=False) for _ in range(inputs))

    def forward(self, tokens: Tokens, masks: Masks) -> list[Float[Tensor, "B _T"]]:
        mapped = [a(x) for a, x in zip(self.maps, tokens, strict=True)]
        states = list(mapped)
        for i, j in combinations(range(len(tokens)), 2):
            affinity = (self.affinity[f"{i}_{j}"](tokens[i]) @ tokens[j].transpose(1, 2)).tanh()
            states[i] = states[i] + affinity @ mapped[j]
            states[j] = states[j] + (mapped[i].transpose(1, 2) @ affinity).transpose(1, 2)  # turned while it is [D S]
        scores = [w(h.tanh())[..., 0] for w, h in zip(self.scores, states, strict=True)]
        return [masked_softmax(s, m) for s, m in zip(scores, masks, strict=True)]


def scaled(tokens: Tokens, masks: Masks, shares: list[Float[Tensor, "B _T"]]) -> Tokens:
    """Every token times its share and the number of real tokens: their mean becomes the attended sum `Σ a_t x_t`."""
    return [x * (a * m.sum(1, keepdim=True))[..., None] for x, m, a in zip(tokens, masks, shares, strict=True)]
