"""What flows through the house: cells, batches, streams, answers. Shapes are in the types."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Stream(NamedTuple):
    """One input as the model sees it: B rows, T tokens, D features."""

    tokens: Float[Tensor, "B T D"]  # zero where masked
    mask: Bool[Tensor, "B T"]  # True = real; a missing cell is a row of False; a present one has at least one True
    maps: tuple[Float[Tensor, "B _C _H _W"], ...] = ()  # [0] the picture as read, then fine to coarse


Streams = dict[str, Stream]  # by input name


class State(NamedTuple):
    """Where a decoder stands in B rows that it speaks of token by token."""

    past: dict[str, Tensor]  # each [B, ...]: of what was said so far; reordered when beams are
    fixed: dict[str, Tensor]  # each [B, ...]: of what is spoken of; the same for all beams of a row, never reordered
    at: int  # tokens taken so far


class Cells(NamedTuple):
    """The distinct, present cells of one input in a batch; one blank cell, which no index names, when there is none."""

    data: dict[str, Tensor]  # each [N, ...]; a padded array `x` comes with its mask `x_mask` [N, T]
    index: Int[Tensor, "B K"]  # type: ignore[assignment]  # (row, column) -> cell, -1 = missing
    id: Int[Tensor, " N"]  # digest of the content: cache key, false negatives, clustered intervals


class Target(NamedTuple):
    """What a task should answer, where it is known."""

    data: dict[str, Tensor]  # each [B, ...]
    present: Bool[Tensor, " B"]


class Row(NamedTuple):
    """Where a row of the batch comes from; never enters the model."""

    number: int  # row number in its table, from 0
    geometry: dict[str, Any] = {}  # noqa: RUF012  by input: original size, crop, flip; {} when not asked for


class Batch(NamedTuple):
    inputs: dict[str, Cells]
    targets: dict[str, Target]
    key: Int[Tensor, " B"]  # hash of (seed, epoch, row): all randomness about a row comes from it
    rows: tuple[Row, ...]


class Notes(NamedTuple):
    """What a part has to say besides its result: losses per row that it adds, weights worth showing."""

    losses: dict[str, Float[Tensor, " B"]] = {}  # noqa: RUF012
    weights: dict[str, Tensor] = {}  # noqa: RUF012


Answer = dict[str, Tensor]  # a task's raw output, each [B, ...]


class Embedded(NamedTuple):
    """What a row holds under one name, as vectors in one space; K of them, one for each of an input's columns."""

    vectors: Float[Tensor, "B K E"]  # of length 1; zeros where not present
    present: Bool[Tensor, "B K"]


class Outputs(NamedTuple):
    """Everything the model computed on the way; explaining reads this instead of hooks."""

    encoded: Streams
    attended: Streams
    fused: Stream | None
    answers: dict[str, Answer]
    losses: dict[str, Float[Tensor, " B"]]
    notes: Notes
    asked: dict[str, Target] = {}  # noqa: RUF012  what each task was asked, by its own `prepare`
    entered: tuple[Streams, ...] = ()  # at the common width, once for each way in which tasks prepared the inputs


def pool(tokens: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B D"]:
    """Mean of the real tokens; zeros for a row that has none."""
    weight = mask.to(tokens.dtype)
    return torch.einsum("btd,bt->bd", tokens, weight) / weight.sum(1, keepdim=True).clamp(min=1)


def check_stream(stream: Stream, rows: int, width: int, where: str = "stream") -> None:
    """Raise AssertionError unless the stream keeps its promises (shapes, dtype, zeros where masked, finite)."""
    tokens, mask, maps = stream
    assert tokens.ndim == 3, f"{where}: tokens must be [B T D], got {tuple(tokens.shape)}"
    assert tokens.shape[0] == rows, f"{where}: {tokens.shape[0]} rows of tokens for {rows} rows"
    assert tokens.shape[2] == width, f"{where}: width {tokens.shape[2]}, promised {width}"
    assert tokens.is_floating_point(), f"{where}: tokens are {tokens.dtype}"
    assert mask.dtype == torch.bool, f"{where}: mask is {mask.dtype}"
    assert mask.shape == tokens.shape[:2], f"{where}: mask {tuple(mask.shape)} beside tokens {tuple(tokens.shape)}"
    assert torch.isfinite(tokens).all(), f"{where}: tokens are not finite"
    assert not tokens[~mask].any(), f"{where}: tokens are not zero where masked"
    for level, picture in enumerate(maps):
        assert picture.ndim == 4, f"{where}: maps[{level}] must be [B C H W]"
        assert picture.shape[0] == rows, f"{where}: maps[{level}] has {picture.shape[0]} rows for {rows}"
