"""Tokens by lot: a number between 0 and 1 for each row, and which token it falls on."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from polymodal.core.search.plan import Search


def draw(scores: Float[Tensor, "N V"], chance: Float[Tensor, " N"], search: Search) -> Int[Tensor, " N"]:
    """The token that `chance`, uniform in [0, 1), falls on when the shares of all tokens stand in a row (inverse CDF).

    `scores` are log-probabilities. Tokens stand in the order of their ids, so that a tiny change of the scores moves
    the borders between tokens by as little.
    """
    upto = shares(scores, search).cumsum(1)
    whole = upto[:, -1]
    below = torch.minimum(chance.to(whole) * whole, torch.nextafter(whole, torch.zeros_like(whole)))
    return torch.searchsorted(upto, below[:, None], right=True)[:, 0].clamp(max=scores.shape[1] - 1)  # of NaN, the last


def shares(scores: Float[Tensor, "N V"], search: Search) -> Float[Tensor, "N V"]:
    """The probabilities to draw from: temperature, then `top_k`, then `top_p`; of tokens that are left out, zero."""
    scores = scores / search.temperature
    if search.top_k:
        least = scores.topk(min(search.top_k, scores.shape[1]), 1).values[:, -1:]
        scores = scores.masked_fill(scores < least, -torch.inf)
    p = scores.softmax(1)
    return _nucleus(p, search.top_p) if search.top_p < 1 else p


def _nucleus(p: Float[Tensor, "N V"], share: float) -> Float[Tensor, "N V"]:
    """The likeliest tokens: each one before which there was less than the share; the likeliest always."""
    falling, place = p.sort(stable=True, dim=1, descending=True)
    kept = falling * (falling.cumsum(1) - falling < share)
    kept = torch.zeros_like(p).scatter(1, place, kept)
    return kept / kept.sum(1, keepdim=True)
