"""What every picture encoder ends with: a map's grid -> tokens."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from polymodal.core.streams import Stream


def grid_tokens(features: Float[Tensor, "N C H W"]) -> Float[Tensor, "N T C"]:
    """The places of a map as tokens, row by row: T = H W."""
    return features.flatten(2).transpose(1, 2)


def whole(tokens: Float[Tensor, "N T D"], maps: tuple[Tensor, ...]) -> Stream:
    """A stream in which every token is real: pictures have no padding."""
    return Stream(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device), maps)
