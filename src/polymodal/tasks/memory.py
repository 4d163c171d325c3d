"""What a decoder looks at: the fused tokens and the tokens of every input, one after the other."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from polymodal.core.streams import Stream, Streams


class Memory(nn.Module):
    """Streams [B T_i D] and the fused stream [B T W] -> one stream [B T + Σ T_i, W].

    The fused tokens come first, then the inputs in order, each with a learned mark that says whose it is; streams of
    another width than the fused one are projected to it.
    """

    def __init__(self, *, inputs: tuple[str, ...], width: int, width_in: int) -> None:
        super().__init__()
        self.inputs = inputs
        self.marks = nn.Embedding(1 + len(inputs), width)
        self.project = nn.Identity() if width_in == width else nn.Linear(width_in, width)
        nn.init.normal_(self.marks.weight, std=0.02)

    def forward(self, streams: Streams, fused: Stream | None) -> Stream:
        told = [] if fused is None else [(0, fused.tokens, fused.mask)]
        told += [(1 + at, self.project(streams[n].tokens), streams[n].mask) for at, n in enumerate(self.inputs)]
        place = torch.arange(self.marks.num_embeddings, device=told[0][1].device)
        marks = self.marks(place)
        tokens = torch.cat([(tokens + marks[at]) * mask[..., None] for at, tokens, mask in told], 1)
        return Stream(tokens, torch.cat([mask for _, _, mask in told], 1))

    def parts(
        self, looked: Float[Tensor, "B L S"], streams: Streams, fused: Stream | None
    ) -> dict[str, Float[Tensor, "B L _T"]]:
        """How what was looked at divides among the inputs: of each, the share that every token of its own had."""
        at = 0 if fused is None else fused.tokens.shape[1]
        found = {}
        for name in self.inputs:
            found[name] = looked[..., at : at + streams[name].tokens.shape[1]]
            at += streams[name].tokens.shape[1]
        return found


def of_rows(memory: Stream, rows: Tensor) -> Stream:
    """The memory of these rows, in this order; a row may be named more than once."""
    return Stream(memory.tokens[rows], memory.mask[rows])
