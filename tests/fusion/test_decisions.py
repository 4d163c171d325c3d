"""Joining answers, against plain loops over rows, inputs and classes; missing inputs, names and order, the spec."""

from __future__ import annotations

import math
import statistics
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polymodal.core import catalog
from polymodal.core.checks_decision import check_decision, scores_like
from polymodal.core.schema import settable
from polymodal.fusion.decision.average import Average
from polymodal.fusion.decision.product import Product
from polymodal.fusion.decision.stack import Stack
from polymodal.fusion.decision.vote import Vote

RULES: dict[str, type] = {"average": Average, "product": Product, "vote": Vote, "stack": Stack}
KINDS = ("class", "classes", "value")
each = pytest.mark.parametrize(("name", "kind"), [(n, k) for n in RULES for k in KINDS])


def make(name: str, kind: str, inputs: int, size: int) -> Any:
    return RULES[name](inputs=tuple("abcde"[:inputs]), kind=kind, size=size)


def build(name: str, kind: str, inputs: int, size: int) -> Any:
    """With random weights everywhere, in float64."""
    torch.manual_seed(0)
    part = make(name, kind, inputs, size).double().eval()
    for p in part.parameters():
        torch.nn.init.normal_(p)
    return part


@pytest.mark.parametrize("inputs", [1, 2, 3])
@each
def test_contract(name: str, kind: Any, inputs: int) -> None:
    size = 1 if kind == "value" else 4
    check_decision(lambda: make(name, kind, inputs, size), kind, inputs, size)


def test_the_catalogue_finds_them() -> None:
    assert {n: catalog.load("decision", n, "fusion.type") for n in catalog.PARTS["decision"]} == RULES
    assert not any(settable(cls) for cls in RULES.values())


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def loop_average(part: Any, kind: str, rows: list) -> list[float]:
    """What should come out for the present inputs' scores of a row: probabilities, or a number."""
    if kind == "value":
        return [statistics.fmean(r[0] for r in rows)]
    chance = math.exp if kind == "class" else sigmoid
    return [statistics.fmean(chance(r[c]) for r in rows) for c in range(len(rows[0]))]


def loop_product(part: Any, kind: str, rows: list, at: list[int]) -> list[float]:
    if kind == "value":
        precision = [math.exp(part.precision.weight[i, 0].item()) for i in at]
        return [sum(p * r[0] for p, r in zip(precision, rows, strict=True)) / sum(precision)]
    if kind == "class":
        products = [math.prod(math.exp(r[c]) for r in rows) for c in range(len(rows[0]))]
        return [p / sum(products) for p in products]
    found = []
    for c in range(len(rows[0])):
        yes, no = math.prod(sigmoid(r[c]) for r in rows), math.prod(1 - sigmoid(r[c]) for r in rows)
        found.append(yes / (yes + no))
    return found


def loop_vote(part: Any, kind: str, rows: list) -> list[float]:
    if kind == "value":
        return [statistics.median(r[0] for r in rows)]
    shared, n = loop_average(part, kind, rows), len(rows)
    votes = [0] * len(shared)
    for r in rows:
        for c in range(len(r)):
            votes[c] += (r[c] > 0) if kind == "classes" else c == max(range(len(r)), key=r.__getitem__)
    return [(v + p) / (n + 1) for v, p in zip(votes, shared, strict=True)]


def loop_stack(part: Any, kind: str, rows: list, at: list[int]) -> list[float]:
    found, there = [], dict(zip(at, rows, strict=True))
    missing, weight, bias = (x.tolist() for x in (part.missing.weight, part.join.weight, part.join.bias))
    for out in range(len(bias)):
        z = bias[out]
        for i, learned in enumerate(missing):
            for c, score in enumerate(there.get(i, learned)):
                z += weight[out][i * len(bias) + c] * score
        found.append(z)
    if kind == "class":
        return [math.exp(z) / sum(map(math.exp, found)) for z in found]
    return found if kind == "value" else [sigmoid(z) for z in found]


def chances(kind: str, scores: torch.Tensor) -> np.ndarray:
    if kind == "value":
        return scores.detach().numpy()
    return (scores.softmax(-1) if kind == "class" else scores.sigmoid()).detach().numpy()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), inputs=st.integers(1, 5))
