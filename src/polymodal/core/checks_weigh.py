"""The public checker of what weighs tasks against each other; see `checks`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from polymodal.core.checks import _check_saving, _fresh
from polymodal.core.contracts import Weigh


def check_weigh(make: Callable[[], Any], tasks: int, steps: int = 30) -> None:
    """Check the Weigh contract, for `make` built for so many tasks, on losses and gradients that differ and fall.

    Weights are finite, not below 0, without a gradient, and a copy; a task without targets is not touched by its zero
    loss; nothing is learned by gradient; what is learned is saved, and a copy goes on as the first one does.
    """
    part: Any = _fresh(make, Weigh)
    assert not list(part.parameters()), "what is learned belongs in buffers: the optimiser never sees it"
    _check_weights(part, tasks)
    part.weights().zero_()
    assert part.weights().any(), "weights() must be a copy"
    _learn(part, tasks, range(steps))
    _check_weights(part, tasks)
    other = make()
    other.load_state_dict(part.state_dict())
    _learn(part, tasks, range(steps, 2 * steps))
    _learn(other, tasks, range(steps, 2 * steps))
    assert torch.equal(part.weights(), other.weights()), "a part with the same state goes on otherwise"
    _check_saving(part, make, _weights)


def _weights(part: Any) -> Tensor:
    return part.weights()


def _learn(part: Any, tasks: int, steps: range) -> None:
    g = torch.Generator().manual_seed(steps.start)
    for step in steps:
        losses = 10.0 ** torch.arange(-2, tasks - 2) * (0.9**step + 0.1 * torch.rand(tasks, generator=g))
        known = torch.arange(tasks) != step % (tasks + 1)
        losses = losses.where(known, 0.0)
        norms = 3 * losses if part.due(step) else None
        part.step(losses, norms, known)
        if step % 5 == 4:
            part.epoch(losses, known)
        _check_weights(part, tasks)


def _check_weights(part: Any, tasks: int) -> None:
    weights: Tensor = part.weights()
    assert weights.shape == (tasks,), f"{tuple(weights.shape)} weights for {tasks} tasks"
    assert torch.isfinite(weights).all(), "a weight is not finite"
    assert (weights >= 0).all(), "a weight is below 0"
    assert not weights.requires_grad, "weights carry a gradient"
