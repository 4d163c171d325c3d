"""Shapley values and interactions against brute force over all orders, axioms and worked cases."""

from itertools import combinations, permutations
from math import factorial

import numpy as np
import pytest

from polymodal.work.compare.bootstrap import told
from polymodal.work.compare.contribution import Worth, interaction, shapley, wanted

NAMES = ("photo", "title", "sound", "table", "clip", "series", "map", "note")


def worths(inputs: tuple[str, ...], seed: int = 0, draws: int = 7) -> Worth:
    rng = np.random.default_rng(seed)
    return {s: rng.normal(size=draws) for s in wanted(inputs)}


def by_orders(worth: Worth, inputs: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The definition: what an input adds to those before it, on average over all n! orders."""
    found = {name: np.zeros(7) for name in inputs}
    for order in permutations(inputs):
        for k, name in enumerate(order):
            found[name] += (worth[frozenset(order[: k + 1])] - worth[frozenset(order[:k])]) / factorial(len(inputs))
    return found


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6])
def test_shapley_is_the_mean_over_all_orders(count: int) -> None:
    inputs = NAMES[:count]
    worth = worths(inputs)
    assert len(worth) == 2**count
    found, expected = shapley(worth, inputs), by_orders(worth, inputs)
    assert list(found) == list(inputs)
    for name in inputs:
        np.testing.assert_allclose(found[name], expected[name])


@pytest.mark.parametrize("count", [1, 2, 4, 6, 7, 8])
def test_they_add_up(count: int) -> None:
    """Efficiency: in every draw the contributions sum to what all inputs are worth beyond none; sampled orders too."""
    inputs = NAMES[:count]
    worth = worths(inputs)
    total = worth[frozenset(inputs)] - worth[frozenset()]
    np.testing.assert_allclose(sum(shapley(worth, inputs).values()), total, atol=1e-12)
    np.testing.assert_allclose(sum(shapley(worth, inputs, lower=True).values()), -total, atol=1e-12)


def test_an_input_that_says_nothing_and_two_alike() -> None:
    """Null player, symmetry: `sound` changes nothing; `photo` and `title` each tell all there is to tell."""
    inputs = NAMES[:3]
    worth = {s: np.array([float(bool(s & {"photo", "title"}))]) for s in wanted(inputs)}
    found = {name: float(v[0]) for name, v in shapley(worth, inputs).items()}
    assert found == pytest.approx({"photo": 0.5, "title": 0.5, "sound": 0.0})
    pairs = interaction(worth, inputs)
    assert {p: round(float(v[0]), 9) for p, v in pairs.items()} == {
        ("photo", "title"): -1.0,
        ("photo", "sound"): 0.0,
        ("title", "sound"): 0.0,
    }


def test_beyond_six_inputs_orders_are_sampled() -> None:
    """For an additive worth any orders give each input its own; for others a mean over 32 of them comes near."""
    inputs, own = NAMES[:8], np.arange(8.0)
    few = wanted(inputs)
    assert few == wanted(inputs)
    assert len(few) < 2**8
    assert {frozenset(), frozenset(inputs)} <= set(few)
    additive = {s: np.array([sum((own[inputs.index(n)] for n in s), 0.0)]) for s in few}
    assert [float(v[0]) for v in shapley(additive, inputs).values()] == pytest.approx(list(own))
    curved = {s: np.sqrt(np.array([sum((own[inputs.index(n)] for n in s), 0.0)])) for s in map(frozenset, _all(inputs))}
    sampled = np.array([v[0] for v in shapley({s: curved[s] for s in few}, inputs).values()])
    exact = np.zeros(8)
    for i, name in enumerate(inputs):
        for s in (s for s in curved if name not in s):
            share = factorial(len(s)) * factorial(7 - len(s)) / factorial(8)
            exact[i] += share * (curved[s | {name}] - curved[s])[0]
    np.testing.assert_allclose(sampled, exact, atol=0.12)
    assert set(wanted(inputs, seed=1)) != set(few)
    assert interaction(additive, inputs) == {}


def _all(inputs: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [s for k in range(len(inputs) + 1) for s in combinations(inputs, k)]


def test_the_interaction_of_two_is_what_they_know_beyond_their_sum() -> None:
    a, b, none = frozenset({"a"}), frozenset({"b"}), frozenset()
    accuracy = {none: np.array([0.5]), a: np.array([0.5]), b: np.array([0.5]), a | b: np.array([1.0])}  # exclusive or
    assert interaction(accuracy, ("a", "b"))["a", "b"] == pytest.approx(0.5)
    loss = {s: 1 - v for s, v in accuracy.items()}
    assert interaction(loss, ("a", "b"), lower=True)["a", "b"] == pytest.approx(0.5)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_interaction_index_by_brute_force(count: int) -> None:
    """What a pair adds as one player, less what each adds while the other is away, over all orders of n - 1 players."""
    inputs = NAMES[:count]
    worth = worths(inputs)
    for (one, two), found in interaction(worth, inputs).items():
        rest = [n for n in inputs if n not in (one, two)]
        total = np.zeros(7)
        for order in permutations([*rest, "pair"]):
            s = frozenset(order[: order.index("pair")])
            total += worth[s | {one, two}] - worth[s | {one}] - worth[s | {two}] + worth[s]
        np.testing.assert_allclose(found, total / factorial(count - 1))


def test_intervals_come_with_them() -> None:
    rng = np.random.default_rng(0)
    worth = {s: 0.1 * len(s) + rng.normal(0, 0.001, 501) for s in wanted(("a", "b"))}
    found = told(shapley(worth, ("a", "b"))["a"])
    assert found["value"] == pytest.approx(0.1, abs=0.01)
    assert 0 < found["ci95"][0] < found["ci95"][1] < 0.2
