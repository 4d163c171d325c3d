"""Losses of classification against torch and the formulas of the papers."""

import pytest
import torch
from torch.nn import functional as F

from polymodal.tasks import losses


def logits_and_labels(rows: int = 12, classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return torch.randn(rows, classes, generator=g) * 3, torch.randint(0, classes, (rows,), generator=g)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weights", [[1.0, 1, 1, 1], [0.5, 2, 1, 7]])
def test_one_of_is_cross_entropy(smoothing: float, weights: list) -> None:
    x, y = logits_and_labels()
    w = torch.tensor(weights)
    rows = losses.one_of(x, y, w, smoothing, None)
    expected = F.cross_entropy(x, y, weight=w, label_smoothing=smoothing)
    torch.testing.assert_close((rows * w[y]).sum() / w[y].sum(), expected)


def test_a_class_of_weight_nothing() -> None:
    x, y = logits_and_labels()
    w = torch.tensor([0.0, 1, 1, 1])
    rows = losses.one_of(x, y, w, 0.0, None)
    torch.testing.assert_close((rows * w[y]).sum() / w[y].sum(), F.cross_entropy(x, y, weight=w))
    assert torch.isfinite(losses.one_of(x, y, w, 0.2, None)).all()


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal(gamma: float) -> None:
    x, y = logits_and_labels()
    p = x.softmax(1)[torch.arange(12), y]
    torch.testing.assert_close(losses.one_of(x, y, torch.ones(4), 0.0, gamma), -((1 - p) ** gamma) * p.log())


def test_focal_of_zero_is_cross_entropy() -> None:
    x, y = logits_and_labels()
    for smoothing in (0.0, 0.1):
        expected = F.cross_entropy(x, y, label_smoothing=smoothing, reduction="none")
        torch.testing.assert_close(losses.one_of(x, y, torch.ones(4), smoothing, 0.0), expected)


@pytest.mark.parametrize("gamma", [None, 0.0, 0.3, 1.0, 2.0])
@pytest.mark.parametrize("size", [0.0, 50.0, 1e4])
def test_gradients_are_finite_when_sure(gamma: float | None, size: float) -> None:
    for loss, y in ((losses.one_of, torch.tensor([0, 1])), (losses.any_of, torch.tensor([[1.0, 0], [0, 1]]))):
        x = torch.tensor([[size, -size], [size, -size]], requires_grad=True)
        rows = loss(x, y, torch.ones(2), 0.0, gamma)
        assert torch.isfinite(rows).all()
        assert torch.isfinite(torch.autograd.grad(rows.sum(), x)[0]).all()


def test_a_class_not_seen_gives_a_finite_number() -> None:
    x, y = logits_and_labels()
    assert torch.isfinite(losses.one_of(x, torch.full_like(y, -1), torch.ones(4), 0.1, 2.0)).all()


def test_any_of_is_binary_cross_entropy() -> None:
    x, _ = logits_and_labels()
    y, w = (torch.rand(12, 4, generator=torch.Generator().manual_seed(1)) < 0.4).float(), torch.tensor([1.0, 2, 3, 0.5])
    expected = F.binary_cross_entropy_with_logits(x, y, pos_weight=w, reduction="none").mean(1)
    torch.testing.assert_close(losses.any_of(x, y, w, 0.0, None), expected)
    torch.testing.assert_close(losses.any_of(x, y, w, 0.0, 0.0), expected)
    smooth = F.binary_cross_entropy_with_logits(x, y * 0.8 + 0.1, pos_weight=w, reduction="none").mean(1)
    torch.testing.assert_close(losses.any_of(x, y, w, 0.2, None), smooth)


def test_any_of_focal() -> None:
    x, _ = logits_and_labels()
    y = (torch.rand(12, 4, generator=torch.Generator().manual_seed(1)) < 0.4).float()
    p = x.sigmoid()
    right = p * y + (1 - p) * (1 - y)
    expected = -((1 - right) ** 2 * right.log()).mean(1)
    torch.testing.assert_close(losses.any_of(x, y, torch.ones(4), 0.0, 2.0), expected, rtol=1e-4, atol=1e-6)


def test_half_precision_is_measured_in_full() -> None:
    x, y = logits_and_labels()
    torch.testing.assert_close(
        losses.one_of(x.bfloat16(), y, torch.ones(4), 0.1, None),
        losses.one_of(x.bfloat16().float(), y, torch.ones(4), 0.1, None),
    )
