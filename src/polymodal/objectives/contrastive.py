"""Bringing what two inputs say of the same row together before they are joined."""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from polymodal.core.contracts import Gather
from polymodal.core.contrast import digests, everyone, nearest
from polymodal.core.schema import Positive, Rate, Wired
from polymodal.core.streams import Cells, Notes, Streams, pool


class Contrastive(nn.Module):
    """Of all rows in the batch, a row's own other input shall be the nearest (InfoNCE), for every pair of inputs.

    The mean token of each input, before attention and fusion, goes through a linear map of its own and to length 1:
    `u_b`, `v_b` for row b and a pair of inputs, `s(u, v) = u · v / τ`. For the rows that have both

        L_b = −½ [ln e^s(u_b, v_b) / (e^s(u_b, v_b) + Σ_c e^s(u_b, v_c))  +  the same from v_b to u_c]

    summed over the rows c, of all processes, that have the input and show another cell in both inputs: five captions of
    one picture are not pushed away from it. `Notes.losses["align"]` [B] is `weight` times the mean of L over the pairs
    of inputs, 0 for a pair of which the row lacks one. The maps are used in training only.

    Cost: N·(D + 1)·width parameters; N·D·width + N·(N − 1)/2·B·width multiplications per row of a batch of B.
    Sources: van den Oord et al., "Representation Learning with Contrastive Predictive Coding", 2018 (InfoNCE); before
    the fusion, with linear maps: Li et al., "Align before Fuse", NeurIPS 2021 (ALBEF), without its momentum encoders.

    Settings: `weight`; `temperature`, τ; `width` of the vectors that are compared.
    """

    def __init__(
        self,
        *,
        inputs: Wired[tuple[str, ...]],
        width_in: Wired[int],
        weight: Rate = 0.1,
        temperature: Rate = 0.07,
        width: Positive = 128,
    ) -> None:
        super().__init__()
        self.inputs, self.weight, self.temperature = inputs, weight, temperature
        self.maps = nn.ModuleList(nn.Linear(width_in, width) for _ in inputs)

    def forward(self, streams: Streams, cells: dict[str, Cells], gather: Gather | None) -> Notes:
        views = [self._view(streams, cells, name, place) for place, name in enumerate(self.inputs)]
        all_rows = [View(*everyone(tuple(view), gather)) for view in views]
        total = views[0].vectors.new_zeros(len(views[0].present))
        pairs = list(combinations(range(len(views)), 2))
        for i, j in pairs:
            mine, theirs = (views[i], views[j]), (all_rows[i], all_rows[j])
            total = total + _nearest(mine, theirs, self.temperature) / len(pairs)
        return Notes({"align": self.weight * total})

    def _view(self, streams: Streams, cells: dict[str, Cells], name: str, place: int) -> View:
        stream = streams[name]
        vectors = self.maps[place](pool(stream.tokens, stream.mask)).float()
        return View(F.normalize(vectors, dim=1), stream.mask.any(1), digests(cells[name]))


class View(NamedTuple):
    """What one input says of the rows."""

    vectors: Float[Tensor, "B E"]  # of length 1
    present: Bool[Tensor, " B"]
    shown: Int[Tensor, "B K"]  # which cells the row shows, -1 where it shows none


def _nearest(mine: tuple[View, View], theirs: tuple[View, View], temperature: float) -> Float[Tensor, " B"]:
    """The loss of each of my rows, among all rows; 0 where one of the two inputs is missing."""
    same = (mine[0].shown[:, None] == theirs[0].shown).all(2) | (mine[1].shown[:, None] == theirs[1].shown).all(2)
    own = (mine[0].vectors * mine[1].vectors).sum(1) / temperature
    found = torch.zeros_like(own)
    for one, other in ((mine[0], theirs[1]), (mine[1], theirs[0])):
        against = one.vectors @ other.vectors.T / temperature
        found = found + nearest(own[:, None], against, same | ~other.present)[:, 0] / 2
    return found.where(mine[0].present & mine[1].present, 0.0)
