"""Schedules against torch's own, the averaged weights against their definition, the optimiser's state both ways."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from polymodal.core.settings import Train
from polymodal.work.optimize import Average, factor, load_optimizer, make_optimizer, optimizer_tensors, set_rate


def rates(settings: Train, total: int, per_epoch: int) -> list[float]:
    return [factor(settings, s, total, s // per_epoch, 1.0) for s in range(total)]


def test_cosine_and_linear_against_torch() -> None:
    parameter = nn.Parameter(torch.zeros(1))
    for name, make in {
        "cosine": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=20),
        "linear": lambda o: torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.0, total_iters=20),
    }.items():
        optimizer = torch.optim.SGD([parameter], lr=1.0)
        scheduler, expected = make(optimizer), []
        for _ in range(20):
            expected.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        assert rates(Train(schedule=name, warmup=0.0), 20, 5) == pytest.approx(expected, abs=1e-6)


def test_warm_up_rises_to_the_peak_and_steps_fall() -> None:
    warm = rates(Train(schedule="constant", warmup=0.25), 20, 5)
    assert warm[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert set(warm[5:]) == {1.0}
    stepped = rates(Train(schedule="step", warmup=0.0, step_epochs=2, factor=0.5), 20, 5)
    assert stepped == [1.0] * 10 + [0.5] * 10
    assert factor(Train(schedule="plateau", warmup=0.0), 3, 20, 0, 0.25) == 0.25


def test_average_against_its_definition() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = Average(model, 0.9)
    expected = model[0].weight.detach().clone()
    for step in range(30):
        with torch.no_grad():
            model[0].weight += 1
            model[1].num_batches_tracked += 1
        average.update(model, step)
        d = min(0.9, (1 + step) / (10 + step))
        expected = d * expected + (1 - d) * model[0].weight.detach()
    torch.testing.assert_close(average.weights["0.weight"], expected)
    assert average.weights["1.num_batches_tracked"] == 30


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_an_optimiser_goes_on_as_if_nothing_had_happened(name: str) -> None:
    settings = Train(optimizer=name)

    def make() -> tuple[nn.Linear, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        return model, make_optimizer([{"params": list(model.parameters()), "lr": 0.1, "peak": 0.1}], settings)

    def step(model: nn.Linear, optimizer: torch.optim.Optimizer, i: int) -> None:
        set_rate(optimizer, 1 / (i + 1))
        optimizer.zero_grad()
        (model(torch.full((1, 3), float(i))) ** 2).sum().backward()
        optimizer.step()

    one, first = make()
    for i in range(6):
        step(one, first, i)
    two, second = make()
    for i in range(3):
        step(two, second, i)
    saved, weights = {k: v.clone() for k, v in optimizer_tensors(second).items()}, two.state_dict()
    three, third = make()
    three.load_state_dict(weights)
    load_optimizer(third, saved)
    for i in range(3, 6):
        step(three, third, i)
    assert torch.equal(one.weight, three.weight)
    assert math.isclose(third.param_groups[0]["lr"], 0.1 / 6)
