"""Attention through latents: a few learned tokens look at everything, think, and are asked by every token."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from polymodal.attention.tokens import put, take
from polymodal.core.schema import Chance, Positive, Wired
from polymodal.core.streams import Notes, Streams
from polymodal.core.transformer import Attend, FeedForward, TransformerLayer, rows_of, seeable


class Perceiver(nn.Module):
    """K learned latents z read the tokens of all inputs, and all tokens ask the latents.

        x_i ← x_i + m_i                                         a learned mark for each input
        z ← z + Attend(norm(z), norm([x_1; …; x_N]))            then a feed-forward net
        z ← TransformerLayer(z)                                 `layers` times
        x ← x + Attend(norm(x), norm(z))                        then a feed-forward net and a last normalisation

    Streams of [B T D] -> the same. The latents do not see a missing input. Outside training
    `Notes.weights["<-photo"]` [B T] says how much the latents' first look took from every token, the mean over
    latents and heads; over the tokens of all inputs together it adds up to 1.

    Cost with T tokens in all inputs together, r = `ratio`: (K + N)·D parameters for latents and marks, for each of the
    two looks (4 + 2r)·D² + (11 + r)·D, per layer (4 + 2r)·D² + (9 + r)·D, 2·D at the end. Multiplications per row:
    (4 + 2r)·(T + K)·D² + 4·K·T·D, and per layer (4 + 2r)·K·D² + 2·K²·D: linear in T, and N plays no part.
    Sources: Jaegle et al., "Perceiver: General Perception with Iterative Attention", ICML 2021, with one look; the
    marks and the asking tokens as in Jaegle et al., "Perceiver IO", ICLR 2022.

    Settings: `latents`, K; `layers`; `heads`, which must divide D; `ratio`, hidden width of the feed-forward nets
    over D; `dropout`.
    """

    def __init__(
        self,
        *,
        inputs: Wired[tuple[str, ...]],
        width: Wired[int],
        latents: Positive = 16,
        layers: Positive = 2,
        heads: Positive = 4,
        ratio: Positive = 4,
        dropout: Chance = 0.0,
    ) -> None:
        super().__init__()
        self.inputs = inputs
        self.latents, self.marks = nn.Embedding(latents, width), nn.Embedding(len(inputs), width)
        for one in (self.latents, self.marks):
            nn.init.normal_(one.weight, std=0.02)
        self.read, self.write = (_Look(width, heads, dropout, ratio) for _ in range(2))
        self.layers = nn.ModuleList(TransformerLayer(width, heads, dropout, ratio) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, streams: Streams) -> tuple[Streams, Notes]:
        tokens, masks = take(streams, self.inputs)
        lengths, rows = [x.shape[1] for x in tokens], tokens[0].shape[0]
        marks = rows_of(self.marks, rows)
        x = torch.cat([x + marks[:, i : i + 1] for i, x in enumerate(tokens)], 1)
        latents, looked = self.read(rows_of(self.latents, rows), x, torch.cat(masks, 1), not self.training)
        always = masks[0].new_ones(latents.shape[:2])
        for layer in self.layers:
            latents = layer(latents, seeable(always))
        x = self.norm(self.write(x, latents, always, False)[0])
        shares = [] if looked is None else looked.mean(1).split(lengths, 1)
        weights = {f"<-{name}": share for name, share in zip(self.inputs, shares, strict=False)}
        return put(streams, self.inputs, x.split(lengths, 1)), Notes(weights=weights)


class _Look(nn.Module):
    """Cross-attention and a feed-forward net, both residual and normalising what they read."""

    def __init__(self, width: int, heads: int, dropout: float, ratio: int) -> None:
        super().__init__()
        self.norm, self.norm_seen = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend = Attend(width, heads, dropout)
        self.feed = FeedForward(width, dropout, ratio)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "B T D"], seen: Float[Tensor, "B S D"], mask: Bool[Tensor, "B S"], weigh: bool
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B T S"] | None]:
        answer, weights = self.attend(self.norm(x), self.norm_seen(seen), mask, weigh)
        return self.feed(x + self.dropout(answer)), weights
