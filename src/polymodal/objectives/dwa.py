"""Tasks weighed by how fast their losses fall."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from polymodal.core.schema import Rate, Wired


class DynamicWeightAverage(nn.Module):
    """After every epoch the tasks whose losses fell least are given more weight.

        w_i = N · e^(r_i / τ) / Σ_j e^(r_j / τ)         r_i = L_i(last epoch) / L_i(the one before)

    over the N tasks, L the mean training loss of an epoch; all weights are 1 for the first two epochs, and r is 1 for a
    task that had no targets in one of them. A task's fixed weight multiplies w. w and the last losses are buffers of
    the model: a training that was broken off goes on with them.

    Cost: nothing to speak of. Source: Liu, Johns, Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019.

    Settings: `temperature`, τ: the larger, the nearer to equal weights.
    """

    def __init__(self, *, tasks: Wired[tuple[str, ...]], temperature: Rate = 2.0) -> None:
        super().__init__()
        self.temperature = temperature
        self.weight: Tensor
        self.before: Tensor
        self.register_buffer("weight", torch.ones(len(tasks)))
        self.register_buffer("before", torch.zeros(len(tasks)))

    def weights(self) -> Float[Tensor, " T"]:
        return self.weight.clone()

    def due(self, steps: int) -> bool:
        return False

    def step(self, losses: Float[Tensor, " T"], norms: Float[Tensor, " T"] | None, known: Bool[Tensor, " T"]) -> None:
        pass

    @torch.no_grad()
    def epoch(self, losses: Float[Tensor, " T"], known: Bool[Tensor, " T"]) -> None:
        had = known & (self.before > 0)
        ratio = torch.where(had, losses / self.before.where(had, 1.0), 1.0)
        if bool((self.before > 0).any()):
            self.weight.copy_(len(ratio) * (ratio / self.temperature).softmax(0))
        self.before.copy_(losses.where(known, self.before))
