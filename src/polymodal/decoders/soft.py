"""A recurrent net that looks at the memory before every step (soft attention), and one that does not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from polymodal.core.recurrent import CELLS
from polymodal.core.transformer import masked_softmax
from polymodal.decoders.cells import STEPS, GRUStep, LSTMStep

Tensors = dict[str, Tensor]  # of a State, each [B, ...]


class Read(NamedTuple):
    """What L steps gave."""

    states: Float[Tensor, "B L H"]  # of the last layer
    taken: Float[Tensor, "B L W"] | None  # from the memory, where it was looked at
    shares: Float[Tensor, "B L S"] | None  # how much from which token
    past: Tensors  # "h" and, of an LSTM, "c": [B layers H]


class SoftAttention(nn.Module):
    """Which tokens to look at, given a state h (Bahdanau et al. 2015), and how much to take (Xu et al. 2015).

    `a = softmax_s(v·tanh(W_k m_s + W_h h))`, `z = σ(w_β·h) Σ_s a_s m_s`; zero where no token is real.
    W·A + (H + 1)·(A + 1) + A parameters for W = `width`, H = `hidden` = A; S·W·A multiplications once, and
    H·A + S·(A + W) for every step.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.key, self.score = nn.Linear(width, hidden, bias=False), nn.Linear(hidden, 1, bias=False)
        self.ask = nn.Linear(hidden, hidden + 1)

    def forward(
        self,
        state: Float[Tensor, "B H"],
        keys: Float[Tensor, "B S H"],
        tokens: Float[Tensor, "B S W"],
        mask: Bool[Tensor, "B S"],
    ) -> tuple[Float[Tensor, "B W"], Float[Tensor, "B S"]]:
        asked = self.ask(state)
        scores = self.score((keys + asked[:, None, :-1]).tanh())[..., 0]
        shares = masked_softmax(scores, mask)
        return asked[:, -1:].sigmoid() * (shares[:, None] @ tokens)[:, 0], shares


class Looking(nn.Module):
    """Recurrent layers, the first of which reads the last word and what the last layer's state looks at.

    All that does not wait for a state is done for all steps at once; the loop is over steps, each for all rows.
    """

    def __init__(self, kind: str, embed: int, hidden: int, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        step = STEPS[kind]
        self.parts, self.dropout = step.parts, nn.Dropout(dropout)
        self.attention = SoftAttention(width, hidden)
        self.take = nn.Linear(width, step.gates * hidden, bias=False)
        steps = [step(hidden if n else embed, hidden) for n in range(layers)]
        self.steps: Sequence[LSTMStep | GRUStep] = nn.ModuleList(steps)  # type: ignore[assignment]

    def memory(self, tokens: Float[Tensor, "B S W"], mask: Bool[Tensor, "B S"]) -> Tensors:
        """What stays the same for all steps."""
        return {"keys": self.attention.key(tokens), "tokens": tokens, "mask": mask}

    def forward(self, words: Float[Tensor, "B L E"], past: Tensors, memory: Tensors) -> Read:
        states = list(zip(*(past[name].unbind(1) for name in self.parts), strict=True))
        said: list[Tensor] = []
        taken: list[Tensor] = []
        shares: list[Tensor] = []
        for word in self.steps[0].read(words).unbind(1):
            look, share = self.attention(states[-1][0], **memory)
            x = word + self.take(look)
            for depth, step in enumerate(self.steps):
                states[depth] = step(step.read(self.dropout(x)) if depth else x, states[depth])
                x = states[depth][0]
            said.append(x)
            taken.append(look)
            shares.append(share)
        last = {
            name: torch.stack(values, 1) for name, values in zip(self.parts, zip(*states, strict=True), strict=True)
        }
        return Read(torch.stack(said, 1), torch.stack(taken, 1), torch.stack(shares, 1), last)


class Listening(nn.Module):
    """Recurrent layers that read words only: all steps in one call."""

    def __init__(self, kind: str, embed: int, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.parts = STEPS[kind].parts
        self.net = CELLS[kind](embed, hidden, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)

    def memory(self, tokens: Float[Tensor, "B S W"], mask: Bool[Tensor, "B S"]) -> Tensors:
        return {}

    def forward(self, words: Float[Tensor, "B L E"], past: Tensors, memory: Tensors) -> Read:
        before = tuple(past[name].transpose(0, 1).contiguous() for name in self.parts)
        said, after = self.net(words, before if len(before) > 1 else before[0])
        after = after if isinstance(after, tuple) else (after,)
        last = {name: x.transpose(0, 1) for name, x in zip(self.parts, after, strict=True)}
        return Read(said, None, None, last)
