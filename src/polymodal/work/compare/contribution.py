"""What each input contributes: Shapley values of withholding, and how far two inputs know more together.

A coalition is the set of inputs that a model is given; the others are withheld (or shuffled between rows). Its worth is
the samples of a measure, see `bootstrap.Draws`: so every number here comes with its interval. All of it counts
improvement: where lower is better, a contribution is how much the measure falls.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, combinations
from math import factorial

import numpy as np

from polymodal.core.seeds import generator
from polymodal.work.compare.bootstrap import Samples

Coalition = frozenset[str]
Worth = Mapping[Coalition, Samples]
EXACT = 6  # inputs up to which every coalition is measured: 64 of them
ORDERS = 32  # orders of the inputs that are drawn beyond: half of them, and each in reverse


def wanted(inputs: Sequence[str], seed: int = 0) -> list[Coalition]:
    """The coalitions that `shapley` needs, the empty one and all inputs among them: 2^n up to 6 inputs."""
    if len(inputs) <= EXACT:
        return list(_subsets(inputs))
    prefixes = (frozenset(order[:k]) for order in _orders(inputs, seed) for k in range(len(order) + 1))
    return list(dict.fromkeys(prefixes))


def shapley(worth: Worth, inputs: Sequence[str], *, lower: bool = False, seed: int = 0) -> dict[str, Samples]:
    """Each input's Shapley value: what it adds to those before it, on average over all orders of the inputs.

    phi_i = sum over S without i of |S|! (n - |S| - 1)! / n! * (v(S + i) - v(S)); they add up to v(all) - v(nothing).
    Beyond 6 inputs the mean over 32 orders, 16 drawn by `seed` and their reverses, which adds up as well.
    Sources: Shapley 1953; Castro, Gomez and Tejada 2009 (sampling orders); Mitchell et al. 2022 (reversed orders).
    """
    sign, count = -1.0 if lower else 1.0, len(inputs)
    found = {name: np.zeros_like(worth[frozenset()]) for name in inputs}
    if count <= EXACT:
        for name in inputs:
            for before in _subsets([other for other in inputs if other != name]):
                share = factorial(len(before)) * factorial(count - len(before) - 1) / factorial(count)
                found[name] += sign * share * (worth[before | {name}] - worth[before])
        return found
    orders = _orders(inputs, seed)
    for order in orders:
        for place, name in enumerate(order):
            gain = worth[frozenset(order[: place + 1])] - worth[frozenset(order[:place])]
            found[name] += sign * gain / len(orders)
    return found


def interaction(worth: Worth, inputs: Sequence[str], *, lower: bool = False) -> dict[tuple[str, str], Samples]:
    """The Shapley interaction index of each pair: how much more the two add together than one by one.

    I_ij = sum over S without i and j of |S|! (n - |S| - 2)! / (n - 1)! * (v(S + i + j) - v(S + i) - v(S + j) + v(S));
    with two inputs that is v(ab) - v(a) - v(b) + v(nothing). Above 0 the pair knows more than the sum of both, below 0
    they say the same in part. Source: Grabisch and Roubens 1999, "An axiomatic approach to the concept of interaction
    among players in cooperative games". Nothing beyond 6 inputs, where not every coalition is measured.
    """
    sign, count = -1.0 if lower else 1.0, len(inputs)
    found: dict[tuple[str, str], Samples] = {}
    for one, two in combinations(inputs, 2) if count <= EXACT else ():
        total = np.zeros_like(worth[frozenset()])
        for others in _subsets([name for name in inputs if name not in (one, two)]):
            share = factorial(len(others)) * factorial(count - len(others) - 2) / factorial(count - 1)
            both, neither = worth[others | {one, two}], worth[others]
            total += sign * share * (both - worth[others | {one}] - worth[others | {two}] + neither)
        found[one, two] = total
    return found


def _subsets(names: Sequence[str]) -> Iterator[Coalition]:
    return map(frozenset, chain.from_iterable(combinations(names, k) for k in range(len(names) + 1)))


def _orders(inputs: Sequence[str], seed: int) -> list[tuple[str, ...]]:
    rng = generator(seed, "orders", *inputs)
    drawn = [tuple(inputs[i] for i in rng.permutation(len(inputs))) for _ in range(ORDERS // 2)]
    return [order for one in drawn for order in (one, one[::-1])]
