"""From an input's tokens to its vectors in the common space."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from polymodal.core.streams import Stream, pool
from polymodal.tasks.head import HeadNorm, head

Pool = Literal["mean", "first", "attention"]


class Map(nn.Module):
    """A stream of K columns [B K*T D] -> vectors of length 1, [B K M E], and which there are, [B K M].

    Pooled, a cell has one vector (M = 1): its mean token, its first one, or their mean by learned weights. With
    `tokens` it has up to so many: more real tokens than that are averaged in as many runs of neighbours.
    """

    def __init__(
        self,
        *,
        width: int,
        dim: int,
        columns: int,
        pool: Pool,
        tokens: int,
        hidden: int,
        dropout: float,
        norm: HeadNorm,
    ) -> None:
        super().__init__()
        self.columns, self.pool, self.tokens = columns, pool, tokens
        self.weigh = nn.Linear(width, 1) if pool == "attention" and not tokens else None
        self.head = head(width, dim, hidden, dropout, norm)

    def forward(self, stream: Stream) -> tuple[Float[Tensor, "B K M E"], Bool[Tensor, "B K M"]]:
        tokens = stream.tokens.unflatten(1, (self.columns, -1)).flatten(0, 1)  # [B*K T D]
        mask = stream.mask.unflatten(1, (self.columns, -1)).flatten(0, 1)
        found, there = runs(tokens, mask, self.tokens) if self.tokens else self._pooled(tokens, mask)
        vectors = F.normalize(self.head(found).float(), dim=2).masked_fill(~there[..., None], 0.0)
        return vectors.unflatten(0, (-1, self.columns)), there.unflatten(0, (-1, self.columns))

    def _pooled(
        self, tokens: Float[Tensor, "N T D"], mask: Bool[Tensor, "N T"]
    ) -> tuple[Float[Tensor, "N 1 D"], Bool[Tensor, "N 1"]]:
        if self.pool == "first":
            found, _ = runs(tokens, mask & (mask.cumsum(1) == 1), 1)
        elif self.weigh is not None:
            scores = self.weigh(tokens).float().masked_fill(~mask[..., None], torch.finfo(torch.float32).min)
            found = (scores.softmax(1).to(tokens.dtype) * tokens).sum(1, keepdim=True)
        else:
            found = pool(tokens, mask)[:, None]
        return found, mask.any(1, keepdim=True)


def runs(
    tokens: Float[Tensor, "N T D"], mask: Bool[Tensor, "N T"], most: int
) -> tuple[Float[Tensor, "N M D"], Bool[Tensor, "N M"]]:
    """The real tokens in order; where there are more than `most`, the means of as many runs of neighbours."""
    place, count = mask.cumsum(1) - 1, mask.sum(1, keepdim=True)
    run = place * most // count.clamp(min=most)
    member = (run[..., None] == torch.arange(most, device=mask.device)) & mask[..., None]  # [N T M]
    sizes = member.sum(1)
    found = torch.einsum("ntm,ntd->nmd", member.to(tokens.dtype), tokens) / sizes.clamp(min=1)[..., None]
    return found.to(tokens.dtype), sizes > 0


def one_each(vectors: Float[Tensor, "B K M E"], there: Bool[Tensor, "B K M"]) -> Float[Tensor, "B K E"]:
    """A single vector of length 1 for each cell: the mean of those it has, as far as one can stand for several."""
    return F.normalize(vectors.sum(2), dim=2).masked_fill(~there.any(2)[..., None], 0.0)
