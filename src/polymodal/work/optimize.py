"""Optimisers, learning-rate schedules as functions of the step, and the averaged weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from polymodal.core.settings import Train


def make_optimizer(groups: list[dict[str, Any]], settings: Train) -> torch.optim.Optimizer:
    """Adam (Kingma, Ba 2014), AdamW (Loshchilov, Hutter 2017) or SGD with momentum, over the given groups."""
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=settings.momentum, nesterov=settings.momentum > 0)
    if settings.optimizer == "adam":
        return torch.optim.Adam(groups, fused=True)
    return torch.optim.AdamW(groups, fused=True)


def factor(settings: Train, step: int, total: int, epoch: int, plateau: float) -> float:
    """What the peak learning rate is multiplied by in optimiser step `step` (from 0) of `total`.

    A linear warm-up over `warmup * total` steps, then the schedule. `plateau` is the factor that the scores so far
    have led to; it counts for that schedule only.
    """
    warm = round(settings.warmup * total)
    if step < warm:
        return (step + 1) / warm
    done = (step - warm) / max(1, total - warm)
    match settings.schedule:
        case "cosine":
            return 0.5 * (1 + math.cos(math.pi * done))
        case "linear":
            return 1.0 - done
        case "step":
            return float(settings.factor ** (epoch // settings.step_epochs))
        case "plateau":
            return plateau
        case _:
            return 1.0


def set_rate(optimizer: torch.optim.Optimizer, scale: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * scale


class Average:
    """Exponential moving average of the weights: a <- d a + (1 - d) w after every step; buffers are copied.

    The decay is held back at first, min(decay, (1 + step) / (10 + step)), so that the start is soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                self.weights[name].lerp_(value.detach(), 1 - decay)
            else:
                self.weights[name].copy_(value)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as flat tensors: `parameter number.name`."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{name}": v for i, entry in state.items() for name, v in entry.items() if isinstance(v, Tensor)}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    for path, value in tensors.items():
        number, _, name = path.partition(".")
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
