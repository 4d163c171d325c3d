"""What a search asks of a decoder: scores of the next token, and to go on from other beginnings."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from polymodal.core.contracts import Decoder
from polymodal.core.streams import State, Stream


class Remembering:
    """Every step takes one token and remembers the rest. `copies` places for each row, next to each other."""

    def __init__(self, decoder: Decoder, memory: Stream, longest: int, copies: int) -> None:
        self.decoder, self.state = decoder, decoder.begin(memory, longest)
        if copies > 1:
            past, fixed = (_repeated(x, copies) for x in self.state[:2])
            self.state = State(past, fixed, self.state.at)

    def next(self, ids: Int[Tensor, " N"]) -> Float[Tensor, "N V"]:
        """Scores of what follows these tokens."""
        scores, self.state = self.decoder.step(self.state, ids)
        return scores

    def turn(self, order: Int[Tensor, " N"]) -> None:
        """Place i goes on from what place order[i] said; both are of one row."""
        self.state = self.state._replace(past={n: x.index_select(0, order) for n, x in self.state.past.items()})


class Rereading:
    """Every step reads everything again: what `Remembering` must agree with, and is measured against."""

    def __init__(self, decoder: Decoder, memory: Stream, copies: int) -> None:
        self.decoder, self.said = decoder, torch.empty(0)
        self.memory = Stream(memory.tokens.repeat_interleave(copies, 0), memory.mask.repeat_interleave(copies, 0))

    def next(self, ids: Int[Tensor, " N"]) -> Float[Tensor, "N V"]:
        self.said = torch.cat([self.said, ids[:, None]], 1) if self.said.numel() else ids[:, None]
        return self.decoder(self.memory, self.said)[:, -1]

    def turn(self, order: Int[Tensor, " N"]) -> None:
        self.said = self.said[order]


Speaker = Remembering | Rereading


def _repeated(tensors: dict[str, Tensor], copies: int) -> dict[str, Tensor]:
    return {name: x.repeat_interleave(copies, 0) for name, x in tensors.items()}


class Lips:
    """From a decoder's scores to log-probabilities of the tokens that may be said at a step."""

    def __init__(self, end: int, banned: tuple[int, ...], min_tokens: int) -> None:
        self.early, self.late, self.min_tokens = sorted({*banned, end}), sorted({*banned} - {end}), min_tokens
        self.shut: dict[bool, Bool[Tensor, " V"]] = {}

    def __call__(self, scores: Float[Tensor, "N V"], step: int) -> Float[Tensor, "N V"]:
        early = step < self.min_tokens
        if early not in self.shut:
            self.shut[early] = scores.new_zeros(scores.shape[1], dtype=torch.bool)
            self.shut[early][self.early if early else self.late] = True
        return scores.float().masked_fill(self.shut[early], -torch.inf).log_softmax(1)
