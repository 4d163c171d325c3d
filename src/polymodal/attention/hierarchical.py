"""Co-attention at several levels of granularity: tokens, spans of tokens, the whole."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from jaxtyping import Bool, Float
from torch import Tensor, nn

from polymodal.attention.parallel import Parallel, scaled
from polymodal.attention.tokens import Masks, Tokens, put, take
from polymodal.core.schema import Positive, Wired
from polymodal.core.streams import Notes, Streams


class Hierarchical(nn.Module):
    """Parallel co-attention at several levels: tokens, spans of tokens, the whole.

    A token counts as much as it and the spans around it do. Level 0 are the tokens; the spans of level l are
    `window`^l consecutive real tokens, each the mean of its tokens; the last level is the whole. At level l the
    inputs' spans are weighed by `parallel.Parallel` with weights of its own, and every token has its span's
    attention, shared evenly among the n tokens of the span:

        α_t = 1/levels Σ_l a^l_{span(t)} / n_{span(t)},        x_it ← T_i α_it x_it,        T_i real tokens

    so that the mean over the tokens is the mean over the levels of the attended sums `Σ_s a^l_s x^l_s`. At the level of
    the whole there is one span, whose attention is 1 whatever is learned: the plain mean, which needs no weights and
    keeps every token in play. With `levels: 1` this is `co` in its parallel form. Spans are counted over real tokens
    only, so padding, at the end or between the columns of an input, changes nothing.

    Streams of [B T D] -> the same. A missing input adds nothing to the others. `Notes.weights["<-photo"]` [B T] is α,
    which adds up to 1.

    Cost, with `levels` − 1 (at least 1) co-attentions: N·(N − 1)/2·D² + N·(D² + D) parameters each. Multiplications
    per row at level l, S = ⌈T / window^l⌉ spans: N·(N − 1)/2·(S·D² + 3·S²·D) + N·(S·D² + S·D), and from level 1
    N·T·S·(D + 1) for the means of the spans and the way back to the tokens.
    Source: after Lu et al., "Hierarchical Question-Image Co-Attention for Visual Question Answering", NeurIPS 2016:
    words, phrases, sentence there, by convolution and LSTM and for text only; here means, for every input.

    Settings: `levels`; `window`, how many spans make one of the next level.
    """

    def __init__(
        self,
        *,
        inputs: Wired[tuple[str, ...]],
        width: Wired[int],
        levels: Positive = 3,
        window: Annotated[int, Ge(2)] = 4,
    ) -> None:
        super().__init__()
        self.inputs, self.count, self.window = inputs, levels, window
        self.levels = nn.ModuleList(Parallel(len(inputs), width) for _ in range(max(levels - 1, 1)))

    def forward(self, streams: Streams) -> tuple[Streams, Notes]:
        tokens, masks = take(streams, self.inputs)
        found = [self.levels[0](tokens, masks)]
        found += [self.coarse(tokens, masks, level) for level in range(1, len(self.levels))]
        if self.count > 1:
            found.append(
                [m.to(x.dtype) / m.sum(1, keepdim=True).clamp(min=1) for x, m in zip(tokens, masks, strict=True)]
            )
        shares = [torch.stack(of_input).mean(0) for of_input in zip(*found, strict=True)]
        weights = {f"<-{name}": share for name, share in zip(self.inputs, shares, strict=True)}
        return put(streams, self.inputs, scaled(tokens, masks, shares)), Notes(weights=weights)

    def coarse(self, tokens: Tokens, masks: Masks, level: int) -> list[Float[Tensor, "B _T"]]:
        """Every token's part of its span's attention at this level."""
        members = [spans(m, self.window**level).to(x.dtype) for x, m in zip(tokens, masks, strict=True)]
        sizes = [m.sum(1) for m in members]  # [B S]
        means = [m.transpose(1, 2) @ x / n.clamp(min=1)[..., None]
                 for x, m, n in zip(tokens, members, sizes, strict=True)]  # fmt: skip
        attention = self.levels[level](means, [n > 0 for n in sizes])
        return [(m @ (a / n.clamp(min=1))[..., None])[..., 0]
                for m, n, a in zip(members, sizes, attention, strict=True)]  # fmt: skip


def spans(mask: Bool[Tensor, "B T"], size: int) -> Bool[Tensor, "B T S"]:
    """Which span every real token belongs to: the first `size` real tokens to the first, and so on."""
    number = (mask.cumsum(1) - 1).div(size, rounding_mode="floor")
    return (number[..., None] == torch.arange(-(-mask.shape[1] // size), device=mask.device)) & mask[..., None]
