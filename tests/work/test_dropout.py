"""Quick dropout: as many dropped as asked for, everywhere alike, scaled, reproducible, and gone afterwards."""

import pytest
import torch
from torch import nn

from polymodal.work.dropout import LEAST, draw, quick


@pytest.mark.parametrize("p", [0.1, 0.5, 0.93])
def test_each_number_is_drawn_alike(p: float) -> None:
    torch.manual_seed(0)
    drawn = draw(400_000, p)
    for quarter in range(4):  # of the 64 bits
        assert drawn[quarter::4].double().mean().item() == pytest.approx(p, abs=4 * (p * (1 - p) / 100_000) ** 0.5)
    pairs = torch.corrcoef(torch.stack([drawn[k::4].double() for k in range(4)]))
    assert (pairs - torch.eye(4)).abs().max() < 0.02  # four decisions of one draw know nothing of each other


def test_a_length_that_is_no_multiple_of_four() -> None:
    assert [len(draw(n, 0.5)) for n in (1, 5, 4099)] == [1, 5, 4099]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_and_gradients(dtype: torch.dtype) -> None:
    layer = nn.Dropout(0.25)
    x = torch.ones(3, LEAST, dtype=dtype, requires_grad=True)
    torch.manual_seed(1)
    with quick(layer):
        out = layer(x)
        torch.manual_seed(1)
        again = layer(x)
    assert torch.equal(out, again)
    assert set(out.unique().tolist()) == {0.0, torch.tensor(4 / 3, dtype=dtype).item()}
    out.sum().backward()
    assert torch.equal(x.grad, out.detach())
    assert out.float().mean().item() == pytest.approx(1, abs=0.05)


def test_the_usual_one_for_few_numbers_in_eval_and_afterwards() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.AlphaDropout(0.5))
    few, many = torch.ones(2, 4), torch.ones(LEAST, 4)
    with quick(model):
        kinds = [type(m) for m in model]
        torch.manual_seed(2)
        found = model[1](few)
        assert torch.equal(model.eval()[1](many), many)
    assert kinds[2] is nn.AlphaDropout
    assert [type(m) for m in model] == [nn.Linear, nn.Dropout, nn.AlphaDropout]
    torch.manual_seed(2)
    assert torch.equal(model.train()[1](few), found)


def test_it_is_taken_off_when_training_fails() -> None:
    layer = nn.Dropout(0.5)
    with pytest.raises(KeyboardInterrupt), quick(layer):
        raise KeyboardInterrupt
    assert type(layer) is nn.Dropout
