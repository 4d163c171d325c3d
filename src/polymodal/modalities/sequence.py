"""What is common to the modalities that are sequences: recurrent nets, sinusoidal positions.

The mask of a sequence is a prefix everywhere: True for the real tokens, then False for the padding.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from polymodal.core.recurrent import CELLS


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


def sinusoid(length: int | torch.SymInt, width: int, device: torch.device | None = None) -> Float[Tensor, "T D"]:
    """Sines (even features) and cosines (odd) of the positions 0 to `length` - 1, for any length (Vaswani 2017, 3.5).

    PE[p, 2i] = sin(p / 10000^(2i / width)), PE[p, 2i + 1] = cos(of the same).
    """
    position = torch.arange(length, device=device, dtype=torch.float32)[:, None]  # type: ignore[arg-type]
    rate = torch.exp(torch.arange(0, width, 2, device=device) * (-math.log(10000.0) / width))
    return torch.stack([torch.sin(position * rate), torch.cos(position * rate)], 2).flatten(1)[:, :width]
