"""Fusions by products of features, against explicit products written out by loops in float64."""

from __future__ import annotations

from itertools import product
from math import prod, sqrt

import numpy as np
import pytest
import torch

from fusing import FUSIONS, NAMES, D, array, build, count, filled, linear, make, ragged
from polymodal.core.checks import streams_like
from polymodal.core.errors import SpecError
from polymodal.core.schema import settable
from polymodal.core.streams import Stream
from polymodal.fusion.bilinear import Bilinear, CountSketch
from polymodal.fusion.concat import Concat
from polymodal.fusion.film import FiLM
from polymodal.fusion.low_rank import LowRank
from polymodal.fusion.tensor import MOST, TensorFusion

PRODUCTS = [n for n in FUSIONS if n.partition("-")[0] in ("film", "tensor", "low_rank", "bilinear")]


@pytest.mark.parametrize("inputs", [NAMES[:1], NAMES[:2], NAMES])
@pytest.mark.parametrize("name", PRODUCTS)
def test_against_a_plain_loop(name: str, inputs: tuple[str, ...]) -> None:
    streams, part = ragged(inputs), build(name, inputs).double()
    fused, notes = part(streams)
    assert notes == ({}, {})
    close = 1e-3 if "compact" in name else 1e-9  # the root of a compact sketch is rounded off at zero
    for row in range(6):
        expected = LOOPS[name.partition("-")[0]](part, filled(part, streams, row))
        np.testing.assert_allclose(array(fused.tokens[row, 0]), expected, atol=close, rtol=close)


def loop_film(part, x):
    by = 0 if len(part.maps) < len(x) else None
    joined, maps = [], iter(part.maps)
    for i, features in enumerate(x):
        if i == by:
            continue
        others = [x[by]] if by is not None else [v for j, v in enumerate(x) if j != i] or [features]
        changes = linear(next(maps), np.concatenate(others))
        joined += [(1 + changes[d]) * features[d] + changes[D + d] for d in range(D)]
    return np.array(joined)


def loop_tensor(part, x):
    extended = [[*linear(u, v), 1.0] for u, v in zip(part.reduce, x, strict=True)]
    return linear(part.map, np.array([prod(chosen) for chosen in product(*extended)]))


def loop_low_rank(part, x):
    omega, out = array(part.mix.weight)[0], part.width
    factors = [linear(f, v) for f, v in zip(part.factors, x, strict=True)]
    terms = [[w * prod(f[r * out + o] for f in factors) for r, w in enumerate(omega)] for o in range(out)]
    return np.array([sum(t) for t in terms]) + array(part.bias.weight)[0]


