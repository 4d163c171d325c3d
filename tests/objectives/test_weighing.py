"""Weighing tasks: closed forms, steps worked out by hand, and toys on which the right weights are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from polymodal.core.checks_weigh import check_weigh
from polymodal.objectives.dwa import DynamicWeightAverage
from polymodal.objectives.gradnorm import GradNorm, pulled
from polymodal.objectives.uncertainty import FAR, Uncertainty

ALL = torch.tensor([True, True])
PARTS = {"uncertainty": Uncertainty, "gradnorm": GradNorm, "dwa": DynamicWeightAverage}


@pytest.mark.parametrize("name", PARTS)
def test_contract(name: str) -> None:
    check_weigh(lambda: PARTS[name](tasks=("a", "b", "c")), 3)


@pytest.mark.parametrize("name", PARTS)
def test_all_begin_as_the_plain_sum(name: str) -> None:
    assert PARTS[name](tasks=("a", "b", "c")).weights().tolist() == [1, 1, 1]


# Uncertainty


def test_a_step_is_that_of_the_gradient_of_what_is_minimised() -> None:
    part, losses = Uncertainty(tasks=("a", "b"), lr=0.1), torch.tensor([4.0, 0.5])
    part.log_variance.copy_(torch.tensor([0.3, -0.7]))
    s = part.log_variance.clone().requires_grad_()
    ((-s).exp() * losses + s).sum().backward()
    part.step(losses, None, ALL)
    torch.testing.assert_close(part.log_variance, (s - 0.1 * s.grad).detach())


def test_the_variance_becomes_the_loss() -> None:
    """d/ds (e^-s L + s) = 0 at e^s = L; for noisy losses at their mean."""
    part, losses = Uncertainty(tasks=("a", "b"), lr=0.05), torch.tensor([7.0, 0.02])
    for _ in range(2000):
        part.step(losses, None, ALL)
    torch.testing.assert_close(part.log_variance.exp(), losses, rtol=1e-3, atol=0)
    torch.testing.assert_close(part.weights() * losses, torch.ones(2), rtol=1e-3, atol=0)
    noisy, g = Uncertainty(tasks=("a", "b"), lr=0.01), torch.Generator().manual_seed(0)
    for _ in range(6000):
        noisy.step(losses * 2 * torch.rand(2, generator=g), None, ALL)
    torch.testing.assert_close(noisy.log_variance.exp(), losses, rtol=0.15, atol=0)


def test_the_weighted_sum_has_the_gradient_of_the_sum_of_logarithms() -> None:
    """Where e^s = L, the gradient of e^-s L is that of ln L."""
    x = torch.tensor([3.0, 0.1], requires_grad=True)
    losses = torch.stack([x[0] ** 2, 5 * x[1] ** 4])
    (expected,) = torch.autograd.grad(losses.log().sum(), x, retain_graph=True)
    part = Uncertainty(tasks=("a", "b"))
    part.log_variance.copy_(losses.detach().log())
    (found,) = torch.autograd.grad((part.weights() * losses).sum(), x)
    torch.testing.assert_close(found, expected)


def test_no_target_no_step_and_no_weight_without_bounds() -> None:
    part = Uncertainty(tasks=("a", "b"), lr=0.5)
    for _ in range(100):
        part.step(torch.tensor([0.0, 0.0]), None, torch.tensor([True, False]))
    assert part.log_variance.tolist() == [-FAR, 0.0]
    part.step(torch.tensor([1e12, 1e12]), None, ALL)
    assert part.log_variance.tolist() == [FAR, FAR]


# GradNorm


def test_gradnorm_by_hand() -> None:
    """Weights 1, 1; gradients 3, 1; losses 4 -> 2 and 1 -> 0.9.

    G = 3, 1, mean 2; what is left of the losses 0.5, 0.9, mean 0.7; targets with alpha 1: 2 * 5/7 = 10/7 and
    2 * 9/7 = 18/7. The first pulls too much: ln w -= lr * 3/2; the second too little: ln w += lr * 1/2.
    """
    part = GradNorm(tasks=("a", "b"), alpha=1.0, lr=0.1)
    part.step(torch.tensor([4.0, 1.0]), None, ALL)  # the first losses; nothing was measured
    assert part.weights().tolist() == [1, 1]
    part.step(torch.tensor([2.0, 0.9]), torch.tensor([3.0, 1.0]), ALL)
    raw = [math.exp(-0.15), math.exp(0.05)]
    assert part.weights().tolist() == pytest.approx([2 * r / sum(raw) for r in raw])
    assert part.first.tolist() == [4.0, 1.0]


def test_the_slower_task_may_pull_more() -> None:
    """Pulls are equal, but b has lost nothing of its loss yet: with alpha 0 all is well, else b gains."""
    for alpha, moved in ((1e-9, False), (1.5, True)):
        found = pulled(torch.ones(2), torch.tensor([2.0, 2.0]), torch.tensor([0.2, 1.0]), ALL, alpha, 0.1)
        assert bool((found[1] > 1.01) and (found[0] < 0.99)) == moved


def test_a_step_is_that_of_the_gradient_in_the_logarithm() -> None:
    norms, ratio = torch.tensor([0.3, 5.0, 2.0]), torch.tensor([0.5, 0.9, 0.4])
    logs = torch.tensor([0.2, -0.5, 0.1], requires_grad=True)
    pull = logs.exp() * norms
    mean = pull.mean().detach()
    aim = mean * (ratio / ratio.mean()) ** 1.5
    ((pull - aim).abs().sum() / mean).backward()
    found = pulled(logs.detach().exp(), norms, ratio, torch.ones(3, dtype=torch.bool), 1.5, 0.05)
    torch.testing.assert_close(found, (logs - 0.05 * logs.grad).detach().exp())


def test_tasks_that_are_not_there_are_left_out_of_the_mean() -> None:
    part = GradNorm(tasks=("a", "b", "c"), alpha=1.0, lr=0.1)
    two = torch.tensor([True, True, False])
    part.step(torch.tensor([4.0, 1.0, 0.0]), None, two)
    part.step(torch.tensor([2.0, 0.9, 0.0]), torch.tensor([3.0, 1.0, 0.0]), two)
    raw = [math.exp(-0.15), math.exp(0.05), 1.0]
    assert part.weights().tolist() == pytest.approx([3 * r / sum(raw) for r in raw])
    kept = part.weights()
    part.step(torch.tensor([2.0, 0.0, 0.0]), torch.tensor([3.0, 0.0, 0.0]), torch.tensor([True, False, False]))
    assert torch.equal(part.weights(), kept), "one task alone has nothing to be balanced with"
    part.step(torch.tensor([2.0, 0.9, 5.0]), torch.zeros(3), torch.ones(3, dtype=torch.bool))
    torch.testing.assert_close(part.weights(), kept)  # nothing pulls
    assert part.first.tolist() == [4.0, 1.0, 5.0]
    assert [GradNorm(tasks=("a",), every=3).due(s) for s in range(4)] == [True, False, False, True]


def toy(part: nn.Module, scale: float, steps: int = 400) -> tuple[list[float], list[float]]:
    """Two regressions from a shared layer, the second's loss `scale` times as large; weights and pulls at the end."""
    torch.manual_seed(0)
    x, shared = torch.randn(64, 5), nn.Linear(5, 8)
    heads, goals = nn.ModuleList(nn.Linear(8, 3) for _ in range(2)), torch.randn(2, 64, 3)
    optimizer = torch.optim.SGD([*shared.parameters(), *heads.parameters()], lr=1e-2)
    pulls: torch.Tensor = torch.zeros(2)
    for _ in range(steps):
        stream = shared(x).tanh()
        losses = torch.stack([(h(stream) - t).square().mean() for h, t in zip(heads, goals, strict=True)])
        losses = losses * torch.tensor([1.0, scale])
        norms = torch.stack([torch.autograd.grad(one, stream, retain_graph=True)[0].norm() for one in losses])
        pulls = part.weights() * norms
        optimizer.zero_grad()
        (part.weights() * losses).sum().backward()
        optimizer.step()
        part.step(losses.detach(), norms, ALL)
    return part.weights().tolist(), pulls.tolist()


