"""Cross-attention between every pair of inputs, in both directions."""

from __future__ import annotations

from itertools import permutations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from polymodal.attention.tokens import Masks, Tokens, presence, put, take
from polymodal.core.schema import Chance, Positive, Wired
from polymodal.core.streams import Notes, Streams
from polymodal.core.transformer import Attend, FeedForward, TransformerLayer, seeable


class CrossAttention(nn.Module):
    """Every input's tokens ask every other input's tokens, pair by pair.

    In each layer, for all inputs at once, with `J` the other inputs that are there:

        x_i ← x_i + 1/|J| Σ_{j ∈ J} Attend_ij(norm_i(x_i), norm_j(x_j))      queries from i, keys and values from j
        x_i ← x_i + SelfAttention_i(norm(x_i))                               with `self_attention`
        x_i ← x_i + W_2 GELU(W_1 norm(x_i))

    and a last normalisation. Every ordered pair has weights of its own; with `share` one `Attend` serves all pairs. A
    missing input is asked by nobody; where all others are missing (or there are none) the first line adds nothing.

    Streams of [B T D] -> the same. Outside training `Notes.weights["photo<-title"]` [B T S] says how much every token
    of `photo` took from every token of `title` in the last layer, the mean over the heads; over S it adds up to 1, or
    to 0 where one of the two is not there.

    Cost with N inputs of T tokens, r = `ratio`, per layer: N·(N − 1)·(4·D² + 4·D) parameters for the pairs (`share`:
    4·D² + 4·D), 2·N·D for their norms, N·((4 + 2r)·D² + (9 + r)·D) for the rest (without self-attention
    N·(2r·D² + (3 + r)·D)); 2·N·D at the end. With one input there are neither pairs nor their norms. Multiplications
    per row and layer: N·(N − 1)·(4·T·D² + 2·T²·D) + N·((4 + 2r)·T·D² + 2·T²·D), without self-attention
    4·T·D² + 2·T²·D less for each input.

    Sources: the co-attentional layers of Lu et al., "ViLBERT", NeurIPS 2019; directed pairs for three inputs as in Tsai
    et al., "Multimodal Transformer for Unaligned Multimodal Language Sequences" (MulT), ACL 2019, which joins the
    answers after the last layer where this averages them in every layer.

    Settings: `layers`; `heads`, which must divide D; `ratio`, hidden width of the feed-forward nets over D; `dropout`;
    `share`; `self_attention`.
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
        share: bool = False,
        self_attention: bool = True,
    ) -> None:
        super().__init__()
        self.inputs = inputs
        self.layers = nn.ModuleList(
            _Layer(len(inputs), width, heads, dropout, ratio, share, self_attention) for _ in range(layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in inputs)

    def forward(self, streams: Streams) -> tuple[Streams, Notes]:
        tokens, masks = take(streams, self.inputs)
        weights: dict[tuple[int, int], Tensor] = {}
        for depth, layer in enumerate(self.layers, 1):
            last = depth == len(self.layers)
            tokens, weights = layer(tokens, masks, weigh=last and not self.training)
        named = {f"{self.inputs[i]}<-{self.inputs[j]}": w for (i, j), w in weights.items()}
        tokens = [norm(x) for norm, x in zip(self.norms, tokens, strict=True)]
        return put(streams, self.inputs, tokens), Notes(weights=named)


class _Layer(nn.Module):
    def __init__(
        self, inputs: int, width: int, heads: int, dropout: float, ratio: int, share: bool, self_attention: bool
    ) -> None:
        super().__init__()
        self.self_attention = self_attention
        self.pairs = {(i, j): "all" if share else f"{i}_{j}" for i, j in permutations(range(inputs), 2)}
        self.ask = nn.ModuleDict({key: Attend(width, heads, dropout) for key in dict.fromkeys(self.pairs.values())})
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(inputs if inputs > 1 else 0))
        self.dropout = nn.Dropout(dropout)
        self.rest = nn.ModuleList(
            TransformerLayer(width, heads, dropout, ratio) if self_attention else FeedForward(width, dropout, ratio)
            for _ in range(inputs)
        )

    def forward(
        self, tokens: Tokens, masks: Masks, weigh: bool
    ) -> tuple[Tokens, dict[tuple[int, int], Float[Tensor, "B _T _S"]]]:
        weights: dict[tuple[int, int], Tensor] = {}
        if self.pairs:
            tokens, weights = self.exchange(tokens, masks, weigh)
        if self.self_attention:
            return [rest(x, seeable(m)) for rest, x, m in zip(self.rest, tokens, masks, strict=True)], weights
        return [rest(x) for rest, x in zip(self.rest, tokens, strict=True)], weights

    def exchange(
        self, tokens: Tokens, masks: Masks, weigh: bool
    ) -> tuple[Tokens, dict[tuple[int, int], Float[Tensor, "B _T _S"]]]:
        """The first line of the formula, for every input from the tokens before it."""
        normed = [norm(x) for norm, x in zip(self.norms, tokens, strict=True)]
        there = presence(masks).to(tokens[0].dtype)
        sums, weights = [torch.zeros_like(x) for x in tokens], {}
        for (i, j), key in self.pairs.items():
            answer, looked = self.ask[key](normed[i], normed[j], masks[j], weigh)
            sums[i] = sums[i] + answer
            if looked is not None:
                weights[i, j] = looked * masks[i][..., None]
        others = (there.sum(1, keepdim=True) - there).clamp(min=1)  # [B N]
        means = [s / n[:, None, None] for s, n in zip(sums, others.unbind(1), strict=True)]
        return [x + self.dropout(mean) for x, mean in zip(tokens, means, strict=True)], weights
