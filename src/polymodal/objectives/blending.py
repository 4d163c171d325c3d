"""Weighing the inputs' losses by how they generalise."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from polymodal.core.contracts import Gather
from polymodal.core.schema import Positive, Wired
from polymodal.core.streams import Notes, Streams, Target
from polymodal.objectives.gradient import weighed

LEAST = 0.01  # the smallest change of the gap that is believed, as a share of the validation loss before


class Blending(nn.Module):
    """Gradient blending: `L = w_0 L_joint + Σ_i w_i L_i`, weights that favour what generalises over what overfits.

    `L_i` is the loss of a head for input i alone, as in `unimodal`. After every `every` epochs all N + 1 losses are
    measured on the validation rows, V, and on as many training rows, T; since the last time

        G = V_before − V_now                                    how much was learned that holds for new rows
        O = (V_now − T_now) − (V_before − T_before)             how much more is only known of the training rows
        w ∝ G / O²                                              over the joint loss and the inputs, adding up to 1

    A loss whose V rose gets 0 (if all did, the weights stay), and |O| counts as at least 1 % of V_before, which would
    otherwise make a weight infinite. Weights are 1 / (N + 1) until there are two measurements. They are buffers of the
    model: a training that was broken off goes on with them.

    This is the online form, without the paper's separate trainings of each input: the heads learn together with the
    rest, from the same encoders. The joint loss is reported as it is and only its gradient is weighed;
    `Notes.losses["blending"]` [B] is `Σ_i w_i L_i`, `Notes.weights["blending"]` [B N+1] is w, the joint one last.
    Validation rows here take part in training, by N + 1 numbers: where that matters, judge on test rows.

    Cost: as `unimodal`; and a pass over the validation rows and as many training rows whenever the weights are set.
    Source: Wang, Tran, Feiszli, "What Makes Training Multi-Modal Classification Networks Hard?", CVPR 2020.

    Settings: `every`, in epochs.
    """

    def __init__(
        self, *, inputs: Wired[tuple[str, ...]], width: Wired[int], probes: Wired[Any], every: Positive = 1
    ) -> None:
        super().__init__()
        self.probes, self.every = probes, every
        self.weights: Float[Tensor, " N1"]
        self.before: Float[Tensor, "2 N1"]
        self.measured: Int[Tensor, ""]
        count = len(inputs) + 1
        self.register_buffer("weights", torch.full((count,), 1 / count))
        self.register_buffer("before", torch.zeros(2, count))
        self.register_buffer("measured", torch.zeros((), dtype=torch.int64))

    def forward(self, streams: Streams, targets: dict[str, Target], gather: Gather | None) -> tuple[Streams, Notes]:
        each, weights = self.probes.losses(streams, targets, gather), self.weights.clone()
        return streams, Notes({"blending": each @ weights[:-1]}, {"blending": weights.expand(len(each), -1)})

    def joint(self, loss: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """The loss as it is, its gradient times the joint weight."""
        return weighed(loss, self.weights[-1].clone())

    def due(self, epochs: int) -> bool:
        return epochs % self.every == 0

    def learn(self, train: list[float], valid: list[float]) -> None:
        """New weights from losses of each input by itself and, last, of all together; what is not finite is ignored."""
        if not all(math.isfinite(x) for x in (*train, *valid)):
            return
        now = torch.tensor([train, valid], dtype=torch.float64)
        if self.measured:
            found = blend(self.before.double().cpu(), now)
            if found is not None:
                self.weights.copy_(found)
        self.before.copy_(now)
        self.measured += 1


def blend(before: Float[Tensor, "2 N1"], now: Float[Tensor, "2 N1"]) -> Float[Tensor, " N1"] | None:
    """Weights `G / O²`, adding up to 1, from training and validation losses; None when no loss got better."""
    gain = (before[1] - now[1]).clamp(min=0)
    gap = ((now[1] - now[0]) - (before[1] - before[0])).abs()
    ratio = gain / gap.maximum(LEAST * before[1].abs()).clamp(min=1e-12).square()
    return ratio / ratio.sum() if ratio.sum() > 0 else None
