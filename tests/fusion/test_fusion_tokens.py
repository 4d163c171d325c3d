"""Fusions over the tokens of all inputs, against loops in float64 and torch's own attention and Transformer encoder."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fusing import FUSIONS, NAMES, D, array, build, count, linear, make, ragged
from polymodal.core.checks import streams_like
from polymodal.core.errors import SpecError
from polymodal.core.schema import settable
from polymodal.core.streams import Stream, Streams
from polymodal.fusion.attention_pool import AttentionPool
from polymodal.fusion.transformer import JointTransformer
from torch_nets import encoder_like, unusual

TOKENS = [n for n in FUSIONS if n.partition("-")[0] in ("attention_pool", "transformer")]


def marked(part: nn.Module, streams: Streams, row: int) -> list[tuple[int, int, np.ndarray]]:
    """Every real token of a row plus its input's mark: (number of the input, place among all tokens, token)."""
    found, start = [], 0
    for i, (tokens, mask, _) in enumerate(streams.values()):
        real = [t for t in range(tokens.shape[1]) if mask[row, t]]
        found += [(i, start + t, array(tokens[row, t]) + array(part.marks.weight[i])) for t in real]
        start += tokens.shape[1]
    return found


def loop_attention_pool(part, streams, row):
    """The fused vector and the weight of each input."""
    look, tokens = part.look, marked(part, streams, row)
    d, query = D // look.heads, linear(look.query, array(part.query.weight)[0])
    joined, shares = np.zeros(D), np.zeros(len(streams))
    for h in range(look.heads):
        own = slice(h * d, (h + 1) * d)
        both = [linear(look.key_value, x) for _, _, x in tokens]
        scores = [np.exp(sum(query[own] * kv[:D][own]) / np.sqrt(d)) for kv in both]
        for (i, _, _), kv, score in zip(tokens, both, scores, strict=True):
            joined[own] += score / sum(scores) * kv[D:][own]
            shares[i] += score / sum(scores) / look.heads
    return linear(look.out, joined) if tokens else joined, shares


def loop_transformer(part, streams, row):
    """The fused tokens, by torch's own encoder over the row's real tokens alone."""
    tokens = marked(part, streams, row)
    sequence = np.stack([array(part.first.weight)[0], *(x for _, _, x in tokens)])
    states = array(encoder_like(part.stack).eval()(torch.from_numpy(sequence)[None])[0])
    if part.pool == "first":
        return states[:1]
    if part.pool == "mean":
        return sum(states[1:], np.zeros(D))[None] / max(len(tokens), 1)
    placed = np.zeros((sum(s.tokens.shape[1] for s in streams.values()), D))
    for (_, place, _), state in zip(tokens, states[1:], strict=True):
        placed[place] = state
    return placed


@pytest.mark.parametrize("inputs", [NAMES[:1], NAMES[:2], NAMES])
def test_attention_pool_against_a_plain_loop(inputs: tuple[str, ...]) -> None:
    streams, part = ragged(inputs), build("attention_pool", inputs).double()
    fused, notes = part(streams)
    for row in range(6):
        expected, shares = loop_attention_pool(part, streams, row)
        np.testing.assert_allclose(array(fused.tokens[row, 0]), expected, atol=1e-9)
        np.testing.assert_allclose(array(notes.weights["fusion"][row]), shares, atol=1e-12)


def test_attention_pool_is_the_multi_head_attention_of_torch() -> None:
    streams, part = ragged(), build("attention_pool").double()
    theirs, look = nn.MultiheadAttention(D, part.look.heads, batch_first=True).double(), part.look
    theirs.out_proj.load_state_dict(look.out.state_dict())
    theirs.in_proj_weight.data = torch.cat([look.query.weight, look.key_value.weight])
    theirs.in_proj_bias.data = torch.cat([look.query.bias, look.key_value.bias])
    for row in range(5):
        tokens = torch.from_numpy(np.stack([x for _, _, x in marked(part, streams, row)]))[None]
        expected, _ = theirs(part.query.weight[None], tokens, tokens)
        torch.testing.assert_close(part(streams)[0].tokens[row], expected[0])


