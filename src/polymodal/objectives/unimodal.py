"""A loss for every input by itself, beside that of all together."""

from __future__ import annotations

from typing import Any

from torch import nn

from polymodal.core.contracts import Gather
from polymodal.core.schema import Rate, Wired
from polymodal.core.streams import Notes, Streams, Target


class Unimodal(nn.Module):
    """`L = L_joint + weight · Σ_i L_i`: every input must also answer by itself, through a head of its own.

    `L_i` is the tasks' loss of the mean token of input i before attention, summed over the tasks with their weights,
    and zero in rows that lack the input. An input that the joint answer hardly needs goes on learning. The heads are
    used in training only. `Notes.losses["unimodal"]` [B] is `weight · Σ_i L_i`.

    Cost: one head per input and task: N·(D + 1)·C parameters, N·(T·D + D·C) multiplications, for heads of C outputs.
    Sources: the auxiliary losses of Lee et al., "Deeply-Supervised Nets", AISTATS 2015, on single modalities, as in the
    naive multi-task blend of Wang et al., "What Makes Training Multi-Modal Classification Networks Hard?", CVPR 2020.

    Settings: `weight`.
    """

    def __init__(
        self, *, inputs: Wired[tuple[str, ...]], width: Wired[int], probes: Wired[Any], weight: Rate = 0.3
    ) -> None:
        super().__init__()
        self.probes, self.weight = probes, weight

    def forward(self, streams: Streams, targets: dict[str, Target], gather: Gather | None) -> tuple[Streams, Notes]:
        return streams, Notes({"unimodal": self.weight * self.probes.losses(streams, targets, gather).sum(1)})
