"""Every fusion under the public checker and what holds for all; the simplest five against plain loops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import config

from fusing import FUSIONS, NAMES, D, array, build, filled, linear, make, means, nothing, ragged
from polymodal.core import catalog
from polymodal.core.checks import check_fusion, streams_like
from polymodal.core.schema import settable
from polymodal.core.streams import Stream
from polymodal.core.transformer import masked_softmax
from polymodal.fusion.concat import Concat
from polymodal.fusion.gated import Gated
from polymodal.fusion.transform import Transform
from polymodal.fusion.weighted import Weighted


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("name", FUSIONS)
def test_contract(name: str, count: int) -> None:
    check_fusion(lambda: make(name, NAMES[:count]), streams_like(NAMES[:count], D))


def test_the_catalogue_finds_them() -> None:
    listed = {n: catalog.load("fusion", n, "fusion.type") for n in catalog.PARTS["fusion"]}
    assert listed == {n.partition("-")[0]: cls for n, (cls, _) in FUSIONS.items()}
    assert set(settable(Transform)) == {"hidden", "out", "activation", "dropout"}
    assert set(settable(Gated)) == {"gates"}
    assert set(settable(Concat)) == {"out"}


def test_every_fusion_of_the_catalogue_has_a_plain_loop() -> None:
    written = "".join(p.read_text(encoding="utf-8") for p in Path(__file__).parent.glob("test_fusion_*.py"))
    lacking = [n for n in catalog.PARTS["fusion"] if f"def loop_{n}(" not in written]
    assert not lacking


@pytest.mark.parametrize("name", FUSIONS)
def test_a_row_with_nothing_is_finite_and_there(name: str) -> None:
    fused, notes = build(name)(nothing())
    assert fused.mask.all() or name.endswith("-none")
    assert torch.isfinite(fused.tokens).all()
    assert all(torch.isfinite(w).all() for w in notes.weights.values())


@pytest.mark.parametrize("name", [n for n in FUSIONS if n.partition("-")[0] in ("sum", "max", "weighted", "gated",
                                  "attention_pool", "graph") or n == "transformer-mean"])  # fmt: skip
def test_nothing_adds_nothing(name: str) -> None:
    fused, notes = build(name)(nothing())
    assert not fused.tokens.any()
    assert not any(w.any() for w in notes.weights.values())


@pytest.mark.parametrize("name", [n for n in FUSIONS if n.partition("-")[0] in
                                  ("concat", "sum", "weighted", "transform", "gated")])  # fmt: skip
def test_against_a_plain_loop(name: str) -> None:
    streams, part = ragged(), build(name).double()
    fused, _ = part(streams)
    for row in range(6):
        expected = LOOPS[name.partition("-")[0]](part, streams, row)
        np.testing.assert_allclose(array(fused.tokens[row, 0]), expected, atol=1e-9)


@pytest.mark.parametrize("name", ["max", "weighted", "gated", "gated-sigmoid", "attention_pool"])
def test_what_is_missing_has_no_weight(name: str) -> None:
    streams = ragged()
    weights = build(name).double()(streams)[1].weights["fusion"]
    there = torch.stack([s.mask.any(1) for s in streams.values()], 1)
    assert weights.shape == (6, 3)
    assert not weights[~there].any()
    if name != "gated-sigmoid":
        torch.testing.assert_close(weights.sum(1), there.any(1).double())


def loop_concat(part, streams, row):
    joined = np.concatenate(filled(part, streams, row))
    return joined if isinstance(part.project, torch.nn.Identity) else linear(part.project, joined)


def loop_sum(part, streams, row):
    return sum((v for v in means(streams, row) if v is not None), np.zeros(D))


def loop_weighted(part, streams, row):
    scores = array(part.score.weight)[:, 0]
    parts = [(np.exp(scores[i]), v) for i, v in enumerate(means(streams, row)) if v is not None]
    return sum((e * v for e, v in parts), np.zeros(D)) / sum((e for e, _ in parts), 1e-30)


def loop_transform(part, streams, row):
    first, phi, _, last = part.map
    hidden = linear(first, np.concatenate(filled(part, streams, row)))
    return linear(last, np.tanh(hidden) if isinstance(phi, torch.nn.Tanh) else np.maximum(hidden, 0))


def loop_gated(part, streams, row):
    scores, vectors = linear(part.gate, np.concatenate(filled(part, streams, row))), means(streams, row)
    result = np.zeros(D)
    for d in range(D):
        gates = {}
        for i, v in enumerate(vectors):
            if v is not None:
                score = scores[i * D + d]
                gates[i] = np.exp(score) if part.gates == "softmax" else 1 / (1 + np.exp(-score))
        total = sum(gates.values()) if part.gates == "softmax" else 1.0
        for i, gate in gates.items():
            result[d] += gate / total * np.tanh(linear(part.features[i], vectors[i])[d])
    return result


LOOPS = {
    "concat": loop_concat,
    "sum": loop_sum,
    "weighted": loop_weighted,
    "transform": loop_transform,
    "gated": loop_gated,
}


def test_two_soft_gates_are_the_bimodal_unit_of_the_paper() -> None:
    part, streams = build("gated", NAMES[:2]), streams_like(NAMES[:2], D, rows=1)
    x = [torch.from_numpy(v) for v in means(streams, 0)]
    h = [torch.tanh(f.weight @ v + f.bias) for f, v in zip(part.features, x, strict=True)]
    scores = part.gate.weight @ torch.cat(x) + part.gate.bias
    z = torch.sigmoid(scores[:D] - scores[D:])
    torch.testing.assert_close(part(streams)[0].tokens[0, 0], z * h[0] + (1 - z) * h[1])


def test_weighted_starts_from_the_mean() -> None:
    streams = streams_like(NAMES, D)
    part = Weighted(inputs=NAMES, width=D)
    torch.testing.assert_close(part(streams)[1].weights["fusion"][0], torch.full((3,), 1 / 3))


def test_sum_does_not_see_names_or_order() -> None:
    streams = streams_like(NAMES, D)
    renamed = dict(zip(("x", "y", "z"), [*streams.values()][::-1], strict=True))
    torch.testing.assert_close(build("sum")(streams)[0], build("sum", ("x", "y", "z"))(renamed)[0])


@pytest.mark.parametrize("name", FUSIONS)
def test_names_do_not_matter_but_places_do(name: str) -> None:
    streams, part = streams_like(NAMES, D), build(name)
    renamed, swapped = build(name, ("x", "y", "z")), dict(reversed(streams.items()))
    plain = part(streams)[0].tokens
    same = renamed(dict(zip(("x", "y", "z"), streams.values(), strict=True)))[0].tokens
    torch.testing.assert_close(plain, same)
    torch.testing.assert_close(plain, part(swapped)[0].tokens)  # the order of the dict is not the order of the inputs
    moved = renamed(dict(zip(("z", "y", "x"), streams.values(), strict=True)))[0].tokens
    assert torch.allclose(plain, moved, atol=1e-5) == (name in ("sum", "max"))


@pytest.mark.parametrize("name", [n for n, (cls, _) in FUSIONS.items() if n != "bilinear-compact"
                                  and cls.__name__ not in ("Sum", "Max", "Weighted", "Gated")])  # fmt: skip
def test_which_one_is_missing_is_known(name: str) -> None:
    gone = Stream(torch.zeros(1, 1, D), torch.zeros(1, 1, dtype=torch.bool))
    zero = Stream(torch.zeros(1, 1, D), torch.ones(1, 1, dtype=torch.bool))
    part = build(name, ("a", "b"))
    outcomes = [part({"a": a, "b": b})[0].tokens for a in (gone, zero) for b in (gone, zero)]
    for i, one in enumerate(outcomes):
        assert all(not torch.allclose(one, two) for two in outcomes[i + 1 :])


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 10**6))
def test_softmax_over_the_present(rows: int, inputs: int, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    scores, present = torch.randn(rows, inputs, generator=g) * 30, torch.rand(rows, inputs, generator=g) < 0.6
    weights = masked_softmax(scores, present, 1)
    for row in range(rows):
        there = [i for i in range(inputs) if present[row, i]]
        expected = torch.zeros(inputs)
        if there:
            expected[there] = scores[row, there].softmax(0)
        torch.testing.assert_close(weights[row], expected)


@pytest.mark.parametrize("name", FUSIONS)
def test_batches_of_another_size_after_export(name: str) -> None:
    streams, part = streams_like(NAMES, D, rows=4), build(name)
    rows = torch.export.Dim("rows", min=2, max=64)
    shapes = ({n: Stream({0: rows}, {0: rows}, ()) for n in streams},)
    config.update("jaxtyping_disable", True)  # comparing shapes would fix them
    try:
        program = torch.export.export(part, (streams,), dynamic_shapes=shapes, strict=False)
    finally:
        config.update("jaxtyping_disable", False)
    other = streams_like(NAMES, D, rows=7)
    torch.testing.assert_close(program.module()(other)[0].tokens, part(other)[0].tokens)
