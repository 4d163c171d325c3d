"""What the attentions share: tokens out of the streams in the order of the inputs, and back into them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from polymodal.core.streams import Stream, Streams

Tokens = list[Float[Tensor, "B _T D"]]  # one for each input, in the order of `inputs`
Masks = list[Bool[Tensor, "B _T"]]


def take(streams: Streams, inputs: tuple[str, ...]) -> tuple[Tokens, Masks]:
    """Tokens and masks, in the order of `inputs` whatever the order of the streams."""
    return [streams[name].tokens for name in inputs], [streams[name].mask for name in inputs]


def put(streams: Streams, inputs: tuple[str, ...], tokens: Sequence[Float[Tensor, "B _T D"]]) -> Streams:
    """The streams with these tokens, zero where masked; masks and maps are those given."""
    fresh = dict(zip(inputs, tokens, strict=True))
    return {n: Stream(fresh[n] * s.mask[..., None], s.mask, s.maps) for n, s in streams.items()}


def presence(masks: Masks) -> Float[Tensor, "B N"]:
    """1 for every input that is there, 0 for a missing one."""
    return torch.stack([mask.any(1) for mask in masks], 1).float()
