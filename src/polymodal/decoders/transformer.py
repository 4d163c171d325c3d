"""A Transformer decoder with a cache of keys and values."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from polymodal.core.errors import SpecError
from polymodal.core.schema import Chance, Positive, Wired
from polymodal.core.streams import State, Stream
from polymodal.core.transformer import FeedForward, check_heads, masked_softmax, seeable
from polymodal.decoders.rotary import Turn, turned, turns
from polymodal.decoders.words import Words

ROOM = 16  # places by which the cache grows: beams copy all of it at every step


class TransformerDecoder(nn.Module):
    """Pre-norm Transformer decoder (Vaswani et al. 2017; Xiong et al. 2020) with rotary positions (Su et al. 2021).

    Every layer: causal self-attention, attention to the memory's real tokens (normalised once, before all layers), a
    feed-forward net with GELU; all residual, normalising what they read; a normalisation before the scores. Rotary
    positions, since they need no longest sentence, know distances however far a sentence has gone, and a key is turned
    once, when it enters the cache. A row with nothing to see takes nothing.

    With H = `hidden`, r = `ratio`, W the memory's width, L tokens of S: (6 + 2r)·H² + 2·W·H + (15 + r)·H parameters and
    L·((6 + 2r)·H² + 2·(L + S)·H) + 2·S·W·H multiplications per layer, besides tokens and scores, V·H each.

    Settings: `hidden` (the memory's width), `layers` (4), `heads` (4), which must divide `hidden` into even widths;
    `ratio` (4), the hidden width of the feed-forward nets over `hidden`; `dropout` (0.1); `tied` (true): the weights of
    the scores are the tokens' own vectors (Press and Wolf 2017). Raises SpecError for heads that do not fit.
    """

    def __init__(
        self,
        *,
        width: Wired[int],
        size: Wired[int],
        starts: Wired[int],
        hidden: Positive | None = None,
        layers: Positive = 4,
        heads: Positive = 4,
        ratio: Positive = 4,
        dropout: Chance = 0.1,
        tied: bool = True,
    ) -> None:
        super().__init__()
        hidden = hidden or width
        check_heads(hidden, heads)
        if hidden // heads % 2:
            raise SpecError("heads", f"must divide the width, {hidden}, into even widths", given=heads)
        self.turning = hidden // heads
        self.words, self.dropout = Words(size, starts, hidden), nn.Dropout(dropout)
        self.seen = nn.LayerNorm(width)
        made = (Layer(width, hidden, heads, dropout, ratio) for _ in range(layers))
        self.layers: Sequence[Layer] = nn.ModuleList(made)  # type: ignore[assignment]
        self.norm, self.head = nn.LayerNorm(hidden), self.words.head(tied)

    def forward(self, memory: Stream, ids: Int[Tensor, "B L"]) -> Float[Tensor, "B L V"]:
        """Logits of what follows each of `ids`, which begin with a start token."""
        x, turn, seen, kept = self._enter(memory, ids)
        for layer, memories in zip(self.layers, kept, strict=True):
            x = layer.feed(layer.ask(layer.mix(x, turn), memories, seen))
        return self.head(self.norm(x))

    def begin(self, memory: Stream, longest: int) -> State:
        """Keys and values of the memory [B 2 heads S d] for each layer, and room for those of the tokens to come."""
        kept = self._remember(memory)
        past = {str(n): x.new_zeros(*x.shape[:3], min(longest, ROOM), x.shape[4]) for n, x in enumerate(kept)}
        return State(past, {"seen": seeable(memory.mask)} | {str(n): x for n, x in enumerate(kept)}, 0)

    def step(self, state: State, ids: Int[Tensor, " B"]) -> tuple[Float[Tensor, "B V"], State]:
        """Logits of what follows one more token; outside of training the state given is written into: use it once."""
        past, fixed, at = {}, state.fixed, state.at
        x = self.dropout(self.words(ids[:, None]))
        turn = turns(at, 1, self.turning, x)
        for n, layer in enumerate(self.layers):
            past[str(n)] = _with_room(state.past[str(n)], at)
            x = layer.feed(layer.ask(layer.mix(x, turn, past[str(n)], at), fixed[str(n)], fixed["seen"]))
        return self.head(self.norm(x))[:, 0], State(past, fixed, at + 1)

    def look(self, memory: Stream, ids: Int[Tensor, "B L"]) -> Float[Tensor, "B L S"] | None:
        """The attention of each step to the memory, the mean over layers and heads."""
        x, turn, seen, kept = self._enter(memory, ids)
        shares = []
        for layer, memories in zip(self.layers, kept, strict=True):
            x = layer.mix(x, turn)
            shares.append(layer.shares(x, memories, memory.mask))
            x = layer.feed(layer.ask(x, memories, seen))
        return torch.stack(shares).mean(0)

    def _enter(
        self, memory: Stream, ids: Int[Tensor, "B L"]
    ) -> tuple[Float[Tensor, "B L H"], Turn, Bool[Tensor, "B 1 1 S"], list[Tensor]]:
        x = self.dropout(self.words(ids))
        return x, turns(0, ids.shape[1], self.turning, x), seeable(memory.mask), self._remember(memory)

    def _remember(self, memory: Stream) -> list[Tensor]:
        tokens = self.seen(memory.tokens)
        return [layer.remember(tokens, memory.mask) for layer in self.layers]


class Layer(nn.Module):
    """`mix` with the tokens before, `ask` the memory, `feed` each token through a net; see TransformerDecoder."""

    def __init__(self, width: int, hidden: int, heads: int, dropout: float, ratio: int) -> None:
        super().__init__()
        self.heads, self.chance, self.dropout = heads, dropout, nn.Dropout(dropout)
        self.norm1, self.qkv, self.out1 = nn.LayerNorm(hidden), nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)
        self.norm2, self.query, self.out2 = nn.LayerNorm(hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
        self.key_value = nn.Linear(width, 2 * hidden)
        self.feed = FeedForward(hidden, dropout, ratio)

    def remember(self, tokens: Float[Tensor, "B S W"], mask: Bool[Tensor, "B S"]) -> Float[Tensor, "B 2 h S d"]:
        """The memory's keys and values; values are zero where masked, so that a row without any takes zeros."""
        both = (self.key_value(tokens) * mask[..., None]).unflatten(2, (2, self.heads, -1))
        return both.permute(0, 2, 3, 1, 4).contiguous()

    def mix(
        self, x: Float[Tensor, "B L H"], turn: Turn, past: Float[Tensor, "B 2 h R d"] | None = None, at: int = 0
    ) -> Float[Tensor, "B L H"]:
        """Attention to the tokens so far; with `past`, whose first `at` places they fill, for one more, put there."""
        qkv = self.qkv(self.norm1(x)).unflatten(2, (3, self.heads, -1))
        both, value = turned(qkv[:, :, :2], turn).permute(0, 2, 3, 1, 4), qkv[:, :, 2].transpose(1, 2)
        query, key = both.unbind(1)
        if past is not None:
            past[:, 0, :, at], past[:, 1, :, at] = key[:, :, 0], value[:, :, 0]
            key, value = past[:, :, :, : at + 1].unbind(1)
        taken = self._taken(query, key, value, causal=past is None)
        return x + self.dropout(self.out1(taken))

    def ask(
        self, x: Float[Tensor, "B L H"], memories: Float[Tensor, "B 2 h S d"], seen: Bool[Tensor, "B 1 1 S"]
    ) -> Float[Tensor, "B L H"]:
        """Attention to the memory."""
        key, value = memories.unbind(1)
        return x + self.dropout(self.out2(self._taken(self._asked(x), key, value, seen)))

    def shares(
        self, x: Float[Tensor, "B L H"], memories: Float[Tensor, "B 2 h S d"], mask: Bool[Tensor, "B S"]
    ) -> Float[Tensor, "B L S"]:
        """How much `ask` takes from which token, the mean over the heads."""
        query = self._asked(x)
        scores = query @ memories[:, 0].transpose(2, 3) / math.sqrt(query.shape[3])
        return masked_softmax(scores, mask[:, None, None]).mean(1)

    def _asked(self, x: Float[Tensor, "B L H"]) -> Float[Tensor, "B h L d"]:
        return self.query(self.norm2(x)).unflatten(2, (self.heads, -1)).transpose(1, 2)

    def _taken(
        self, query: Float[Tensor, "B h L d"], key: Float[Tensor, "B h S d"], value: Float[Tensor, "B h S d"],
        seen: Bool[Tensor, "B 1 1 S"] | None = None, causal: bool = False,
    ) -> Float[Tensor, "B L H"]:  # fmt: skip
        chance = self.chance if self.training else 0.0
        taken = F.scaled_dot_product_attention(query, key, value, seen, dropout_p=chance, is_causal=causal)
        return taken.transpose(1, 2).flatten(2)


def _with_room(past: Float[Tensor, "B 2 h R d"], at: int) -> Float[Tensor, "B 2 h _R d"]:
    """The cache with a free place `at`; a copy where gradients are wanted, which go back to what was there before."""
    if at == past.shape[3]:
        return F.pad(past, (0, 0, 0, ROOM))
    return past.clone() if torch.is_grad_enabled() else past
