"""A Vision Transformer."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polymodal.core.errors import SpecError
from polymodal.core.schema import Chance, Json, Positive, Wired
from polymodal.core.streams import Stream
from polymodal.core.transformer import TransformerStack
from polymodal.modalities.image.pixels import grid_tokens, whole
from polymodal.modalities.pixels import Pixels


class ViT(nn.Module):
    """Dosovitskiy et al., "An image is worth 16x16 words", 2020: patches are tokens, with learned positions.

    Pictures whose sides `patch` does not divide are filled up with zeros at the right and the bottom. The tokens are
    the class token, where asked for, and then the patches row by row; the patches also stand in the maps.
    """

    def __init__(
        self,
        *,
        field: Wired[dict],
        patch: Positive = 8,
        width: Positive = 192,
        layers: Positive = 6,
        heads: Positive = 3,
        ratio: Positive = 4,
        dropout: Chance = 0.0,
        class_token: bool = False,
    ) -> None:
        super().__init__()
        if width % heads:
            fitting = [n for n in range(1, 33) if width % n == 0]
            raise SpecError("encoder.heads", f"must divide the width, {width}", given=heads, advice=f"one of {fitting}")
        self.pixels, self.width = Pixels(field), width
        self.channels, self.strides = (width,), (patch,)
        height, breadth = self.pixels.size
        self.fill = (0, -breadth % patch, 0, -height % patch)
        self.grid = (-(-height // patch), -(-breadth // patch))
        self.patches = nn.Conv2d(self.pixels.channels, width, patch, patch)
        self.first = nn.Embedding(1, width) if class_token else None
        self.positions = nn.Embedding(self.grid[0] * self.grid[1] + class_token, width)
        self.dropout = nn.Dropout(dropout)
        self.stack = TransformerStack(width=width, layers=layers, heads=heads, dropout=dropout, ratio=ratio)
        for table in (self.first, self.positions):
            if table is not None:
                nn.init.normal_(table.weight, std=0.02)

    @staticmethod
    def wants(settings: Json, files: Path) -> Json:
        return {}

    def forward(self, data: dict[str, Tensor]) -> Stream:
        picture = self.pixels(data["pixels"])
        x = grid_tokens(self.patches(F.pad(picture, self.fill)))
        zeros = torch.zeros(len(x), 1, dtype=torch.long, device=x.device)
        if self.first is not None:
            x = torch.cat([self.first(zeros), x], 1)
        places = torch.arange(self.positions.num_embeddings, device=x.device).expand(len(x), -1)
        x = self.dropout(x + self.positions(places))
        tokens = self.stack(x, torch.ones(x.shape[:2], dtype=torch.bool, device=x.device))
        patches = tokens[:, 1:] if self.first is not None else tokens
        return whole(tokens, (picture, patches.transpose(1, 2).unflatten(2, self.grid)))