@each
def test_against_a_plain_loop(name: str, kind: Any, seed: int, inputs: int) -> None:
    scores, present = scores_like(kind, inputs, 1 if kind == "value" else 3, seed=seed)
    part = build(name, kind, inputs, scores.shape[2])
    found = chances(kind, part(scores.double(), present))
    for row in range(len(scores)):
        at = [i for i in range(inputs) if present[row, i]]
        if at:
            rows = scores[row, at].double().tolist()
            more = [at] if name in ("product", "stack") else []
            expected = globals()[f"loop_{name}"](part, kind, rows, *more)
            np.testing.assert_allclose(found[row], expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["average", "product", "vote"])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_uniform_or_zero(name: str, kind: Any) -> None:
    scores, _ = scores_like(kind, 3, 4)
    found = chances(kind, make(name, kind, 3, 4)(scores, torch.zeros(6, 3, dtype=torch.bool)))
    np.testing.assert_allclose(found, {"class": 0.25, "classes": 0.5, "value": 0.0}[kind], atol=1e-6)


@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(3)), seed=st.integers(0, 1000))
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["average", "product", "vote"])
def test_the_order_of_the_inputs_says_nothing(name: str, kind: Any, order: list[int], seed: int) -> None:
    scores, present = scores_like(kind, 3, 2, seed=seed)
    one, two = make(name, kind, 3, 2), RULES[name](inputs=("z", "y", "x"), kind=kind, size=2)
    torch.testing.assert_close(one(scores, present), two(scores[:, order], present[:, order]))


@pytest.mark.parametrize("name", ["average", "product", "vote"])
def test_what_comes_out_are_log_probabilities(name: str) -> None:
    scores, present = scores_like("class", 3, 4)
    present[-1] = True
    found = make(name, "class", 3, 4)(scores, present)
    torch.testing.assert_close(found.logsumexp(1)[present.any(1)], torch.zeros(int(present.any(1).sum())), atol=1e-5,
                               rtol=0.0)  # fmt: skip


def test_two_sure_experts_outvote_a_third_by_product_and_one_veto_counts() -> None:
    p = torch.tensor([[[0.6, 0.3, 0.1], [0.6, 0.3, 0.1], [0.001, 0.599, 0.4]]]).log()
    there = torch.ones(1, 3, dtype=torch.bool)
    assert make("average", "class", 3, 3)(p, there).argmax() == 0  # 0.400 against 0.3997
    assert make("vote", "class", 3, 3)(p, there).argmax() == 0
    assert make("product", "class", 3, 3)(p, there).argmax() == 1  # one says: surely not


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 2), min_size=1, max_size=5),
    st.lists(st.floats(0.34, 0.999), min_size=5, max_size=5),
)
def test_the_mean_never_outvotes_a_majority(votes: list[int], sure: list[float]) -> None:
    rows = [[s if c == v else (1 - s) / 2 for c in range(3)] for v, s in zip(votes, sure, strict=False)]
    scores = torch.tensor([rows], dtype=torch.float64).log()
    found = make("vote", "class", len(votes), 3)(scores, torch.ones(1, len(votes), dtype=torch.bool))
    counts = [votes.count(c) for c in range(3)]
    best = [c for c in range(3) if counts[c] == max(counts)]
    assert int(found.argmax()) in best
    if len(best) > 1:  # a tie
        means = [statistics.fmean(r[c] for r in rows) for c in range(3)]
        if sorted(means[c] for c in best)[-1] - sorted(means[c] for c in best)[-2] > 1e-9:
            assert int(found.argmax()) == max(best, key=means.__getitem__)


def test_stack_begins_as_the_mean_and_product_with_equal_precisions() -> None:
    scores, _ = scores_like("value", 3, 1)
    there = torch.ones(6, 3, dtype=torch.bool)
    mean = scores.mean(1)
    torch.testing.assert_close(make("stack", "value", 3, 1)(scores, there), mean)
    torch.testing.assert_close(make("product", "value", 3, 1)(scores, there), mean)
    assert sum(p.numel() for p in make("stack", "class", 3, 4).parameters()) == 3 * 4**2 + (3 + 1) * 4


def test_precisions_learn_the_reliability_of_each_expert() -> None:
    """Independent errors of variance 1 and 4: least squares weighs them 4 to 1, as precisions do."""
    g = torch.Generator().manual_seed(0)
    noise = torch.randn(4000, 2, 1, generator=g) * torch.tensor([[1.0], [2.0]])
    truth, there = torch.randn(4000, 1, generator=g), torch.ones(4000, 2, dtype=torch.bool)
    part = make("product", "value", 2, 1)
    optimizer = torch.optim.Adam(part.parameters(), 0.05)
    for _ in range(200):
        loss = (part(truth[:, None] + noise, there) - truth).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    share = part.precision.weight.exp().flatten()
    assert (share[0] / share[1]).item() == pytest.approx(4, rel=0.15)
