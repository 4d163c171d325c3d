"""Tasks weighed so that they pull at the streams alike."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from polymodal.core.schema import Positive, Rate, Wired


class GradNorm(nn.Module):
    """Weights under which all tasks send gradients of like size to what they share, the slower ones larger ones.

    g_i is the norm of the gradient of task i's mean loss with respect to the streams at the common width, before
    attention and fusion, over all rows and all inputs of a step. With `mean` over the tasks that have targets in it

        G_i = w_i g_i                                   the pull of task i
        r_i = (L_i / L_i(0)) / mean_j (L_j / L_j(0))    how far behind it is; L(0) is its first loss
        target_i = mean_j G_j · r_i^α
        ln w_i ← ln w_i − lr · sign(G_i − target_i) · G_i / mean_j G_j

    and then all w are scaled so that their sum is the number of tasks. The last line is a gradient step on
    `Σ_i |G_i − target_i| / mean_j G_j`, targets and mean held fixed, in the logarithm of w: weights stay positive and
    losses of any size are balanced at the same pace. The paper takes the step in w itself, with the optimiser, and
    measures gradients at the weights of the last shared layer; streams are what all tasks of a model here share,
    whatever each reads and prepares, and their gradients add up over micro-batches and processes. A task's fixed weight
    multiplies what comes out. w and L(0) are buffers of the model: a training that was broken off goes on with them.

    Cost: for each task one backward pass more from its loss to the streams, not through the encoders, in every
    `every`-th step. Source: Chen, Badrinarayanan, Lee, Rabinovich, "GradNorm", ICML 2018.

    Settings: `alpha`, α, 0 for equal pulls; `lr`, of ln w; `every`, in steps of the optimiser. `train.turns` must be
    all: tasks that do not stand in the same step cannot be compared.
    """

    together = True

    def __init__(
        self, *, tasks: Wired[tuple[str, ...]], alpha: Rate = 1.5, lr: Rate = 0.025, every: Positive = 1
    ) -> None:
        super().__init__()
        self.alpha, self.lr, self.every = alpha, lr, every
        self.weight: Tensor
        self.first: Tensor
        self.register_buffer("weight", torch.ones(len(tasks)))
        self.register_buffer("first", torch.zeros(len(tasks)))

    def weights(self) -> Float[Tensor, " T"]:
        return self.weight.clone()

    def due(self, steps: int) -> bool:
        return steps % self.every == 0

    @torch.no_grad()
    def step(self, losses: Float[Tensor, " T"], norms: Float[Tensor, " T"] | None, known: Bool[Tensor, " T"]) -> None:
        self.first.copy_(self.first.where((self.first > 0) | ~known, losses))
        known = known & (self.first > 0)
        if norms is not None and known.sum() > 1:
            ratio = losses / self.first.where(known, 1.0)
            moved = pulled(self.weight, norms, ratio, known, self.alpha, self.lr)
            self.weight.copy_(moved * (len(moved) / moved.sum()))

    def epoch(self, losses: Float[Tensor, " T"], known: Bool[Tensor, " T"]) -> None:
        pass


def pulled(
    weight: Float[Tensor, " T"], norms: Float[Tensor, " T"], ratio: Float[Tensor, " T"], known: Bool[Tensor, " T"],
    alpha: float, lr: float,
) -> Float[Tensor, " T"]:  # fmt: skip
    """The weights after a step towards like pulls, not scaled yet; as they were where nothing pulls at all."""
    pull, behind = (weight * norms).where(known, 0.0), ratio.where(known, 0.0)
    mean = pull.sum() / known.sum()
    aim = mean * (behind * known.sum() / behind.sum().clamp(min=1e-12)) ** alpha
    change = lr * (pull - aim).sign() * pull / mean.clamp(min=1e-12)
    return torch.where(known & (mean > 0), weight * (-change).exp(), weight)
