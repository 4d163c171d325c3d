"""Every attention costs what its docstring says: parameters to the last one, multiplications as torch counts them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from polymodal.attention.bidirectional import CrossAttention
from polymodal.attention.bottleneck import Bottleneck
from polymodal.attention.co import CoAttention
from polymodal.attention.hierarchical import Hierarchical
from polymodal.attention.none import NoAttention
from polymodal.attention.perceiver import Perceiver
from polymodal.core.streams import Stream

L, R, K = 3, 2, 5  # layers, ratio, learned tokens
LAYERS = {"layers": L, "heads": 2, "ratio": R}


def mixing(d: int) -> int:
    return (4 + 2 * R) * d**2 + (9 + R) * d


def look(n: int, d: int) -> int:
    return n * (n - 1) // 2 * d**2 + n * (d**2 + d)


PARAMETERS: dict[str, tuple[type, dict, Callable[[int, int], int]]] = {
    "bidirectional": (CrossAttention, LAYERS, lambda n, d: L * (
        n * (n - 1) * (4 * d**2 + 4 * d) + (n > 1) * 2 * n * d + n * mixing(d)) + 2 * n * d),
    "bidirectional-share": (CrossAttention, LAYERS | {"share": True}, lambda n, d: L * (
        (n > 1) * (4 * d**2 + 4 * d + 2 * n * d) + n * mixing(d)) + 2 * n * d),
    "bidirectional-cross": (CrossAttention, LAYERS | {"self_attention": False}, lambda n, d: L * (
        n * (n - 1) * (4 * d**2 + 4 * d) + (n > 1) * 2 * n * d + n * (2 * R * d**2 + (3 + R) * d)) + 2 * n * d),
    "co": (CoAttention, LAYERS, lambda n, d: L * n * (
        (8 + 2 * R) * d**2 + (15 + R) * d if n > 1 else mixing(d)) + 2 * n * d),
    "co-parallel": (CoAttention, {"form": "parallel"}, look),
    "bottleneck": (Bottleneck, LAYERS | {"tokens": K, "from_layer": 1},
                   lambda n, d: K * d + L * n * mixing(d) + 2 * n * d),
    "perceiver": (Perceiver, LAYERS | {"latents": K}, lambda n, d: (
        (K + n) * d + 2 * ((4 + 2 * R) * d**2 + (11 + R) * d) + L * mixing(d) + 2 * d)),
    "hierarchical": (Hierarchical, {"levels": 3}, lambda n, d: 2 * look(n, d)),
    "hierarchical-flat": (Hierarchical, {"levels": 1}, look),
    "none": (NoAttention, {}, lambda n, d: 0),
}  # fmt: skip


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize(("count", "width"), [(1, 6), (2, 4), (3, 10), (4, 8)])
def test_parameters(name: str, count: int, width: int) -> None:
    cls, chosen, formula = PARAMETERS[name]
    part = cls(inputs=tuple("abcd"[:count]), width=width, **chosen)
    assert sum(p.numel() for p in part.parameters()) == formula(count, width)


def layered(t: int, d: int) -> int:
    return (4 + 2 * R) * t * d**2 + 2 * t**2 * d


def looking(n: int, t: int, d: int) -> int:
    return n * (n - 1) // 2 * (t * d**2 + 3 * t**2 * d) + n * (t * d**2 + t * d)


PRODUCTS: dict[str, Callable[[int, int, int], int]] = {
    "bidirectional": lambda n, t, d: L * (n * (n - 1) * (4 * t * d**2 + 2 * t**2 * d) + n * layered(t, d)),
    "bidirectional-share": lambda n, t, d: PRODUCTS["bidirectional"](n, t, d),
    "bidirectional-cross": lambda n, t, d: L * (
        n * (n - 1) * (4 * t * d**2 + 2 * t**2 * d) + n * 2 * R * t * d**2),
    "co": lambda n, t, d: L * n * (layered(t, d) + (n > 1) * (2 * n * t * d**2 + 2 * (n - 1) * t**2 * d)),
    "co-parallel": looking,
    "bottleneck": lambda n, t, d: n * (layered(t, d) + (L - 1) * layered(t + K, d)),
    "perceiver": lambda n, t, d: (4 + 2 * R) * (n * t + K) * d**2 + 4 * K * n * t * d + L * layered(K, d),
    "hierarchical": lambda n, t, d: looking(n, t, d) + looking(n, t // 4, d) + n * t * t // 4 * (d + 1),
    "hierarchical-flat": looking,
    "none": lambda n, t, d: 0,
}  # fmt: skip


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize(("count", "length", "width"), [(1, 8, 4), (2, 8, 6), (3, 12, 4)])
def test_multiplications(name: str, count: int, length: int, width: int) -> None:
    """As torch counts them, two operations for a multiplication; in training, where no weights are shown."""
    inputs, rows = tuple("abc"[:count]), 2
    part = PARAMETERS[name][0](inputs=inputs, width=width, **PARAMETERS[name][1])
    whole = torch.ones(rows, length, dtype=torch.bool)
    streams = {n: Stream(torch.randn(rows, length, width), whole) for n in inputs}
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        part(streams)
    assert counter.get_total_flops() == 2 * rows * PRODUCTS[name](count, length, width)
