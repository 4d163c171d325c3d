"""What an input says of some rows, and how near that is to what another one says."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from polymodal.core.contracts import Gather
from polymodal.core.contrast import common, everyone


class View(NamedTuple):
    """One input of B rows: of each of K cells M vectors, one unless interaction is late."""

    vectors: Float[Tensor, "B K M E"]  # of length 1; zeros where there is none
    there: Bool[Tensor, "B K M"]
    shown: Int[Tensor, "B K"]  # digest of the cell's content, -1 where there is none
    group: Int[Tensor, " B"]  # rows of the same group are the same answer; -1: of none

    @property
    def present(self) -> Bool[Tensor, "B K"]:
        return self.there.any(2)


def gathered(view: View, gather: Gather | None) -> View:
    """The rows of all processes."""
    return View(*everyone(tuple(view), gather))


def joined(one: View, two: View) -> View:
    return View(*(torch.cat(pair) for pair in zip(one, two, strict=True)))


def same(mine: tuple[View, View], theirs: tuple[View, View]) -> Bool[Tensor, "B C"]:
    """Whether two rows are an answer to each other: they show the same in one of two inputs, or are of one group."""
    shared = [common(one.shown, two.shown) for one, two in zip(mine, theirs, strict=True)]
    return shared[0] | shared[1] | common(mine[0].group[:, None], theirs[0].group[:, None])


def near(one: View, two: View) -> Float[Tensor, "B K C J"]:
    """The similarity of every cell of one input with every cell of another, -1 to 1.

    Of single vectors their product; of several the mean over those of `one` of the nearest of `two`.
    """
    products = torch.einsum("bkme,cjne->bkmcjn", one.vectors, two.vectors)
    return _of_tokens(products, one.there, two.there[None, None, None])


def own(one: View, two: View) -> Float[Tensor, "B K J"]:
    """The same of the cells of each row."""
    products = torch.einsum("bkme,bjne->bkmjn", one.vectors, two.vectors)
    return _of_tokens(products, one.there, two.there[:, None, None])


def _of_tokens(products: Tensor, mine: Bool[Tensor, "B K M"], theirs: Tensor) -> Tensor:
    """The nearest along the last axis, then the mean along the third one."""
    if mine.shape[2] == theirs.shape[-1] == 1:
        return products.squeeze(-1).squeeze(2)
    best = products.masked_fill(~theirs, -1.0).amax(-1)
    weight = mine.to(best.dtype) / mine.sum(2, keepdim=True).clamp(min=1)
    return (best * weight.reshape(*weight.shape, *[1] * (best.ndim - 3))).sum(2)