def test_a_task_of_a_hundred_times_the_scale_is_brought_into_balance() -> None:
    weights, pulls = toy(GradNorm(tasks=("a", "b"), alpha=1e-9), 100.0)
    assert max(pulls) / min(pulls) < 1.25
    assert 40 < weights[0] / weights[1] < 250
    assert sum(weights) == pytest.approx(2.0)
    even, _ = toy(GradNorm(tasks=("a", "b"), alpha=1e-9), 1.0)
    assert 0.5 < even[0] / even[1] < 2


# Dynamic weight average


def test_dwa_is_a_softmax_of_how_fast_losses_fell() -> None:
    part = DynamicWeightAverage(tasks=("a", "b", "c"), temperature=2.0)
    there = torch.ones(3, dtype=torch.bool)
    part.epoch(torch.tensor([4.0, 1.0, 2.0]), there)
    assert part.weights().tolist() == [1, 1, 1]
    part.epoch(torch.tensor([2.0, 0.9, 0.0]), torch.tensor([True, True, False]))
    each = np.exp(np.array([0.5, 0.9, 1.0]) / 2)
    np.testing.assert_allclose(part.weights(), 3 * each / each.sum(), rtol=1e-6)
    part.epoch(torch.tensor([1.0, 0.9, 1.0]), there)
    each = np.exp(np.array([0.5, 1.0, 0.5]) / 2)
    np.testing.assert_allclose(part.weights(), 3 * each / each.sum(), rtol=1e-6)
