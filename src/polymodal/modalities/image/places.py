"""Where a token of a picture is: a learned vector for every place of a grid."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Places(nn.Module):
    """Tokens of a grid [N H·W D] + a learned vector [H·W D] for each place.

    Convolutions look alike everywhere, so that without it a token of "top left" is told from one of "bottom right" by
    the picture's border alone. H·W·D parameters. Source: the position embeddings of Dosovitskiy et al., "An Image is
    Worth 16x16 Words", ICLR 2021.
    """

    def __init__(self, size: tuple[int, int], width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(size[0] * size[1], width)
        nn.init.normal_(self.table.weight, std=0.02)

    def forward(self, tokens: Float[Tensor, "N P D"]) -> Float[Tensor, "N P D"]:
        return tokens + self.table(torch.arange(tokens.shape[1], device=tokens.device))
