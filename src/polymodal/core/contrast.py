"""Comparing rows with rows: which cells they show, those of all processes, the loss of the nearest."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from polymodal.core.contracts import Gather
from polymodal.core.streams import Cells


def digests(cells: Cells) -> Int[Tensor, "B K"]:
    """What every row shows, by the digest of the content; -1 for nothing."""
    return cells.id[cells.index.clamp(min=0)].where(cells.index >= 0, -1)


def common(one: Int[Tensor, "B K"], two: Int[Tensor, "C J"]) -> Bool[Tensor, "B C"]:
    """Whether a row and another one have a digest in common; -1 is none."""
    found = torch.zeros(len(one), len(two), dtype=torch.bool, device=one.device)
    for mine in one.unbind(1):
        for theirs in two.unbind(1):
            found |= (mine[:, None] == theirs) & (mine[:, None] >= 0)
    return found


def everyone(columns: tuple[Tensor, ...], gather: Gather | None) -> tuple[Tensor, ...]:
    """The rows of all processes, with gradient; one that has fewer adds rows of zeros, of nothing that is there."""
    if gather is None:
        return columns
    rows = len(columns[0])
    short = int(gather(torch.tensor([rows], device=columns[0].device)).max()) - rows
    return tuple(_gathered(x, short, gather) for x in columns)


def _gathered(x: Tensor, short: int, gather: Gather) -> Tensor:
    whole = x.long() if x.dtype == torch.bool else x
    found = gather(F.pad(whole, (*[0] * (2 * x.ndim - 1), short)))
    return found > 0 if x.dtype == torch.bool else found


def nearest(
    own: Float[Tensor, "*Q P"], against: Float[Tensor, "*Q N"], barred: Bool[Tensor, "*Q N"]
) -> Float[Tensor, "*Q P"]:
    """`-ln(e^own / (e^own + Σ e^against))` of each of P positives, over what is not barred (InfoNCE)."""
    others = against.masked_fill(barred, torch.finfo(against.dtype).min).logsumexp(-1, keepdim=True)
    return F.softplus(others - own)
