"""Fusion by the largest value and by experts, against loops in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusing import NAMES, D, array, build, count, filled, linear, make, means, ragged
from polymodal.core.checks import streams_like
from polymodal.core.errors import SpecError
from polymodal.core.schema import settable
from polymodal.core.streams import Stream
from polymodal.fusion.max import Max
from polymodal.fusion.mixture import Mixture


def loop_max(streams, row):
    """The fused vector and the share of features that each input gave."""
    vectors, result, shares = means(streams, row), np.zeros(D), np.zeros(len(streams))
    for d in range(D):
        there = [(v[d], i) for i, v in enumerate(vectors) if v is not None]
        if there:
            result[d], giver = max(there)
            shares[giver] += 1 / D
    return result, shares


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(0, 10**6))
def test_max_against_a_plain_loop(inputs: int, seed: int) -> None:
    streams = ragged(NAMES[:inputs], seed)
    streams = {n: s._replace(tokens=s.tokens - 3 * s.mask[..., None]) for n, s in streams.items()}  # all below zero
    fused, notes = Max(inputs=NAMES[:inputs], width=D)(streams)
    for row in range(6):
        expected, shares = loop_max(streams, row)
        np.testing.assert_allclose(array(fused.tokens[row, 0]), expected, atol=1e-12)
        np.testing.assert_allclose(array(notes.weights["fusion"][row]), shares, atol=1e-12)


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(3)))
def test_max_does_not_see_names_or_order(order: list[int]) -> None:
    streams = ragged()
    named = dict(zip("xyz", (streams[NAMES[i]] for i in order), strict=True))
    (one, first), (two, second) = (Max(inputs=tuple(s), width=D)(s) for s in (streams, named))
    assert torch.equal(one.tokens, two.tokens)
    assert torch.equal(first.weights["fusion"][:, order], second.weights["fusion"])


def test_max_has_no_parameters_and_no_settings() -> None:
    assert count(make("max")) == 0
    assert not settable(Max)


def gated(part: Mixture, x: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """The gate's chances, and the experts it chooses."""
    scores = np.exp(linear(part.gate, x))
    chances = scores / sum(scores)
    return chances, sorted(range(len(chances)), key=lambda e: -chances[e])[: part.active]


def loop_mixture(part, x):
    """The fused vector and the weight of each expert."""
    chances, chosen = gated(part, x)
    total = sum(chances[e] for e in chosen) if part.active > 1 else 1.0
    result, weights = np.zeros(part.width), np.zeros(len(chances))
    for e in chosen:
        first, _, last = part.experts[e]
        weights[e] = chances[e] / total
        result += weights[e] * linear(last, np.maximum(linear(first, x), 0))
    return result, weights


@pytest.mark.parametrize("inputs", [NAMES[:1], NAMES[:2], NAMES])
@pytest.mark.parametrize("name", ["mixture", "mixture-all"])
def test_mixture_against_a_plain_loop(name: str, inputs: tuple[str, ...]) -> None:
    streams, part = ragged(inputs), build(name, inputs).double()
    fused, notes = part(streams)
    assert not notes.losses
    for row in range(6):
        expected, weights = loop_mixture(part, np.concatenate(filled(part, streams, row)))
        np.testing.assert_allclose(array(fused.tokens[row, 0]), expected, atol=1e-9)
        np.testing.assert_allclose(array(notes.weights["experts"][row]), weights, atol=1e-12)


@pytest.mark.parametrize("name", ["mixture", "mixture-all"])
def test_balance_is_the_loss_of_the_paper(name: str) -> None:
    streams, part = ragged(), build(name).double().train()
    experts, rows = len(part.experts), [gated(part, np.concatenate(filled(part, streams, r))) for r in range(6)]
    shares = [sum(e in chosen for _, chosen in rows) / (6 * part.active) for e in range(experts)]
    expected = [part.balance * experts * sum(s * p for s, p in zip(shares, c, strict=True)) for c, _ in rows]
    np.testing.assert_allclose(array(part(streams)[1].losses["balance"]), expected, atol=1e-12)


def test_an_even_gate_pays_the_balance_alone() -> None:
    part = Mixture(inputs=NAMES, width=D, experts=5, active=3, balance=0.25)
    torch.nn.init.zeros_(part.gate.weight)
    torch.nn.init.zeros_(part.gate.bias)
    losses = part(streams_like(NAMES, D))[1].losses
    torch.testing.assert_close(losses["balance"], torch.full((4,), 0.25))


def test_no_balance_no_loss() -> None:
    assert not Mixture(inputs=NAMES, width=D, balance=0.0)(streams_like(NAMES, D))[1].losses


def test_balance_evens_out_the_choices() -> None:
    torch.manual_seed(0)
    part = Mixture(inputs=("a",), width=D, experts=4, active=1, balance=1.0)
    torch.nn.init.constant_(part.gate.bias[0], 4.0)  # at first all rows go to one expert
    rows = {"a": Stream(torch.randn(64, 1, D), torch.ones(64, 1, dtype=torch.bool))}
    optimizer = torch.optim.Adam(part.gate.parameters(), 0.05)
    largest = []
    for _ in range(150):
        notes = part(rows)[1]
        largest.append((notes.weights["experts"] > 0).float().mean(0).max().item())
        notes.losses["balance"].mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert largest[0] > 0.9
    assert largest[-1] < 0.5


@pytest.mark.parametrize("active", [1, 2])
def test_the_gate_learns_and_experts_not_chosen_do_not(active: int) -> None:
    part = Mixture(inputs=NAMES, width=D, experts=6, active=active)
    fused, notes = part.eval()(streams_like(NAMES, D, rows=2))
    fused.tokens.square().sum().backward()
    assert part.gate.weight.grad.any()
    for expert, used in zip(part.experts, (notes.weights["experts"] > 0).any(0).tolist(), strict=True):
        assert any(p.grad.any() for p in expert.parameters()) == used


def test_all_experts_are_a_dense_mixture() -> None:
    part = Mixture(inputs=NAMES, width=D, experts=3, active=3).double()
    streams = ragged()
    x = torch.from_numpy(np.stack([np.concatenate(filled(part, streams, r)) for r in range(6)]))
    expected = sum(part.gate(x).softmax(1)[:, [e]] * part.experts[e](x) for e in range(3))
    torch.testing.assert_close(part(streams)[0].tokens[:, 0], expected)


@pytest.mark.parametrize("inputs", [1, 2, 3])
def test_parameters_as_stated(inputs: int) -> None:
    N, E, hidden, out = inputs, 3, 4, 5
    part = make("mixture-all", NAMES[:N])
    assert count(part) == N * D + E * ((N * D + 1) * (hidden + 1) + (hidden + 1) * out)
    assert (part.width, make("mixture").width) == (out, D)
    assert set(settable(Mixture)) == {"experts", "active", "hidden", "out", "balance"}


def test_more_active_than_there_are_experts() -> None:
    with pytest.raises(SpecError, match=r"fusion\.active: more than the 2 experts(.|\n)*3(.|\n)*at most 2"):
        Mixture(inputs=NAMES, width=D, experts=2, active=3)
