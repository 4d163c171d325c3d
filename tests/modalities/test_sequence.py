"""The stacks equal torch's own nets: recurrent ones on packed sequences, the Transformer row by row without padding."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from polymodal.core.errors import SpecError
from polymodal.modalities.sequence import Recurrent, TransformerStack, reversed_within, sinusoid

LENGTHS = [5, 1, 7, 4]


def sequences(features: int, lengths: list[int] = LENGTHS) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise everywhere, padding too: whoever looks at the padding gives a different answer."""
    torch.manual_seed(3)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return torch.randn(len(lengths), max(lengths), features), mask


def copy_recurrent(own: Recurrent, theirs: nn.RNNBase) -> None:
    weights = {}
    for depth in range(theirs.num_layers):
        for stack, tail in ((own.forwards, ""), (own.backwards, "_reverse")):
            if depth < len(stack):
                for name, value in stack[depth].named_parameters():
                    weights[name.replace("_l0", f"_l{depth}") + tail] = value.detach()
    theirs.load_state_dict(weights)


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
def test_recurrent_equals_torch_on_packed_sequences(kind, bidirectional, layers):
    torch.manual_seed(0)
    own = Recurrent(kind=kind, features=6, width=4, layers=layers, bidirectional=bidirectional).eval()
    theirs = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[kind](
        6, 4, num_layers=layers, bidirectional=bidirectional, batch_first=True
    ).eval()
    copy_recurrent(own, theirs)
    x, mask = sequences(6)
    packed = pack_padded_sequence(x, torch.tensor(LENGTHS), batch_first=True, enforce_sorted=False)
    expected, _ = pad_packed_sequence(theirs(packed)[0], batch_first=True)
    states = own(x, mask)
    assert states.shape[2] == own.width == (8 if bidirectional else 4)
    torch.testing.assert_close(states, expected)
    assert not states[~mask].any()


def test_recurrent_dropout_acts_between_layers_only():
    x, mask = sequences(6)
    single = Recurrent(kind="gru", features=6, width=4, dropout=0.9).train()
    torch.testing.assert_close(single(x, mask), single(x, mask))
    double = Recurrent(kind="gru", features=6, width=4, layers=2, dropout=0.9).train()
    assert not torch.allclose(double(x, mask), double(x, mask))


@given(st.lists(st.integers(0, 6), min_size=1, max_size=5))
@settings(deadline=None, max_examples=25)
def test_reversed_within_turns_each_row_round(lengths):
    mask = torch.arange(6) < torch.tensor(lengths)[:, None]
    expected = [[*range(n - 1, -1, -1), *range(n, 6)] for n in lengths]
    assert reversed_within(mask).tolist() == expected


def copy_transformer(own: TransformerStack, theirs: nn.TransformerEncoder) -> None:
    for mine, other in zip(own.layers, theirs.layers, strict=True):
        pairs = [
            (mine.norm1, other.norm1), (mine.norm2, other.norm2), (mine.out, other.self_attn.out_proj),
            (mine.up, other.linear1), (mine.down, other.linear2),
        ]  # fmt: skip
        for one, two in pairs:
            two.load_state_dict(one.state_dict())
        other.self_attn.in_proj_weight.data.copy_(mine.qkv.weight)
        other.self_attn.in_proj_bias.data.copy_(mine.qkv.bias)
    theirs.norm.load_state_dict(own.norm.state_dict())


def test_transformer_equals_torch_row_by_row():
    torch.manual_seed(0)
    own = TransformerStack(width=8, layers=2, heads=2, ratio=3)
    for name, p in own.named_parameters():  # biases and scales that are not the usual zeros and ones
        nn.init.normal_(p, 1.0 if "norm" in name else 0.0, 0.3)
    layer = nn.TransformerEncoderLayer(8, 2, 24, 0.0, "gelu", batch_first=True, norm_first=True)
    theirs = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(8), enable_nested_tensor=False)
    copy_transformer(own, theirs)
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
    with pytest.raises(SpecError, match="must divide the width, 10"):
        TransformerStack(width=10, layers=1, heads=4)


@pytest.mark.parametrize(
    "stack",
    [
        *(Recurrent(kind=k, features=8, width=4, layers=2, bidirectional=True) for k in ("rnn", "lstm", "gru")),
        TransformerStack(width=8, layers=1, heads=2),
    ],
)
def test_stacks_pass_export(stack):
    x, mask = sequences(8)
    program = torch.export.export(stack.eval(), (x, mask), strict=False)
    torch.testing.assert_close(program.module()(x, mask), stack(x, mask))


@pytest.mark.parametrize("width", [1, 6, 7])
def test_sinusoid_is_the_formula(width):
    table = sinusoid(50, width)
    assert table.shape == (50, width)
    for p in (0, 1, 17, 49):
        for i in range(width):
            angle = p / 10000 ** (2 * (i // 2) / width)
            expected = math.cos(angle) if i % 2 else math.sin(angle)
            assert table[p, i].item() == pytest.approx(expected, abs=1e-5)
