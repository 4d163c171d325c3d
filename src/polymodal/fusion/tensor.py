"""Fusion by the outer product."""

from __future__ import annotations

import torch
from torch import nn

from polymodal.core.errors import SpecError
from polymodal.core.schema import Positive, Wired
from polymodal.core.streams import Notes, Stream, Streams
from polymodal.fusion.slots import Slots, one_token

MOST = 1 << 18  # products of features


class TensorFusion(nn.Module):
    """The tensor fusion network: all products of features of all subsets of the inputs.

    `z = W vec([h_1; 1] ⊗ ... ⊗ [h_N; 1]) + b`, `h_i = U_i x_i + c_i` of `hidden` features. The ones keep what single
    inputs and pairs say besides what all of them say together.

    Streams of [B T D] -> one token [B 1 out]. A missing input's place holds its own learned token.

    Cost: N·T·D additions and, with P = (hidden + 1)^N products, N·D·hidden + P·out multiplications and less than 2·P
    for the products themselves; N·D + N·(D + 1)·hidden + (P + 1)·out parameters. Raises SpecError beyond 262,144
    products.
    Source: the tensor fusion layer of Zadeh et al., "Tensor Fusion Network for Multimodal Sentiment Analysis", EMNLP
    2017.

    Settings: `hidden`, the features of each input (16 when not given, fewer for many inputs); `out`, the width of the
    result (D when not given).
    """

    def __init__(
        self,
        *,
        inputs: Wired[tuple[str, ...]],
        width: Wired[int],
        hidden: Positive | None = None,
        out: Positive | None = None,
    ) -> None:
        super().__init__()
        most = int(MOST ** (1 / len(inputs)) + 1e-9) - 1
        hidden = hidden or max(1, min(16, most))
        products = (hidden + 1) ** len(inputs)
        if products > MOST:
            problem = f"{products:,} products of features of {len(inputs)} inputs are too many"
            advice = f"at most {most}, or fusion: low_rank" if most else "fusion: low_rank"
            raise SpecError("fusion.hidden", problem, given=hidden, advice=advice)
        self.width = out or width
        self.slots = Slots(inputs=inputs, width=width)
        self.reduce = nn.ModuleList(nn.Linear(width, hidden) for _ in inputs)
        self.map = nn.Linear(products, self.width)

    def forward(self, streams: Streams) -> tuple[Stream, Notes]:
        vectors, _ = self.slots(streams)
        one = torch.ones_like(vectors[:, 0, :1])
        product = one
        for reduce, vector in zip(self.reduce, vectors.unbind(1), strict=True):
            factor = torch.cat([reduce(vector), one], 1)
            product = (product[:, :, None] * factor[:, None]).flatten(1)
        return one_token(self.map(product)), Notes()
