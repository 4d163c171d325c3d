"""The stack equals torch's own Transformer encoder, row by row without padding."""

from __future__ import annotations

import pytest
import torch

from polymodal.core.errors import SpecError
from polymodal.core.transformer import TransformerStack
from torch_nets import LENGTHS, encoder_like, sequences, unusual


def test_transformer_equals_torch_row_by_row():
    torch.manual_seed(0)
    own = TransformerStack(width=8, layers=2, heads=2, ratio=3)
    unusual(own)
    theirs = encoder_like(own)
    x, mask = sequences(8)
    out = own(x, mask)
    for row, length in enumerate(LENGTHS):
        torch.testing.assert_close(out[row, :length], theirs(x[row : row + 1, :length])[0])
    assert not out[~mask].any()


def test_transformer_without_a_real_token_is_finite():
    stack = TransformerStack(width=8, layers=2, heads=2)
    x, mask = sequences(8)
    mask[1] = False
    out = stack(x, mask)
    out.square().sum().backward()
    assert torch.isfinite(out).all()
    assert all(torch.isfinite(p.grad).all() for p in stack.parameters())


def test_transformer_dropout_only_in_training():
    x, mask = sequences(8)
    stack = TransformerStack(width=8, layers=1, heads=2, dropout=0.5)
    assert not torch.allclose(stack.train()(x, mask), stack(x, mask))
    torch.testing.assert_close(stack.eval()(x, mask), stack(x, mask))


def test_heads_must_divide_the_width():
    with pytest.raises(SpecError, match=r"must divide the width, 10(.|\n)*one of \[1, 2, 5, 10\]"):
        TransformerStack(width=10, layers=1, heads=4)


def test_transformer_passes_export():
    x, mask = sequences(8)
    stack = TransformerStack(width=8, layers=1, heads=2).eval()
    program = torch.export.export(stack, (x, mask), strict=False)
    torch.testing.assert_close(program.module()(x, mask), stack(x, mask))
