"""Fusion by attention over the tokens of all inputs."""

from __future__ import annotations

import torch
from torch import nn

from polymodal.core.schema import Positive, Wired
from polymodal.core.streams import Notes, Stream, Streams
from polymodal.core.transformer import Attend, rows_of
from polymodal.fusion.slots import one_token


class AttentionPool(nn.Module):
    """One learned query looks at all tokens of all inputs: a word may count more than a picture.

    `z = Attention(q; t_1 + m_i(1), ..., t_T + m_i(T))`: multi-head attention of a learned token `q` to the real tokens
    `t_j` of a row, each plus the learned mark `m_i` of the input that it comes from.

    Streams of [B T D] -> one token [B 1 D]. A missing input has no tokens; a row with nothing at all is zero. Outside
    training `Notes.weights["fusion"]` [B N] is the weight of each input's tokens together, the mean over the heads.

    Cost, for T tokens in all: 2·(T + 1)·D² + 2·T·D multiplications, 4·D² + (N + 5)·D parameters.
    Source: the attention in the "pooling by multihead attention" of Lee et al., "Set Transformer", ICML 2019, with one
    seed vector, without the residual paths and feed-forward nets around it.

    Settings: `heads`, which must divide D.
    """

    def __init__(self, *, inputs: Wired[tuple[str, ...]], width: Wired[int], heads: Positive = 4) -> None:
        super().__init__()
        self.inputs, self.width = inputs, width
        self.query, self.marks = nn.Embedding(1, width), nn.Embedding(len(inputs), width)
        nn.init.normal_(self.marks.weight, std=0.02)
        self.look = Attend(width, heads, dropout=0.0)

    def forward(self, streams: Streams) -> tuple[Stream, Notes]:
        parts = [streams[name] for name in self.inputs]
        rows = parts[0].tokens.shape[0]
        marks = rows_of(self.marks, rows)
        tokens = torch.cat([p.tokens + marks[:, i : i + 1] for i, p in enumerate(parts)], 1)
        mask = torch.cat([p.mask for p in parts], 1)
        fused, weights = self.look(rows_of(self.query, rows), tokens, mask, weigh=not self.training)
        if weights is None:
            return one_token(fused[:, 0]), Notes()
        shares = [w.sum(1) for w in weights[:, 0].split([p.tokens.shape[1] for p in parts], 1)]
        return one_token(fused[:, 0]), Notes(weights={"fusion": torch.stack(shares, 1)})
