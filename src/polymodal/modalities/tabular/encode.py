"""Encoders of {"numbers": [N F], "known": [N F], "codes": [N G]}: a multilayer perceptron, a Transformer of columns."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from polymodal.core.errors import SpecError
from polymodal.core.schema import Chance, Json, Positive, Wired
from polymodal.core.streams import Stream
from polymodal.core.transformer import TransformerStack
from polymodal.modalities.tabular.columns import FIRST_CODE


class Categories(nn.Module):
    """A learned vector for every category of every column, in one table: codes [N G] -> [N G D].

    The vectors for missing and unseen values start at zero, so that a value never met in training says nothing.
    """

    starts: Tensor  # where each column's vectors begin

    def __init__(self, sizes: list[int], width: int) -> None:
        super().__init__()
        starts = torch.tensor([0, *sizes]).cumsum(0)
        self.register_buffer("starts", starts[:-1], persistent=False)
        self.table = nn.Embedding(int(starts[-1]), width)
        bound = width**-0.5
        with torch.no_grad():
            self.table.weight.uniform_(-bound, bound)
            for start in starts[:-1].tolist():
                self.table.weight[start : start + FIRST_CODE] = 0.0

    def forward(self, codes: Int[Tensor, "N G"]) -> Float[Tensor, "N G D"]:
        return self.table(codes + self.starts)


class _TabularEncoder(nn.Module):
    """What both share: no maps, nothing to ask of the reader, the sizes of the fitted columns."""

    channels: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()

    def __init__(self, field: dict) -> None:
        super().__init__()
        self.numbers = len(field["numeric"])
        self.sizes = [len(column["categories"]) + FIRST_CODE for column in field["categorical"]]
        if not self.numbers + len(self.sizes):
            raise SpecError("columns", "no record with a column could be read", advice="look at the ledger of bad rows")

    @staticmethod
    def wants(settings: Json, files: Path) -> Json:
        return {}


class TabularMLP(_TabularEncoder):
    """A multilayer perceptron on all columns at once, T = 1: numbers, which of them are known, embedded categories.

    `layers` times linear, GELU, dropout. `embed` is the width of a category's vector.
    """

    def __init__(
        self,
        *,
        field: Wired[dict],
        width: Positive = 128,
        layers: Positive = 2,
        embed: Positive = 16,
        dropout: Chance = 0.0,
    ) -> None:
        super().__init__(field)
        self.width = width
        self.categories = Categories(self.sizes, embed) if self.sizes else None
        size = 2 * self.numbers + len(self.sizes) * embed
        steps = [nn.Sequential(nn.Linear(n, width), nn.GELU(), nn.Dropout(dropout))
                 for n in [size] + [width] * (layers - 1)]  # fmt: skip
        self.body = nn.Sequential(*steps)

    def forward(self, data: dict[str, Tensor]) -> Stream:
        x = [data["numbers"], data["known"].to(data["numbers"].dtype)]
        if self.categories is not None:
            x.append(self.categories(data["codes"]).flatten(1))
        token = self.body(torch.cat(x, 1))[:, None]
        return Stream(token, torch.ones_like(token[..., 0], dtype=torch.bool))


class FTTransformer(_TabularEncoder):
    """FT-Transformer: a token for every column, and a Transformer encoder over them.

    Gorishniy et al. 2021, "Revisiting Deep Learning Models for Tabular Data", here with the final normalisation of
    every token that `TransformerStack` has.

    A number x of column j gives x w_j + b_j, or a learned m_j when it is missing; a category its vector + b_j.
    `tokens`: "all" gives the class token and those of the columns (T = 1 + F + G), "columns" no class token,
    "class" that token alone (T = 1), as in the paper. Raises SpecError when `heads` does not divide `width`.
    """

    def __init__(
        self,
        *,
        field: Wired[dict],
        width: Positive = 64,
        layers: Positive = 3,
        heads: Positive = 8,
        ratio: Positive = 2,
        dropout: Chance = 0.1,
        tokens: Literal["all", "columns", "class"] = "all",
    ) -> None:
        super().__init__(field)
        self.width, self.tokens = width, tokens
        self.slopes = _learned(self.numbers, width) if self.numbers else None
        self.missing = _learned(self.numbers, width) if self.numbers else None
        self.categories = Categories(self.sizes, width) if self.sizes else None
        self.offsets = _learned(self.numbers + len(self.sizes), width)
        self.leader = None if tokens == "columns" else _learned(1, width)
        self.stack = TransformerStack(width=width, layers=layers, heads=heads, dropout=dropout, ratio=ratio)

    def forward(self, data: dict[str, Tensor]) -> Stream:
        x = self._columns(data)
        if self.leader is not None:
            x = torch.cat([_all(self.leader, len(x)), x], 1)
        mask = torch.ones_like(x[..., 0], dtype=torch.bool)
        x = self.stack(x, mask)
        return Stream(x[:, :1], mask[:, :1]) if self.tokens == "class" else Stream(x, mask)

    def _columns(self, data: dict[str, Tensor]) -> Float[Tensor, "N C D"]:
        parts, rows = [], len(data["numbers"])
        if self.slopes is not None and self.missing is not None:
            numbers = data["numbers"][..., None] * _all(self.slopes, rows)
            parts.append(torch.where(data["known"][..., None], numbers, _all(self.missing, rows)))
        if self.categories is not None:
            parts.append(self.categories(data["codes"]))
        return torch.cat(parts, 1) + _all(self.offsets, rows)


def _learned(count: int, width: int) -> nn.Embedding:
    """`count` learned vectors, uniform within 1 / sqrt(width) as in the paper."""
    table = nn.Embedding(count, width)
    nn.init.uniform_(table.weight, -(width**-0.5), width**-0.5)
    return table


def _all(table: nn.Embedding, rows: int | torch.SymInt) -> Float[Tensor, "N C D"]:
    """The whole table for each of `rows` rows: looked up row by row, as gradients of single rows need it."""
    return table(torch.arange(table.num_embeddings, device=table.weight.device).expand(rows, -1))
