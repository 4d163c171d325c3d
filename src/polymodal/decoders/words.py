"""Tokens that are said, as vectors, and the scores of the next one."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class Words(nn.Module):
    """A learned vector for each of `size` tokens that can be said, and for each of `starts` that begin a sentence.

    (V + K)·E parameters.
    """

    def __init__(self, size: int, starts: int, width: int) -> None:
        super().__init__()
        self.size, self.said, self.starts = size, nn.Embedding(size, width), nn.Embedding(starts, width)
        for table in (self.said, self.starts):
            nn.init.normal_(table.weight, std=width**-0.5)

    def forward(self, ids: Int[Tensor, "B L"]) -> Float[Tensor, "B L E"]:
        words = self.said(ids.clamp(max=self.size - 1))
        return torch.where((ids < self.size)[..., None], words, self.starts((ids - self.size).clamp(min=0)))

    def head(self, tied: bool) -> nn.Linear:
        """Scores of the tokens; tied, their weights are the tokens' own vectors (Press and Wolf 2017)."""
        head = nn.Linear(self.said.embedding_dim, self.size)
        if tied:
            head.weight = self.said.weight
        return head
