"""Stacks over sequences, common to the modalities: recurrent nets, a Transformer encoder, sinusoidal positions.

The mask of a sequence is a prefix everywhere: True for the real tokens, then False for the padding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from polymodal.core.errors import SpecError


class _Live:
    """Weights looked up when used. Torch keeps a second list of them, which `torch.export` takes for an assignment."""

    _flat_weights_names: list[str]

    @property
    def _flat_weights(self) -> list[Tensor]:
        return [getattr(self, name) for name in self._flat_weights_names]

    @_flat_weights.setter
    def _flat_weights(self, weights: list[Tensor]) -> None:
        pass


class _RNN(_Live, nn.RNN):  # type: ignore[misc]
    pass


class _LSTM(_Live, nn.LSTM):  # type: ignore[misc]
    pass


class _GRU(_Live, nn.GRU):  # type: ignore[misc]
    pass


CELLS: dict[str, Callable[..., nn.RNNBase]] = {"rnn": _RNN, "lstm": _LSTM, "gru": _GRU}


class Recurrent(nn.Module):
    """Elman RNN (tanh), LSTM (Hochreiter and Schmidhuber 1997) or GRU (Cho et al. 2014), in layers, one or both ways.

    Equals `nn.RNN`, `nn.LSTM`, `nn.GRU` on packed sequences, without packing: padding stands at the end, where the
    forward direction cannot see it; the backward direction runs over each row reversed within its own length.
    `width` is the size of the answer per token: twice the given one when both ways. Dropout acts between layers.
    """

    def __init__(
        self,
        *,
        kind: Literal["rnn", "lstm", "gru"],
        features: int,
        width: int,
        layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.width = 2 * width if bidirectional else width
        sizes = [features] + [self.width] * (layers - 1)
        self.forwards = nn.ModuleList(CELLS[kind](size, width, batch_first=True) for size in sizes)
        self.backwards = nn.ModuleList(
            CELLS[kind](size, width, batch_first=True) for size in (sizes if bidirectional else [])
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "N T F"], mask: Bool[Tensor, "N T"]) -> Float[Tensor, "N T W"]:
        """The states of the last layer, zero where masked."""
        order = reversed_within(mask)
        for depth, ahead in enumerate(self.forwards):
            x = self.dropout(x) if depth else x
            states = [ahead(x)[0]]
            if self.backwards:
                states.append(_take(self.backwards[depth](_take(x, order))[0], order))
            x = torch.cat(states, 2)
        return x * mask[..., None]


def reversed_within(mask: Bool[Tensor, "N T"]) -> Int[Tensor, "N T"]:
    """Positions that turn each row round within its own length and leave the padding where it is: its own inverse."""
    here = torch.arange(mask.shape[1], device=mask.device)
    return torch.where(mask, mask.sum(1, keepdim=True) - 1 - here, here)


def _take(x: Float[Tensor, "N T D"], order: Int[Tensor, "N T"]) -> Float[Tensor, "N T D"]:
    return x.gather(1, order[..., None].expand(-1, -1, x.shape[2]))


class TransformerStack(nn.Module):
    """Pre-norm Transformer encoder (Vaswani et al. 2017; Xiong et al. 2020) with GELU and a final normalisation.

    Knows nothing of order: add positions to the tokens before. `ratio` is the hidden width of the feed-forward nets
    over `width`. Raises SpecError when `heads` does not divide `width`.
    """

    def __init__(self, *, width: int, layers: int, heads: int, dropout: float = 0.0, ratio: int = 4) -> None:
        super().__init__()
        if width % heads:
            raise SpecError("heads", f"must divide the width, {width}", given=heads, advice=_divisors(width))
        self.width = width
        self.layers = nn.ModuleList(_Layer(width, heads, dropout, ratio) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Float[Tensor, "N T D"], mask: Bool[Tensor, "N T"]) -> Float[Tensor, "N T D"]:
        """Every real token after it has seen the row's real tokens; zero where masked."""
        seen = (mask | ~mask.any(1, keepdim=True))[:, None, None]  # a row with no real token sees its padding: finite
        for layer in self.layers:
            x = layer(x, seen)
        return self.norm(x) * mask[..., None]


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float, ratio: int) -> None:
        super().__init__()
        self.heads, self.chance = heads, dropout
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, ratio * width), nn.Linear(ratio * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "N T D"], seen: Bool[Tensor, "N 1 1 T"]) -> Float[Tensor, "N T D"]:
        x = x + self.dropout(self.attend(self.norm1(x), seen))
        return x + self.dropout(self.down(self.dropout(F.gelu(self.up(self.norm2(x))))))

    def attend(self, x: Float[Tensor, "N T D"], seen: Bool[Tensor, "N 1 1 T"]) -> Float[Tensor, "N T D"]:
        query, key, value = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        chance = self.chance if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=seen, dropout_p=chance)
        return self.out(mixed.transpose(1, 2).flatten(2))


def _divisors(width: int) -> str:
    return f"one of {[n for n in range(1, min(width, 32) + 1) if width % n == 0]}"


def sinusoid(length: int | torch.SymInt, width: int, device: torch.device | None = None) -> Float[Tensor, "T D"]:
    """Sines (even features) and cosines (odd) of the positions 0 to `length` - 1, for any length (Vaswani 2017, 3.5).

    PE[p, 2i] = sin(p / 10000^(2i / width)), PE[p, 2i + 1] = cos(of the same).
    """
    position = torch.arange(length, device=device, dtype=torch.float32)[:, None]  # type: ignore[arg-type]
    rate = torch.exp(torch.arange(0, width, 2, device=device) * (-math.log(10000.0) / width))
    return torch.stack([torch.sin(position * rate), torch.cos(position * rate)], 2).flatten(1)[:, :width]
