"""Vectors of past rows, as further negatives."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from polymodal.tasks.retrieve.views import View, joined


class Queue(nn.Module):
    """The last `rows` rows of all processes, by input; persistent, so that a training goes on as it stopped.

    The vectors are those of their own time: weights have moved since then, slowly enough once training has settled
    (Wang et al., "Cross-Batch Memory for Embedding Learning", CVPR 2020).
    """

    def __init__(self, *, inputs: Sequence[str], rows: int, columns: Sequence[int], tokens: int, dim: int) -> None:
        super().__init__()
        self.inputs, self.rows = tuple(inputs), rows
        self.at: Tensor
        self.register_buffer("at", torch.zeros((), dtype=torch.int64))
        for place, cells in enumerate(columns):
            empty = View(
                torch.zeros(rows, cells, tokens, dim),
                torch.zeros(rows, cells, tokens, dtype=torch.bool),
                torch.full((rows, cells), -1),
                torch.full((rows,), -1),
            )
            for name, column in empty._asdict().items():
                self.register_buffer(f"{name}_{place}", column)

    def after(self, views: dict[str, View]) -> dict[str, View]:
        """The views with the past rows behind them, copied: they may still be needed when they are replaced."""
        return {name: joined(views[name], View(*self._of(i))) for i, name in enumerate(self.inputs)}

    @torch.no_grad()
    def push(self, views: dict[str, View]) -> None:
        """The oldest rows give way."""
        count = min(self.rows, len(next(iter(views.values())).group))
        places = (self.at + torch.arange(count, device=self.at.device)) % self.rows
        for i, name in enumerate(self.inputs):
            for column, fresh in zip(self._of(i), views[name], strict=True):
                column[places] = fresh[-count:].detach().to(column.dtype)
        self.at.copy_((self.at + count) % self.rows)

    def _of(self, place: int) -> list[Tensor]:
        return [getattr(self, f"{name}_{place}") for name in View._fields]
