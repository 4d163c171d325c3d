"""Tasks weighed by how much noise there is in their answers."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from polymodal.core.schema import Rate, Wired

FAR = 10.0  # log-variances are kept within ± this: weights from 5e-5 to 2e4


class Uncertainty(nn.Module):
    """Every task's loss is divided by a variance, which is learned beside the model.

    What is minimised, over the model and over s, is

        L = Σ_i w_i (e^(−s_i) L_i + s_i)            s_i = ln σ_i²

    with w_i the fixed weight of the task: a Gaussian likelihood of variance σ², times 2. For a loss that stays as it is
    the best σ_i² is L_i: a task that cannot be answered well, or whose loss is measured in large units, counts for
    less, and what it loses is divided by what it usually loses. All s begin at 0, the plain sum.

    After every step of the optimiser each s takes a step of its own, `s ← s − lr (1 − e^(−s) L_i)`, the gradient of the
    above; so neither the optimiser's momentum nor weight decay, clipping or the schedule touch it. In the paper s is
    one of the optimiser's parameters, and a softmax's loss has a temperature in place of a variance, which comes to
    the factor 2; here all losses are treated alike. s is a buffer of the model: a training that was broken off goes on
    with it. A task without a target in a step keeps its s.

    Cost: nothing to speak of. Source: Kendall, Gal, Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses for
    Scene Geometry and Semantics", CVPR 2018.

    Settings: `lr`, of s.
    """

    def __init__(self, *, tasks: Wired[tuple[str, ...]], lr: Rate = 0.02) -> None:
        super().__init__()
        self.lr = lr
        self.log_variance: Tensor
        self.register_buffer("log_variance", torch.zeros(len(tasks)))

    def weights(self) -> Float[Tensor, " T"]:
        return (-self.log_variance).exp()

    def due(self, steps: int) -> bool:
        return False

    @torch.no_grad()
    def step(self, losses: Float[Tensor, " T"], norms: Float[Tensor, " T"] | None, known: Bool[Tensor, " T"]) -> None:
        moved = self.log_variance - self.lr * (1 - self.weights() * losses)
        self.log_variance.copy_(moved.clamp(-FAR, FAR).where(known, self.log_variance))

    def epoch(self, losses: Float[Tensor, " T"], known: Bool[Tensor, " T"]) -> None:
        pass
