"""One token for every word: the states of its first piece."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from polymodal.core.streams import Stream


def first_pieces(
    states: Float[Tensor, "N T W"], mask: Bool[Tensor, "N T"], word: Int[Tensor, "N T"]
) -> Stream:  # fmt: skip
    """Token w of a row is the state of the first token whose `word` is w, zeros where a word has none.

    There are as many as there are words up to the last that has a token, one at least (Devlin et al. 2019, 5.3).
    """
    longest = states.shape[1]
    place = torch.arange(longest, device=states.device).expand_as(word)
    known = mask & (word >= 0)
    nowhere = torch.full_like(word, longest)
    first = nowhere.scatter_reduce(1, word.clamp(min=0), torch.where(known, place, longest), "amin")
    count = torch.where(known, word + 1, 0).amax(1).clamp(min=1)
    there = torch.arange(longest, device=states.device) < count[:, None]
    index = first.clamp(max=longest - 1)[..., None].expand(-1, -1, states.shape[2])
    return Stream(states.gather(1, index) * (there & (first < longest))[..., None], there & mask.any(1, keepdim=True))
