"""Chance in torch as a function of keys: a row draws the same numbers in every batch and with any padding."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from polymodal.core.seeds import derive

BITS = 24  # of a number drawn: a float32 holds them exactly


def numbers(key: Int[Tensor, "*B"], purpose: str, count: int) -> Int[Tensor, "*B n"]:
    """`count` whole numbers of 63 bits for each key, the n-th whatever `count` is; other purposes, other numbers.

    SplitMix64 with the key as its seed, as in `seeds.row_keys`; products wrap around, as they do there.
    """
    steps = torch.arange(1, count + 1, device=key.device) * _signed(0x9E3779B97F4A7C15)
    return _mixed(_mixed(key + derive(purpose))[..., None] + steps) >> 1 & (1 << 63) - 1


def uniform(key: Int[Tensor, "*B"], purpose: str, count: int) -> Float[Tensor, "*B n"]:
    """`count` numbers from 0 to below 1 for each key."""
    return (numbers(key, purpose, count) >> 63 - BITS).float() / (1 << BITS)


def _mixed(x: Int[Tensor, "*B"]) -> Int[Tensor, "*B"]:
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ _right(x, shift)) * _signed(factor)
    return x ^ _right(x, 31)


def _right(x: Int[Tensor, "*B"], shift: int) -> Int[Tensor, "*B"]:
    """A shift that brings in zeros, as of numbers without a sign."""
    return x >> shift & (1 << 64 - shift) - 1


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word
