"""Fusion by a Transformer over the tokens of all inputs."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from polymodal.core.schema import Chance, Positive, Wired
from polymodal.core.streams import Notes, Stream, Streams, pool
from polymodal.core.transformer import TransformerStack, rows_of
from polymodal.fusion.slots import one_token


class JointTransformer(nn.Module):
    """A Transformer encoder over all tokens of all inputs, each with a learned mark of its input.

    `H = Transformer([s; t_1 + m_i(1); ...; t_T + m_i(T)])` with a learned token `s` in front, over the real tokens
    `t_j` of a row and the mark `m_i` of the input that each comes from. `pool: first` gives the last state of `s`,
    `mean` the mean of the real tokens' states, `none` the states of all tokens as a stream.

    Streams of [B T D] -> one token [B 1 D], or with `none` all T tokens [B T D]. A missing input has no tokens; a row
    with nothing at all is the state of `s` alone (`first`), zero (`mean`), or without a real token (`none`).

    Cost per layer, for T tokens in all with `s`: (4 + 2·ratio)·T·D² + 2·T²·D multiplications and (4 + 2·ratio)·D² +
    (9 + ratio)·D parameters; besides, 2·D for the last normalisation and (N + 1)·D for the marks and `s`.
    Sources: Vaswani et al., "Attention Is All You Need", NeurIPS 2017, normalising first; one stream of all tokens with
    marks as in Li et al., "VisualBERT: A Simple and Performant Baseline for Vision and Language", 2019, and Kim et al.,
    "ViLT: Vision-and-Language Transformer Without Convolution or Region Supervision", ICML 2021.

    Settings: `layers`; `heads`, which must divide D; `ratio`, hidden width of the feed-forward nets over D; `dropout`;
    `pool`.
    """

    def __init__(
        self,
        *,
        inputs: Wired[tuple[str, ...]],
        width: Wired[int],
        layers: Positive = 2,
        heads: Positive = 4,
        ratio: Positive = 4,
        dropout: Chance = 0.0,
        pool: Literal["first", "mean", "none"] = "first",
    ) -> None:
        super().__init__()
        self.inputs, self.width, self.pool = inputs, width, pool
        self.first, self.marks = nn.Embedding(1, width), nn.Embedding(len(inputs), width)
        for one in (self.first, self.marks):
            nn.init.normal_(one.weight, std=0.02)
        self.stack = TransformerStack(width=width, layers=layers, heads=heads, dropout=dropout, ratio=ratio)

    def forward(self, streams: Streams) -> tuple[Stream, Notes]:
        parts = [streams[name] for name in self.inputs]
        rows = parts[0].tokens.shape[0]
        first, marks = rows_of(self.first, rows), rows_of(self.marks, rows)
        tokens = torch.cat([first, *(p.tokens + marks[:, i : i + 1] for i, p in enumerate(parts))], 1)
        mask = torch.cat([torch.ones_like(parts[0].mask[:, :1]), *(p.mask for p in parts)], 1)
        states = self.stack(tokens, mask)
        if self.pool == "first":
            return one_token(states[:, 0]), Notes()
        states, mask = states[:, 1:], mask[:, 1:]
        return (one_token(pool(states, mask)) if self.pool == "mean" else Stream(states, mask)), Notes()
