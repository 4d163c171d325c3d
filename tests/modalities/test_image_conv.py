"""The convolution that is a matrix product where maps are small: the same function, the same gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from polymodal.modalities.image import conv
from polymodal.modalities.image.conv import Conv2d


def gradients(layer: nn.Conv2d, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    x = x.clone().requires_grad_()
    out = layer(x)
    wanted = [x, *layer.parameters()]
    return out, *torch.autograd.grad(out, wanted, torch.linspace(-1, 1, out.numel(), dtype=x.dtype).view(out.shape))


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which products of matrices were taken."""
    taken: list[str] = []
    linear, to_weight = conv.F.linear, conv._to_weight
    monkeypatch.setattr(conv.F, "linear", lambda *a: taken.append("all") or linear(*a))
    monkeypatch.setattr(conv, "_to_weight", lambda *a: taken.append("weight") or to_weight(*a))
    return taken


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2), (7, 2)])
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 3), (1, 5), (4, 4), (5, 3), (4, 6), (8, 7)])
def test_it_is_the_usual_convolution(
    size: tuple[int, int], kernel: int, stride: int, bias: bool, last: bool, ways: list[str]
) -> None:
    torch.manual_seed(0)
    ours = Conv2d(3, 5, kernel, stride, bias=bias).double()
    usual = nn.Conv2d(3, 5, kernel, stride, padding=kernel // 2, bias=bias).double()
    usual.load_state_dict(ours.state_dict())
    x = torch.randn(4, 3, *size, dtype=torch.float64)
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    for found, expected in zip(gradients(ours, x), gradients(usual, x), strict=True):
        torch.testing.assert_close(found, expected)
    places = usual(x).shape[2] * usual(x).shape[3]
    assert ways == (["all"] if places <= conv.FEW else ["weight"] if places <= conv.SOME else [])
    ours.eval()
    ways.clear()
    assert torch.equal(ours(x), usual(x))
    assert not ways


@pytest.mark.parametrize("large", [False, True])
def test_in_16_bits_all_but_large_maps_take_the_product(
    large: bool, ways: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under autocast too, where the first convolution's input is still in fp32."""
    if large:
        monkeypatch.setattr(conv, "LARGE", 100)
    torch.manual_seed(0)
    ours = nn.Sequential(Conv2d(3, 8, 3), nn.ReLU(), Conv2d(8, 5, 3, 2, bias=False))
    usual = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 5, 3, 2, padding=1, bias=False))
    usual.load_state_dict(ours.state_dict())
    x = torch.randn(4, 3, 10, 12)
    with torch.autocast("cpu", torch.bfloat16):
        out = ours(x)
    assert out.dtype == torch.bfloat16
    found = torch.autograd.grad(out.float().square().mean(), list(ours.parameters()))
    expected = torch.autograd.grad(usual(x).square().mean(), list(usual.parameters()))
    assert ways == ([] if large else ["weight", "weight"])
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=0.05, atol=0.05 * float(other.abs().max()))


@pytest.mark.parametrize("size", [2, 4, 5])
def test_gradients_of_single_rows_and_second_gradients(size: int) -> None:
    torch.manual_seed(0)
    layer = Conv2d(2, 3, 3).double()
    x = torch.randn(3, 2, size, size, dtype=torch.float64)
    weights = {name: p.detach() for name, p in layer.named_parameters()}

    def loss(given: dict[str, torch.Tensor], row: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, given, (row[None],)).square().sum()

    single = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weights, x)
    for i, row in enumerate(x):
        alone = torch.func.grad(loss)(weights, row)
        for name in weights:
            torch.testing.assert_close(single[name][i], alone[name])
    assert torch.autograd.gradgradcheck(layer, x.clone().requires_grad_())


def test_weights_of_one_fit_the_other() -> None:
    assert Conv2d(3, 5, 3).state_dict().keys() == nn.Conv2d(3, 5, 3).state_dict().keys()
    assert isinstance(Conv2d(3, 5, 3), nn.Conv2d)
