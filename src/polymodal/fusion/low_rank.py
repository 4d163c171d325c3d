"""Fusion by an outer product that is never written out."""

from __future__ import annotations

from functools import reduce

import torch
from torch import nn

from polymodal.core.schema import Positive, Wired
from polymodal.core.streams import Notes, Stream, Streams
from polymodal.core.transformer import rows_of
from polymodal.fusion.slots import Slots, one_token


class LowRank(nn.Module):
    """Low-rank multimodal fusion: the tensor fusion network with weights of low rank, in time linear in the inputs.

    `z = Σ_r ω_r ∘_i (W_i^r x_i + b_i^r) + b`: each of the `rank` terms is a product, feature by feature, over all
    inputs. The biases stand for the ones that tensor fusion appends, so single inputs and pairs are heard too.

    Streams of [B T D] -> one token [B 1 out]. A missing input's place holds its own learned token.

    Cost: N·T·D additions, N·(D + 1)·rank·out multiplications; N·D + N·(D + 1)·rank·out + rank + out parameters.
    Source: Liu et al., "Efficient Low-rank Multimodal Fusion with Modality-Specific Factors", ACL 2018; the terms'
    weights ω as in the code that its authors published.

    Settings: `rank`, the number of terms; `out`, the width of the result (D when not given).
    """

    def __init__(
        self,
        *,
        inputs: Wired[tuple[str, ...]],
        width: Wired[int],
        rank: Positive = 4,
        out: Positive | None = None,
    ) -> None:
        super().__init__()
        self.width = out or width
        self.slots = Slots(inputs=inputs, width=width)
        factors = [nn.Linear(width, rank * self.width) for _ in inputs]
        for one in factors:
            nn.init.ones_(one.bias)  # factors begin around one: their products neither vanish nor explode
        self.factors = nn.ModuleList(factors)
        self.mix = nn.Linear(rank, 1, bias=False)
        nn.init.constant_(self.mix.weight, 1 / rank)
        self.bias = nn.Embedding(1, self.width)
        nn.init.zeros_(self.bias.weight)

    def forward(self, streams: Streams) -> tuple[Stream, Notes]:
        vectors, _ = self.slots(streams)
        factors = [f(v) for f, v in zip(self.factors, vectors.unbind(1), strict=True)]
        terms = reduce(torch.mul, factors).unflatten(1, (-1, self.width))  # [B rank out]
        fused = self.mix(terms.transpose(1, 2))[..., 0] + rows_of(self.bias, terms.shape[0])[:, 0]
        return one_token(fused), Notes()
