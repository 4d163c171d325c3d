"""Encoders over steps of features, [N T M] and its mask: recurrent and Transformer. Common to sounds and series."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from polymodal.core.schema import Chance, Json, Positive, Wired
from polymodal.core.streams import Stream, pool
from polymodal.core.transformer import TransformerStack
from polymodal.modalities.sequence import Recurrent, sinusoid

Stride = Literal[1, 2, 4, 8]


class StepEncoder(nn.Module):
    """What all of them share: which array holds the steps, how many features each has, and no maps.

    `covers` is how many steps after each other each token stands for; 0 where one token stands for all.
    """

    array: ClassVar[str]  # of a cell's data: "mel", "values"
    size: ClassVar[str]  # the entry of the field that says M: "bands", "features"
    channels: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    covers = 1

    @staticmethod
    def wants(settings: Json, files: Path) -> Json:
        return {}

    def steps(self, data: dict[str, Tensor]) -> tuple[Float[Tensor, "N T M"], Bool[Tensor, "N T"]]:
        """The steps, zero where masked, and their mask."""
        mask = data[f"{self.array}_mask"]
        return data[self.array] * mask[..., None], mask


class StepRecurrent(StepEncoder):
    """A recurrent net over the features; `stack` steps after each other make one, so T' = ceil(T / stack).

    `tokens`: the state of every step, their mean, or the last state of each direction (T = 1). With `bidirectional`
    the tokens are twice as wide as `width`. For one layer and direction, with g = 1 (rnn), 3 (gru), 4 (lstm) gates and
    D = `width`: g·(M·stack + D + 2)·D parameters, g·T'·(M·stack + D)·D multiplications.
    """

    kind: ClassVar[Literal["rnn", "lstm", "gru"]]

    def __init__(
        self,
        *,
        field: Wired[dict],
        width: Positive = 128,
        layers: Positive = 1,
        bidirectional: bool = True,
        dropout: Chance = 0.0,
        stack: Positive = 1,
        tokens: Literal["all", "last", "mean"] = "all",
    ) -> None:
        super().__init__()
        self.stack, self.tokens, self.covers = stack, tokens, stack if tokens == "all" else 0
        self.body = Recurrent(
            kind=self.kind, features=field[self.size] * stack, width=width, layers=layers, bidirectional=bidirectional,
            dropout=dropout,
        )  # fmt: skip
        self.width = self.body.width
        self.ahead = width  # features of the forward direction, which ends at the last step

    def forward(self, data: dict[str, Tensor]) -> Stream:
        x, mask = stack_frames(*self.steps(data), self.stack)
        x = self.body(x, mask)
        if self.tokens == "last":
            last = (mask.sum(1) - 1).clamp(min=0)[:, None, None].expand(-1, 1, x.shape[2])
            ends = torch.cat([x.gather(1, last)[..., : self.ahead], x[:, :1, self.ahead :]], 2)
            return Stream(ends, mask[:, :1])
        return mean(x, mask) if self.tokens == "mean" else Stream(x, mask)


class StepTransformer(StepEncoder):
    """Convolutions over time (3 wide, GELU; Radford et al. 2022), sinusoidal positions, a Transformer encoder.

    log2(`stride`) convolutions halve the time, T' = ceil(T / stride); with stride 1 there is one that does not.
    `tokens`: every step, or their mean (T = 1). Each layer costs as `core.transformer.TransformerLayer` says; the first
    convolution has 3·M·D parameters and every other one 3·D². Raises SpecError when `heads` does not divide `width`.
    """

    def __init__(
        self,
        *,
        field: Wired[dict],
        width: Positive = 128,
        layers: Positive = 2,
        heads: Positive = 4,
        ratio: Positive = 4,
        dropout: Chance = 0.1,
        stride: Stride = 1,
        tokens: Literal["all", "mean"] = "all",
    ) -> None:
        super().__init__()
        self.width, self.tokens, self.covers = width, tokens, stride if tokens == "all" else 0
        self.hops = [2] * halvings(stride) or [1]
        sizes = [field[self.size]] + [width] * len(self.hops)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(size, width, 3, hop, 1) for size, hop in zip(sizes, self.hops, strict=False)
        )
        self.dropout = nn.Dropout(dropout)
        self.stack = TransformerStack(width=width, layers=layers, heads=heads, dropout=dropout, ratio=ratio)

    def forward(self, data: dict[str, Tensor]) -> Stream:
        x, mask = self.steps(data)
        for convolution, hop in zip(self.convolutions, self.hops, strict=True):
            mask = mask[:, ::hop]
            x = F.gelu(convolution(x.transpose(1, 2)).transpose(1, 2)) * mask[..., None]
        x = self.stack(self.dropout(x + sinusoid(x.shape[1], self.width, x.device)), mask)
        return mean(x, mask) if self.tokens == "mean" else Stream(x, mask)


def stack_frames(
    x: Float[Tensor, "N T M"], mask: Bool[Tensor, "N T"], size: int
) -> tuple[Float[Tensor, "N S F"], Bool[Tensor, "N S"]]:
    """Every `size` frames side by side as one step, zeros where one is missing; a step is real when any is."""
    lacking = -x.shape[1] % size
    x, mask = F.pad(x * mask[..., None], (0, 0, 0, lacking)), F.pad(mask, (0, lacking))
    return x.unflatten(1, (-1, size)).flatten(2), mask.unflatten(1, (-1, size)).any(2)


def halvings(stride: int) -> int:
    return stride.bit_length() - 1


def mean(x: Float[Tensor, "N T D"], mask: Bool[Tensor, "N T"]) -> Stream:
    """The mean of the real tokens as the only one."""
    return Stream(pool(x, mask)[:, None], mask[:, :1])
