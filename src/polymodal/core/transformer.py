"""Transformer layers over masked tokens, common to encoders, attention and fusion."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from polymodal.core.errors import SpecError


class TransformerStack(nn.Module):
    """Pre-norm Transformer encoder (Vaswani et al. 2017; Xiong et al. 2020) with GELU and a final normalisation.

    Knows nothing of order: add positions to the tokens before. `ratio` is the hidden width of the feed-forward nets
    over `width`. Raises SpecError when `heads` does not divide `width`.
    """

    def __init__(self, *, width: int, layers: int, heads: int, dropout: float = 0.0, ratio: int = 4) -> None:
        super().__init__()
        self.width = width
        self.layers = nn.ModuleList(TransformerLayer(width, heads, dropout, ratio) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Float[Tensor, "N T D"], mask: Bool[Tensor, "N T"]) -> Float[Tensor, "N T D"]:
        """Every real token after it has seen the row's real tokens; zero where masked."""
        seen = seeable(mask)
        for layer in self.layers:
            x = layer(x, seen)
        return self.norm(x) * mask[..., None]


class TransformerLayer(nn.Module):
    """Self-attention, then a feed-forward net; both are residual and normalise what they read.

    (4 + 2·ratio)·D² + (9 + ratio)·D parameters; (4 + 2·ratio)·T·D² + 2·T²·D multiplications.
    """

    def __init__(self, width: int, heads: int, dropout: float, ratio: int) -> None:
        super().__init__()
        check_heads(width, heads)
        self.heads, self.chance = heads, dropout
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, ratio * width), nn.Linear(ratio * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "N T D"], seen: Bool[Tensor, "N 1 1 T"]) -> Float[Tensor, "N T D"]:
        return self.feed(self.mix(x, seen))

    def mix(self, x: Float[Tensor, "N T D"], seen: Bool[Tensor, "N 1 1 T"]) -> Float[Tensor, "N T D"]:
        """The first half: the tokens plus what they took from each other."""
        return x + self.dropout(self.attend(self.norm1(x), seen))

    def feed(self, x: Float[Tensor, "N T D"]) -> Float[Tensor, "N T D"]:
        """The second half: the tokens plus what the net makes of each."""
        return _fed(x, self.norm2, self.up, self.down, self.dropout)

    def attend(self, x: Float[Tensor, "N T D"], seen: Bool[Tensor, "N 1 1 T"]) -> Float[Tensor, "N T D"]:
        chance = self.chance if self.training else 0.0
        query, key, value = self.qkv(x).chunk(3, 2)
        return self.out(_taken(query, key, value, seen, self.heads, chance))


class FeedForward(nn.Module):
    """`x + W_2 GELU(W_1 norm(x))`: the second half of a Transformer layer by itself.

    2·ratio·D² + (3 + ratio)·D parameters, 2·ratio·T·D² multiplications.
    """

    def __init__(self, width: int, dropout: float, ratio: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, ratio * width), nn.Linear(ratio * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "N T D"]) -> Float[Tensor, "N T D"]:
        return _fed(x, self.norm, self.up, self.down, self.dropout)


class Attend(nn.Module):
    """Multi-head attention of some tokens to others (Vaswani et al. 2017, 3.2); no normalisation, no residual.

    `softmax(Q Kᵀ / √d) V` in every head, with `Q = x W_Q`, `[K; V] = seen W_KV`, d = D / heads, over the real tokens of
    `seen`; then an output map. A row with nothing to see gets zeros. Raises SpecError when `heads` does not divide
    `width`. 4·D² + 4·D parameters; 2·(T + S)·D² + 2·T·S·D multiplications.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        check_heads(width, heads)
        self.heads, self.chance = heads, dropout
        self.query, self.key_value, self.out = (nn.Linear(width, n * width) for n in (1, 2, 1))

    def forward(
        self, x: Float[Tensor, "N T D"], seen: Float[Tensor, "N S D"], mask: Bool[Tensor, "N S"], weigh: bool = False
    ) -> tuple[Float[Tensor, "N T D"], Float[Tensor, "N T S"] | None]:
        """What every token of `x` takes, and with `weigh` how much from which token, the mean over the heads."""
        chance = self.chance if self.training else 0.0
        query, (key, value) = self.query(x), self.key_value(seen).chunk(2, 2)
        there, opened = mask.any(1)[:, None, None], seeable(mask)
        answer = self.out(_taken(query, key, value, opened, self.heads, chance)) * there
        return answer, _weights(query, key, opened, self.heads) * there if weigh else None


def seeable(mask: Bool[Tensor, "N T"]) -> Bool[Tensor, "N 1 1 T"]:
    """What a row's tokens may see, for all heads and queries: the real ones; all where none is real, to stay finite."""
    return (mask | ~mask.any(1, keepdim=True))[:, None, None]


def masked_softmax(scores: Float[Tensor, "N *T"], mask: Bool[Tensor, "N *#T"], dim: int = -1) -> Float[Tensor, "N *T"]:
    """Softmax along one axis over what is there, real tokens or inputs; zero for the rest, and where nothing is."""
    return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim) * mask


def rows_of(embedding: nn.Embedding, rows: int) -> Float[Tensor, "{rows} N D"]:
    """The whole table of learned tokens, once per row."""
    index = torch.arange(embedding.num_embeddings, device=embedding.weight.device)
    return embedding(index.expand(rows, -1))


def _taken(query: Float[Tensor, "N T D"], key: Float[Tensor, "N S D"], value: Float[Tensor, "N S D"],
           seen: Bool[Tensor, "N 1 1 S"], heads: int, chance: float) -> Float[Tensor, "N T D"]:  # fmt: skip
    query, key, value = (_heads(x, heads) for x in (query, key, value))
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=seen, dropout_p=chance)
    return mixed.transpose(1, 2).flatten(2)


def _weights(
    query: Float[Tensor, "N T D"], key: Float[Tensor, "N S D"], seen: Bool[Tensor, "N 1 1 S"], heads: int
) -> Float[Tensor, "N T S"]:
    scores = _heads(query, heads) @ _heads(key, heads).transpose(2, 3) / math.sqrt(query.shape[2] / heads)
    return masked_softmax(scores, seen).mean(1)


def _heads(x: Float[Tensor, "N T D"], heads: int) -> Float[Tensor, "N {heads} T _d"]:
    return x.unflatten(2, (heads, -1)).transpose(1, 2)


def _fed(
    x: Float[Tensor, "N T D"], norm: nn.Module, up: nn.Module, down: nn.Module, dropout: nn.Module
) -> Float[Tensor, "N T D"]:
    return x + dropout(down(dropout(F.gelu(up(norm(x))))))


def check_heads(width: int, heads: int) -> None:
    """Raise SpecError unless so many heads share the width evenly."""
    if width % heads:
        divisors = [n for n in range(1, min(width, 32) + 1) if width % n == 0]
        raise SpecError("heads", f"must divide the width, {width}", given=heads, advice=f"one of {divisors}")