def loop_bilinear(part, x):
    if part.form == "compact":
        return linear(part.map, compact(part, x))
    H, nets = part.hidden, part.factors
    factors = [np.tanh(linear(net[0], v)) for net, v in zip(nets, x, strict=True)]
    if part.form == "mutan":
        factors = [linear(net[2], v) for net, v in zip(nets, factors, strict=True)]
    terms = range(len(factors[0]) // H)
    return linear(part.map, np.array([sum(prod(f[r * H + h] for f in factors) for r in terms) for h in range(H)]))


def compact(part, x):
    """The sketch of the explicit outer product: each of its numbers lands where the sum of its places says."""
    sketch = np.zeros(part.hidden)
    places, signs = ([array(getattr(f, n)) for f in part.factors] for n in ("places", "signs"))
    for chosen in product(range(D), repeat=len(x)):
        place = sum(int(p[d]) for p, d in zip(places, chosen, strict=True)) % part.hidden
        sketch[place] += prod(s[d] * v[d] for s, v, d in zip(signs, x, chosen, strict=True))
    root = np.array([np.sign(y) * sqrt(abs(y)) for y in sketch])
    length = sqrt(sum(r * r for r in root))
    return root / length if length else root


LOOPS = {"film": loop_film, "tensor": loop_tensor, "low_rank": loop_low_rank, "bilinear": loop_bilinear}


@pytest.mark.parametrize("inputs", [NAMES[:2], NAMES])
def test_low_rank_is_tensor_fusion_with_a_weight_tensor_of_low_rank(inputs: tuple[str, ...]) -> None:
    streams, part = ragged(inputs), build("low_rank-all", inputs).double()
    names, rank, out = "abc"[: len(inputs)], 2, part.width
    factors = [np.c_[array(f.weight), array(f.bias)].reshape(rank, out, D + 1) for f in part.factors]  # [r o D+1]
    axes = ",".join(f"ro{n}" for n in names)
    full = np.einsum(f"r,{axes}->o{names}", array(part.mix.weight)[0], *factors)
    for row in range(6):
        x = [np.append(v, 1.0) for v in filled(part, streams, row)]
        outer = np.einsum(",".join(names) + f"->{names}", *x)
        expected = np.tensordot(full, outer, len(inputs)) + array(part.bias.weight)[0]
        np.testing.assert_allclose(array(part(streams)[0].tokens[row, 0]), expected, atol=1e-9)


def test_mutan_is_a_bilinear_map_with_a_core_of_slices_of_low_rank() -> None:
    inputs, rank, H = NAMES[:2], 2, 5
    streams, part = ragged(inputs), build("bilinear-all", inputs).double()
    M, N = (array(f[2].weight).reshape(rank, H, H) for f in part.factors)  # [r h features]
    core = np.einsum("rha,rhb->abh", M, N)
    assert [np.linalg.matrix_rank(core[..., h]) for h in range(H)] == [rank] * H
    for row in range(6):
        q, v = (np.tanh(linear(f[0], x)) for f, x in zip(part.factors, filled(part, streams, row), strict=True))
        expected = linear(part.map, np.einsum("abh,a,b->h", core, q, v))
        np.testing.assert_allclose(array(part(streams)[0].tokens[row, 0]), expected, atol=1e-9)


def test_sketches_keep_products_of_vectors_on_average() -> None:
    """E⟨sketch x, sketch y⟩ = ⟨x, y⟩, over draws of places and signs (Charikar et al. 2002)."""
    torch.manual_seed(0)
    x, y = torch.randn(2, 1, 8).double()
    drawn = [(sketch(x) * sketch(y)).sum().item() for sketch in (CountSketch(8, 5) for _ in range(4000))]
    error = np.std(drawn) / sqrt(len(drawn))
    assert abs(np.mean(drawn) - (x * y).sum().item()) < 4 * error
    assert error < 0.1


def test_a_sketch_is_drawn_from_the_seed_and_kept() -> None:
    one, same, other = (build("bilinear-compact", seed=s).state_dict() for s in (0, 0, 1))
    for name in ("factors.0.places", "factors.0.signs"):
        assert torch.equal(one[name], same[name])
        assert not torch.equal(one[name], other[name])
    assert not torch.equal(one["factors.0.places"], one["factors.1.places"])


def test_a_compact_sketch_of_zeros_has_finite_slopes() -> None:
    x = torch.zeros(2, 1, D, requires_grad=True)
    fused, _ = make("bilinear-compact", NAMES[:1])({NAMES[0]: Stream(x, torch.ones(2, 1, dtype=torch.bool))})
    fused.tokens.square().sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("by", [None, "photo"])
def test_film_starts_from_the_concatenation(by: str | None) -> None:
    streams, part = ragged(), FiLM(inputs=NAMES, width=D, by=by).double()
    plain = Concat(inputs=NAMES, width=D).double()
    plain.slots.load_state_dict(part.slots.state_dict())
    expected = plain(streams)[0].tokens[..., D if by else 0 :]
    torch.testing.assert_close(part(streams)[0].tokens, expected)


def test_film_changes_the_others_by_the_named_one_alone() -> None:
    streams, part = streams_like(NAMES, D), build("film-by")
    plain = part(streams)[0].tokens[..., :D]  # of the title
    for name, moves in zip(NAMES, (True, True, False), strict=True):
        changed = {**streams, name: streams[name]._replace(tokens=streams[name].tokens * 2)}
        assert torch.allclose(part(changed)[0].tokens[0, 0, :D], plain[0, 0]) != moves


def test_widths_and_defaults() -> None:
    assert [make(n).width for n in ("film", "film-by")] == [3 * D, 2 * D]
    assert [make(n, NAMES[:1]).width for n in ("film", "film-by")] == [D, D]
    assert Bilinear(inputs=NAMES, width=D).hidden == D
    assert Bilinear(inputs=NAMES, width=D, form="compact").hidden == 4 * D
    assert set(settable(FiLM)) == {"by"}
    assert set(settable(TensorFusion)) == {"hidden", "out"}
    assert set(settable(LowRank)) == {"rank", "out"}
    assert set(settable(Bilinear)) == {"form", "hidden", "rank", "out"}


@pytest.mark.parametrize("inputs", [1, 2, 3])
def test_parameters_as_stated(inputs: int) -> None:
    N, names = inputs, NAMES[:inputs]
    C = {1: D}.get(N, (N - 1) * D)
    assert count(make("film", names)) == N * D + N * (C + 1) * 2 * D
    M = max(N - 1, 1)
    assert count(make("film-by", names)) == N * D + M * (D + 1) * 2 * D
    hidden, out = 3, 5
    assert count(make("tensor-out", names)) == N * D + N * (D + 1) * hidden + ((hidden + 1) ** N + 1) * out
    rank = 2
    assert count(make("low_rank-all", names)) == N * D + N * (D + 1) * rank * out + rank + out
    H, out = 7, 5
    assert count(make("bilinear-compact", names)) == N * D + (H + 1) * out
    assert count(make("bilinear-mlb", names)) == N * D + (H + 1) * D + N * (D + 1) * H
    H, rank, out = 5, 2, 3
    assert count(make("bilinear-all", names)) == N * D + (H + 1) * out + N * (D + 1) * H + N * rank * H**2


@pytest.mark.parametrize(("inputs", "hidden"), [(1, 16), (4, 16), (5, 11), (6, 7), (9, 3), (18, 1)])
def test_tensor_takes_fewer_features_of_many_inputs(inputs: int, hidden: int) -> None:
    part = TensorFusion(inputs=tuple(str(i) for i in range(inputs)), width=1)
    assert part.reduce[0].out_features == hidden
    assert (hidden + 1) ** inputs == part.map.in_features <= MOST


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: FiLM(inputs=NAMES, width=D, by="foto"), r"fusion\.by: no input of this name(.|\n)*'photo'"),
        (lambda: TensorFusion(inputs=NAMES, width=D, hidden=64), r"274,625 products(.|\n)*at most 63, or fusion"),
        (lambda: TensorFusion(inputs=tuple("abcdefghijklmnopqrs"), width=1), r"524,288(.|\n)*try:   fusion: low_rank"),
        (lambda: Bilinear(inputs=NAMES, width=D, form="mlb", rank=4), r"fusion\.rank: form: mlb has none(.|\n)*mutan"),
        (lambda: Bilinear(inputs=NAMES, width=D, form="compact", rank=1), r"form: compact has none"),
    ],
)
def test_settings_that_cannot_work(build, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        build()


def test_tensor_at_its_limit() -> None:
    assert TensorFusion(inputs=NAMES, width=1, hidden=63).map.in_features == MOST
