"""The attention that all parts are made of equals torch's own, head by head, without padding."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from polymodal.core.errors import SpecError
from polymodal.core.transformer import Attend, masked_softmax

D, HEADS = 8, 2


def pair() -> tuple[Attend, nn.MultiheadAttention]:
    torch.manual_seed(0)
    own, theirs = (
        Attend(D, HEADS, 0.0).double().eval(),
        nn.MultiheadAttention(D, HEADS, batch_first=True).double().eval(),
    )
    for p in own.parameters():
        nn.init.normal_(p)
    theirs.in_proj_weight.data.copy_(torch.cat([own.query.weight, own.key_value.weight]))
    theirs.in_proj_bias.data.copy_(torch.cat([own.query.bias, own.key_value.bias]))
    theirs.out_proj.load_state_dict(own.out.state_dict())
    return own, theirs


def given() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Noise everywhere, padding too; the real tokens stand anywhere; row 2 has nothing to see."""
    g = torch.Generator().manual_seed(1)
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 1, 0, 1, 1], [0, 0, 0, 0, 0], [0, 0, 1, 0, 0]]).bool()
    return torch.randn(4, 3, D, generator=g).double(), torch.randn(4, 5, D, generator=g).double(), mask


def test_it_equals_torch_row_by_row() -> None:
    (own, theirs), (x, seen, mask) = pair(), given()
    answer, weights = own(x, seen, mask, weigh=True)
    for row in (0, 1, 3):
        real = seen[row : row + 1, mask[row]]
        expected, looked = theirs(x[row : row + 1], real, real)
        torch.testing.assert_close(answer[row], expected[0])
        torch.testing.assert_close(weights[row][:, mask[row]], looked[0])
        assert not weights[row][:, ~mask[row]].any()


def test_nothing_to_see_gives_zeros_and_finite_gradients() -> None:
    (own, _), (x, seen, mask) = pair(), given()
    answer, weights = own(x, seen, mask, weigh=True)
    assert not answer[2].any()
    assert not weights[2].any()
    own(x, seen, torch.zeros_like(mask))[0].sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in own.parameters())


def test_asking_for_the_weights_changes_no_answer() -> None:
    (own, _), (x, seen, mask) = pair(), given()
    answer, weights = own(x, seen, mask)
    assert weights is None
    assert torch.equal(answer, own(x, seen, mask, weigh=True)[0])


def test_masked_softmax() -> None:
    scores = torch.tensor([[1e30, 1.0, 2.0], [5.0, 6.0, 7.0]])
    found = masked_softmax(scores, torch.tensor([[False, True, True], [False, False, False]]))
    torch.testing.assert_close(found, torch.tensor([[0.0, 0.26894143, 0.73105857], [0.0, 0.0, 0.0]]))


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(SpecError, match=r"must divide the width, 10(.|\n)*one of \[1, 2, 5, 10\]"):
        Attend(10, 4, 0.0)
