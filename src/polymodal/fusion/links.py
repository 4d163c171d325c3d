"""Who hears whom in a graph of inputs and their tokens; the same shapes whatever is missing."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Links(NamedTuple):
    """The edges among M = N + T nodes, first the N inputs, then the T tokens of all of them.

    They run both ways, and every node that is there hears itself; one that is not there hears nobody and is not heard.
    """

    inputs: Bool[Tensor, "B N M"]  # whom an input's node hears: all inputs, and its own tokens
    who: Int[Tensor, "B T S"]  # the nodes that a token may hear: itself, its input, its neighbours
    open: Bool[Tensor, "B T S"]  # which of these it does hear

    def degrees(self) -> Int[Tensor, "B M"]:
        """How many nodes each one hears, itself included."""
        return torch.cat([self.inputs.sum(2), self.open.sum(2)], 1)

    def heard(self, nodes: Float[Tensor, "B M D"]) -> Float[Tensor, "B T S D"]:
        """What stands in the nodes that each token may hear."""
        flat = self.who.flatten(1)[..., None].expand(-1, -1, nodes.shape[2])
        return nodes.gather(1, flat).unflatten(1, self.who.shape[1:])


def links(there: Bool[Tensor, "B N"], masks: list[Bool[Tensor, "B _T"]], reach: int) -> Links:
    """The edges for inputs that are `there` and the tokens of each (none for a graph of inputs alone).

    A token's neighbours are the `reach` real tokens of its input before it and as many after it, whatever
    padding stands between.
    """
    count, device = there.shape[1], there.device
    mask = torch.cat(masks, 1) if masks else there[:, :0]
    of_each = [torch.full(m.shape[1:], i, device=device) for i, m in enumerate(masks)]
    owner = torch.cat([torch.arange(0, device=device), *of_each])  # the number of each token's input
    own = (owner == torch.arange(count, device=device)[:, None]) & mask[:, None]
    inputs = torch.cat([there[:, :, None] & there[:, None], own], 2)
    place, near = _neighbours(mask, owner, reach)
    itself = torch.arange(len(owner), device=device)
    first = torch.stack([count + itself, owner], 1).expand(mask.shape[0], -1, -1)
    return Links(inputs, torch.cat([first, count + place], 2), torch.cat([mask[..., None].expand(-1, -1, 2), near], 2))


def _neighbours(
    mask: Bool[Tensor, "B T"], owner: Int[Tensor, " T"], reach: int
) -> tuple[Int[Tensor, "B T K"], Bool[Tensor, "B T K"]]:
    """The K = 2·reach places around every token, counted over real tokens, and which of them hold a neighbour."""
    places = (~mask).to(torch.uint8).argsort(dim=1, stable=True)  # the real tokens first, in their order
    steps = torch.tensor([s for s in range(-reach, reach + 1) if s], device=mask.device)
    rank = (mask.cumsum(1) - 1)[..., None] + steps
    inside = (rank >= 0) & (rank < mask.sum(1)[:, None, None]) & mask[..., None]
    place = places.gather(1, rank.clamp(0, mask.shape[1] - 1).flatten(1)).unflatten(1, rank.shape[1:])
    return place, inside & (owner[place] == owner[:, None])
