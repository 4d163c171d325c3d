"""Every fusion against a plain loop over rows, inputs and tokens, and under the public checker."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import config

from polymodal.core import catalog
from polymodal.core.checks import check_fusion, streams_like
from polymodal.core.schema import settable
from polymodal.core.streams import Stream
from polymodal.fusion.concat import Concat
from polymodal.fusion.gated import Gated
from polymodal.fusion.slots import softmax_present
from polymodal.fusion.sum import Sum
from polymodal.fusion.transform import Transform
from polymodal.fusion.weighted import Weighted

FUSIONS = {
    "concat": (Concat, {}),
    "concat-out": (Concat, {"out": 5}),
    "sum": (Sum, {}),
    "weighted": (Weighted, {}),
    "transform": (Transform, {"dropout": 0.3}),
    "transform-all": (Transform, {"hidden": 7, "out": 3, "activation": "tanh"}),
    "gated": (Gated, {}),
    "gated-sigmoid": (Gated, {"gates": "sigmoid"}),
}
NAMES = ("photo", "a title", "weight.sum")
D = 6


def build(name: str, inputs: tuple[str, ...], seed: int = 0) -> torch.nn.Module:
    cls, chosen = FUSIONS[name]
    torch.manual_seed(seed)
    part = cls(inputs=inputs, width=D, **chosen)
    for p in part.parameters():
        torch.nn.init.normal_(p)  # zeros at the start would hide mistakes
    return part.eval()


def means(streams: dict[str, Stream], row: int) -> list[torch.Tensor | None]:
    """The mean real token of each input by a plain loop, None where it is missing."""
    found = []
    for tokens, mask, _ in streams.values():
        real = [tokens[row, t] for t in range(tokens.shape[1]) if mask[row, t]]
        found.append(sum(real) / len(real) if real else None)
    return found


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("name", FUSIONS)
def test_contract(name: str, count: int) -> None:
    inputs = NAMES[:count]
    cls, chosen = FUSIONS[name]
    check_fusion(lambda: cls(inputs=inputs, width=D, **chosen), streams_like(inputs, D))


def test_the_catalogue_finds_them() -> None:
    assert {catalog.load("fusion", n, "fusion.type") for n in catalog.PARTS["fusion"]} == {
        c for c, _ in FUSIONS.values()
    }
    assert set(settable(Transform)) == {"hidden", "out", "activation", "dropout"}
    assert set(settable(Gated)) == {"gates"}
    assert set(settable(Concat)) == {"out"}


@pytest.mark.parametrize("name", FUSIONS)
def test_a_row_with_nothing_is_finite_and_there(name: str) -> None:
    streams = {n: Stream(torch.zeros(3, 2, D), torch.zeros(3, 2, dtype=torch.bool)) for n in NAMES}
    fused, notes = build(name, NAMES)(streams)
    assert fused.mask.all()
    assert torch.isfinite(fused.tokens).all()
    assert all(torch.isfinite(w).all() for w in notes.weights.values())


@pytest.mark.parametrize("name", ["sum", "weighted", "gated", "gated-sigmoid"])
def test_nothing_adds_nothing(name: str) -> None:
    streams = {n: Stream(torch.zeros(3, 2, D), torch.zeros(3, 2, dtype=torch.bool)) for n in NAMES}
    assert not build(name, NAMES)(streams)[0].tokens.any()


@pytest.mark.parametrize("name", FUSIONS)
def test_against_a_plain_loop(name: str) -> None:
    streams, part = streams_like(NAMES, D, rows=6, seed=3), build(name, NAMES)
    for kind in streams:  # every input is missing once, and everything once
        streams[kind].mask[list(NAMES).index(kind) + 2] = False
        streams[kind].mask[5] = False
    streams = {n: Stream(s.tokens * s.mask[..., None], s.mask) for n, s in streams.items()}
    fused, notes = part(streams)
    for row in range(6):
        expected = LOOPS[name.partition("-")[0]](part, means(streams, row))
        torch.testing.assert_close(fused.tokens[row, 0], expected, atol=1e-5, rtol=1e-5)
        if "fusion" in notes.weights:
            there = torch.tensor([m is not None for m in means(streams, row)])
            assert not notes.weights["fusion"][row][~there].any()


def filled(part: torch.nn.Module, vectors: list) -> torch.Tensor:
    tokens = part.slots.missing.weight
    return torch.cat([tokens[i] if v is None else v for i, v in enumerate(vectors)])


def loop_concat(part: torch.nn.Module, vectors: list) -> torch.Tensor:
    joined = filled(part, vectors)
    if isinstance(part.project, torch.nn.Identity):
        return joined
    return part.project.weight @ joined + part.project.bias


def loop_sum(part: torch.nn.Module, vectors: list) -> torch.Tensor:
    return sum([v for v in vectors if v is not None], torch.zeros(D))


def loop_weighted(part: torch.nn.Module, vectors: list) -> torch.Tensor:
    parts = [(part.score.weight[i, 0].exp(), v) for i, v in enumerate(vectors) if v is not None]
    return sum([e * v for e, v in parts], torch.zeros(D)) / sum([e for e, _ in parts], torch.tensor(1e-30))


def loop_transform(part: torch.nn.Module, vectors: list) -> torch.Tensor:
    first, phi, _, last = part.map
    return last.weight @ phi(first.weight @ filled(part, vectors) + first.bias) + last.bias


def loop_gated(part: torch.nn.Module, vectors: list) -> torch.Tensor:
    scores = part.gate.weight @ filled(part, vectors) + part.gate.bias
    result = torch.zeros(D)
    for d in range(D):
        gates = {}
        for i, v in enumerate(vectors):
            if v is not None:
                score = scores[i * D + d]
                gates[i] = score.exp() if part.gates == "softmax" else 1 / (1 + (-score).exp())
        total = sum(gates.values()) if part.gates == "softmax" else 1.0
        for i, gate in gates.items():
            h = torch.tanh(part.features[i].weight[d] @ vectors[i] + part.features[i].bias[d])
            result[d] += gate / total * h
    return result


LOOPS = {
    "concat": loop_concat,
    "sum": loop_sum,
    "weighted": loop_weighted,
    "transform": loop_transform,
    "gated": loop_gated,
}


def test_two_soft_gates_are_the_bimodal_unit_of_the_paper() -> None:
    part = build("gated", NAMES[:2])
    streams = streams_like(NAMES[:2], D, rows=1)
    x = torch.cat(means(streams, 0))
    h = [torch.tanh(f.weight @ v + f.bias) for f, v in zip(part.features, means(streams, 0), strict=True)]
    scores = part.gate.weight @ x + part.gate.bias
    z = torch.sigmoid(scores[:D] - scores[D:])
    torch.testing.assert_close(part(streams)[0].tokens[0, 0], z * h[0] + (1 - z) * h[1])


@pytest.mark.parametrize("name", ["weighted", "gated"])
def test_weights_of_the_present_add_up_to_one(name: str) -> None:
    streams = streams_like(NAMES, D)  # row 1 misses the first input
    weights = build(name, NAMES)(streams)[1].weights["fusion"]
    assert weights.shape == (4, 3)
    torch.testing.assert_close(weights.sum(1), torch.ones(4))
    assert weights[1, 0] == 0


def test_weighted_starts_from_the_mean() -> None:
    streams = streams_like(NAMES, D)
    part = Weighted(inputs=NAMES, width=D)
    torch.testing.assert_close(part(streams)[1].weights["fusion"][0], torch.full((3,), 1 / 3))


def test_sum_does_not_see_names_or_order() -> None:
    streams = streams_like(NAMES, D)
    renamed = dict(zip(("x", "y", "z"), [*streams.values()][::-1], strict=True))
    torch.testing.assert_close(build("sum", NAMES)(streams)[0], build("sum", ("x", "y", "z"))(renamed)[0])


@pytest.mark.parametrize("name", FUSIONS)
def test_names_do_not_matter_but_places_do(name: str) -> None:
    streams, part = streams_like(NAMES, D), build(name, NAMES)
    renamed, swapped = build(name, ("x", "y", "z")), dict(reversed(streams.items()))
    plain = part(streams)[0].tokens
    same = renamed(dict(zip(("x", "y", "z"), streams.values(), strict=True)))[0].tokens
    torch.testing.assert_close(plain, same)
    torch.testing.assert_close(plain, part(swapped)[0].tokens)  # the order of the dict is not the order of the inputs
    moved = renamed(dict(zip(("z", "y", "x"), streams.values(), strict=True)))[0].tokens
    assert torch.allclose(plain, moved, atol=1e-5) == (name == "sum")


@pytest.mark.parametrize("name", ["concat", "transform"])
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
    weights = softmax_present(scores, present)
    for row in range(rows):
        there = [i for i in range(inputs) if present[row, i]]
        expected = torch.zeros(inputs)
        if there:
            expected[there] = scores[row, there].softmax(0)
        torch.testing.assert_close(weights[row], expected)


@pytest.mark.parametrize("name", FUSIONS)
def test_batches_of_another_size_after_export(name: str) -> None:
    streams, part = streams_like(NAMES, D, rows=4), build(name, NAMES)
    rows = torch.export.Dim("rows", min=2, max=64)
    shapes = ({n: Stream({0: rows}, {0: rows}, ()) for n in streams},)
    config.update("jaxtyping_disable", True)  # comparing shapes would fix them
    try:
        program = torch.export.export(part, (streams,), dynamic_shapes=shapes, strict=False)
    finally:
        config.update("jaxtyping_disable", False)
    other = streams_like(NAMES, D, rows=7)
    torch.testing.assert_close(program.module()(other)[0].tokens, part(other)[0].tokens)
