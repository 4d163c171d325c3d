"""The two towers of `recommend`: an item by what it shows, a user by the items that came before."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from polymodal.core.recurrent import CELLS
from polymodal.core.streams import Embedded, Stream, Streams, pool
from polymodal.core.transformer import TransformerStack, rows_of
from polymodal.tasks.head import HeadNorm, head

Order = Literal["mean", "gru", "transformer"]


def each_column(stream: Stream, columns: int) -> tuple[Float[Tensor, "B K D"], Bool[Tensor, "B K"]]:
    """The mean token of each column of an input, [B K*T D] -> [B K D], and whether it holds anything."""
    tokens = stream.tokens.unflatten(1, (columns, -1))
    mask = stream.mask.unflatten(1, (columns, -1))
    return pool(tokens.flatten(0, 1), mask.flatten(0, 1)).unflatten(0, mask.shape[:2]), mask.any(2)


class ItemTower(nn.Module):
    """What N inputs show of K items -> a vector of length 1 for each.

    The mean tokens of an item's inputs, zeros for those it lacks, with N bits that say which are there, go through a
    linear layer or a hidden one, alike for all columns: an item has the same vector wherever it stands.
    """

    def __init__(
        self, *, inputs: tuple[str, ...], columns: int, width: int, dim: int, hidden: int, dropout: float,
        norm: HeadNorm,
    ) -> None:  # fmt: skip
        super().__init__()
        self.inputs, self.columns = inputs, columns
        self.net = head(len(inputs) * (width + 1), dim, hidden, dropout, norm)

    def forward(self, streams: Streams) -> Embedded:
        shown = [each_column(streams[name], self.columns) for name in self.inputs]
        there = torch.stack([present for _, present in shown], 2)
        told = torch.cat([*(means for means, _ in shown), there.to(shown[0][0].dtype)], 2)
        present = there.any(2)
        vectors = F.normalize(self.net(told.flatten(0, 1)).float(), dim=1).unflatten(0, present.shape)
        return Embedded(vectors * present[..., None], present)


class UserTower(nn.Module):
    """The vectors of the H earlier items, the latest first, and what is told of the user -> a vector of length 1.

    To their mean, so that a user begins near to what the user had, a linear map adds, by `history`: their mean again,
    in no order (`mean`); the state of a GRU after the latest of them (`gru`); what a learned token of the user's has
    seen, of items that know how many came after them (`transformer`). Missing ones leave no gap. A user without any
    begins with a learned vector. What is told of the user, `about`, is added by a linear map.
    """

    def __init__(
        self, *, history: Order, earlier: int, dim: int, layers: int, heads: int, dropout: float, about: int
    ) -> None:
        super().__init__()
        self.history, self.earlier = history, earlier
        self.cold = nn.Embedding(1, dim)
        if earlier:
            self.out = nn.Linear(dim, dim)
        if earlier and history == "transformer":
            self.place, self.user = nn.Embedding(earlier, dim), nn.Embedding(1, dim)
            self.stack = TransformerStack(width=dim, layers=layers, heads=heads, dropout=dropout)
            for table in (self.place, self.user):
                nn.init.normal_(table.weight, std=0.02)
        elif earlier and history == "gru":
            self.gru = CELLS["gru"](dim, dim, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        self.about = nn.Linear(about, dim) if about else None

    def forward(
        self, items: Float[Tensor, "B H E"], present: Bool[Tensor, "B H"], about: Float[Tensor, "B A"] | None
    ) -> Float[Tensor, "B E"]:
        found = rows_of(self.cold, len(items))[:, 0]
        if self.earlier:
            told = getattr(self, f"_{self.history}")(items, present)
            found = torch.where(present.any(1, keepdim=True), pool(items, present) + self.out(told), found)
        if self.about is not None and about is not None:
            found = found + self.about(about)
        return F.normalize(found.float(), dim=1)

    def _mean(self, items: Float[Tensor, "B H E"], present: Bool[Tensor, "B H"]) -> Float[Tensor, "B E"]:
        return pool(items, present)

    def _gru(self, items: Float[Tensor, "B H E"], present: Bool[Tensor, "B H"]) -> Float[Tensor, "B E"]:
        """The oldest first; those that are missing at the end, behind the state that is read."""
        there = present.flip(1)
        order = (~there).to(torch.int8).argsort(dim=1, stable=True)
        states, _ = self.gru(items.flip(1).take_along_dim(order[..., None], 1))
        last = (there.sum(1) - 1).clamp(min=0)
        return states.take_along_dim(last[:, None, None], 1)[:, 0]

    def _transformer(self, items: Float[Tensor, "B H E"], present: Bool[Tensor, "B H"]) -> Float[Tensor, "B E"]:
        since = (present.cumsum(1) - 1).clamp(min=0)
        tokens = torch.cat([rows_of(self.user, len(items)), (items + self.place(since)) * present[..., None]], 1)
        mask = torch.cat([torch.ones_like(present[:, :1]), present], 1)
        return self.stack(tokens, mask)[:, 0]
