"""What the nodes of a graph tell each other: graph convolution and graph attention."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from polymodal.core.transformer import check_heads, masked_softmax, rows_of
from polymodal.fusion.links import Links


class GraphConvolution(nn.Module):
    """`S^(−½) (A + I) S^(−½) X W + b`: a mean over those a node hears, in which nodes with many edges count less.

    A says which nodes are joined and S, diagonal, how many nodes each one hears, itself included (Kipf and Welling
    2017, equation 2). D² + D parameters; for M nodes and E places for edges M·D² + E·D multiplications.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.map = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "B M D"], links: Links) -> tuple[Float[Tensor, "B M D"], None]:
        degrees = links.degrees().to(x.dtype)[..., None]
        root = degrees.clamp(min=1).rsqrt()
        scaled = x * root
        inputs = links.inputs.to(x.dtype) @ scaled
        tokens = torch.einsum("bts,btsd->btd", links.open.to(x.dtype), links.heard(scaled))
        return self.map(torch.cat([inputs, tokens], 1) * root), None


class GraphAttention(nn.Module):
    """`Σ_j α_ij V x_j`, `α_ij = softmax_j(a · LeakyReLU(U x_i + V x_j))` over those that node i hears, in each head.

    U and V have biases; the heads share D between them; the slope below zero is 0.2. The attention is the second
    version of Brody et al. 2022, equation 7, whose order of preference may differ from node to node; that of Velickovic
    et al. 2018 may not. 2·D² + 3·D parameters; for M nodes and E places for edges 2·M·D² + 2·E·D multiplications.
    Raises SpecError when `heads` does not divide `width`.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        check_heads(width, heads)
        self.heads = heads
        self.own, self.other = nn.Linear(width, width), nn.Linear(width, width)
        self.score = nn.Embedding(1, width)
        nn.init.normal_(self.score.weight, std=(heads / width) ** 0.5)

    def forward(self, x: Float[Tensor, "B M D"], links: Links) -> tuple[Float[Tensor, "B M D"], Float[Tensor, "B N M"]]:
        """What each node takes, and how much the inputs' nodes took from which node, the mean over the heads."""
        own, other = self.own(x), self.other(x)
        count = links.inputs.shape[1]
        inputs, weights = self.take(own[:, :count], other[:, None], links.inputs)
        tokens, _ = self.take(own[:, count:], links.heard(other), links.open)
        return torch.cat([inputs, tokens], 1), weights.mean(3)

    def take(
        self, own: Float[Tensor, "B R D"], heard: Float[Tensor, "B #R S D"], open: Bool[Tensor, "B R S"]
    ) -> tuple[Float[Tensor, "B R D"], Float[Tensor, "B R S {self.heads}"]]:
        score = rows_of(self.score, own.shape[0])[:, :, None]  # [B 1 1 D]
        bent = F.leaky_relu(own[:, :, None] + heard, 0.2, inplace=True)
        scores = (bent * score).unflatten(3, (self.heads, -1)).sum(4)
        weights = masked_softmax(scores, open[..., None], 2)
        mixed = weights[..., None] * heard.unflatten(3, (self.heads, -1))
        return mixed.sum(2).flatten(2), weights