@pytest.mark.parametrize("inputs", [NAMES[:1], NAMES[:2], NAMES])
@pytest.mark.parametrize("name", ["transformer", "transformer-mean", "transformer-none"])
def test_transformer_against_the_one_of_torch(name: str, inputs: tuple[str, ...]) -> None:
    streams, part = ragged(inputs), make(name, inputs).double().eval()
    torch.manual_seed(0)
    unusual(part)
    fused, notes = part(streams)
    assert notes == ({}, {})
    for row in range(6):
        expected = loop_transformer(part, streams, row)
        np.testing.assert_allclose(array(fused.tokens[row]), expected, atol=1e-9)
    if name.endswith("none"):
        assert torch.equal(fused.mask, torch.cat([s.mask for s in streams.values()], 1))


@pytest.mark.parametrize("name", TOKENS)
def test_new_names_and_order_with_the_marks_of_old_change_nothing(name: str) -> None:
    streams, part, order = ragged(), build(name).double(), [2, 0, 1]
    named = dict(zip(("x", "y", "z"), (streams[NAMES[i]] for i in order), strict=True))
    other = make(name, ("x", "y", "z")).double().eval()
    other.load_state_dict({**part.state_dict(), "marks.weight": part.marks.weight[order]})
    one, two = part(streams), other(named)
    if name.endswith("none"):  # the same tokens, in another order
        lengths = [s.tokens.shape[1] for s in streams.values()]
        torch.testing.assert_close(torch.cat([one[0].tokens.split(lengths, 1)[i] for i in order], 1), two[0].tokens)
    else:
        torch.testing.assert_close(one[0].tokens, two[0].tokens)
    for key, weights in one[1].weights.items():
        torch.testing.assert_close(weights[:, order], two[1].weights[key])


@pytest.mark.parametrize("name", ["attention_pool", "transformer", "transformer-mean"])
def test_tokens_of_an_input_may_come_in_any_order(name: str) -> None:
    streams, part = ragged(), build(name).double()
    turned = {n: Stream(s.tokens.flip(1), s.mask.flip(1)) for n, s in streams.items()}
    torch.testing.assert_close(part(streams)[0].tokens, part(turned)[0].tokens)


@pytest.mark.parametrize("name", TOKENS)
def test_a_masked_token_says_nothing(name: str) -> None:
    streams, part = ragged(), build(name).double()
    loud = {n: Stream(torch.where(s.mask[..., None], s.tokens, 7.0), s.mask) for n, s in streams.items()}
    torch.testing.assert_close(part(streams)[0].tokens, part(loud)[0].tokens)


@pytest.mark.parametrize("inputs", [1, 2, 3])
def test_parameters_as_stated(inputs: int) -> None:
    N, names = inputs, NAMES[:inputs]
    assert count(make("attention_pool", names)) == 4 * D**2 + (N + 5) * D
    for name, layers, ratio in (("transformer", 2, 4), ("transformer-mean", 1, 2)):
        per_layer = (4 + 2 * ratio) * D**2 + (9 + ratio) * D
        assert count(make(name, names)) == layers * per_layer + 2 * D + (N + 1) * D


def test_widths_and_settings() -> None:
    assert {make(n).width for n in TOKENS} == {D}
    assert set(settable(AttentionPool)) == {"heads"}
    assert set(settable(JointTransformer)) == {"layers", "heads", "ratio", "dropout", "pool"}


@pytest.mark.parametrize("part", [AttentionPool, JointTransformer])
def test_heads_must_divide_the_width(part: type) -> None:
    with pytest.raises(SpecError, match=r"heads: must divide the width, 6(.|\n)*4(.|\n)*one of \[1, 2, 3, 6\]"):
        part(inputs=NAMES, width=6, heads=4)


def test_attention_pool_reports_no_weights_while_training() -> None:
    part = build("attention_pool")
    assert part(streams_like(NAMES, D))[1].weights
    assert not part.train()(streams_like(NAMES, D))[1].weights


def test_dropout_only_in_training() -> None:
    streams, part = ragged(), JointTransformer(inputs=NAMES, width=D, heads=2, dropout=0.5).double()
    assert not torch.allclose(part.train()(streams)[0].tokens, part(streams)[0].tokens)
    torch.testing.assert_close(part.eval()(streams)[0].tokens, part(streams)[0].tokens)
