"""The recurrent stacks equal torch's own nets on packed sequences; the positions are the formula."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from polymodal.modalities.sequence import Recurrent, reversed_within, sinusoid
from torch_nets import LENGTHS, sequences


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


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_recurrent_passes_export(kind):
    x, mask = sequences(8)
    stack = Recurrent(kind=kind, features=8, width=4, layers=2, bidirectional=True).eval()
    program = torch.export.export(stack, (x, mask), strict=False)
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
