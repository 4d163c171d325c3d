"""Recurrent decoders: an LSTM or a GRU that looks at the memory at every step."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from annotated_types import Ge
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from polymodal.core.schema import Chance, Positive, Wired
from polymodal.core.streams import State, Stream, pool
from polymodal.decoders.cells import STEPS
from polymodal.decoders.soft import Listening, Looking, Read, Tensors
from polymodal.decoders.words import Words


class _Recurrent(nn.Module):
    kind: ClassVar[Literal["lstm", "gru"]]

    def __init__(
        self,
        *,
        width: Wired[int],
        size: Wired[int],
        starts: Wired[int],
        hidden: Positive | None = None,
        layers: Positive = 1,
        embed: Positive | None = None,
        attend: bool = True,
        doubly_stochastic: Annotated[float, Ge(0.0)] = 1.0,
        dropout: Chance = 0.3,
        tied: bool = False,
    ) -> None:
        super().__init__()
        hidden, embed = hidden or width, embed or hidden or width
        self.doubly_stochastic, self.layers, self.parts = doubly_stochastic, layers, STEPS[self.kind].parts
        self.words, self.dropout = Words(size, starts, embed), nn.Dropout(dropout)
        self.first = nn.Linear(width, len(self.parts) * layers * hidden)
        self.net: Looking | Listening = (
            Looking(self.kind, embed, hidden, width, layers, dropout)
            if attend
            else Listening(self.kind, embed, hidden, layers, dropout)
        )
        self.from_state = nn.Linear(hidden, embed)
        self.from_taken = nn.Linear(width, embed, bias=False) if attend else None
        self.head = self.words.head(tied)

    def forward(self, memory: Stream, ids: Int[Tensor, "B L"]) -> Float[Tensor, "B L V"]:
        """Logits of what follows each of `ids`, which begin with a start token."""
        return self._read(self.begin(memory, ids.shape[1]), ids)[0]

    def begin(self, memory: Stream, longest: int) -> State:
        """The first state, from the mean of the memory's tokens; the tokens as they are asked for later."""
        first = self.first(pool(memory.tokens, memory.mask)).tanh().unflatten(1, (len(self.parts), self.layers, -1))
        return State(dict(zip(self.parts, first.unbind(1), strict=True)), self.net.memory(*memory[:2]), 0)

    def step(self, state: State, ids: Int[Tensor, " B"]) -> tuple[Float[Tensor, "B V"], State]:
        """Logits of what follows one more token."""
        scores, read = self._read(state, ids[:, None])
        return scores[:, 0], State(read.past, state.fixed, state.at + 1)

    def look(self, memory: Stream, ids: Int[Tensor, "B L"]) -> Float[Tensor, "B L S"] | None:
        """The attention of each step; None without attention."""
        return self._read(self.begin(memory, ids.shape[1]), ids)[1].shares

    def penalty(self, memory: Stream, ids: Int[Tensor, "B L"], spoken: Bool[Tensor, "B L"]) -> Float[Tensor, " B"]:
        """`doubly_stochastic` / T · Σ_s (1 - Σ_t a_ts)²: the T spoken steps should look at every real token once."""
        return self.teach(memory, ids, spoken)[1]

    def teach(
        self, memory: Stream, ids: Int[Tensor, "B L"], spoken: Bool[Tensor, "B L"]
    ) -> tuple[Float[Tensor, "B L V"], Float[Tensor, " B"]]:
        """The logits and the penalty, from one pass."""
        scores, read = self._read(self.begin(memory, ids.shape[1]), ids)
        if read.shares is None:
            return scores, scores.new_zeros(len(ids))
        missed = (1 - (read.shares * spoken[..., None]).sum(1)).square() * memory.mask
        return scores, self.doubly_stochastic * missed.sum(1) / spoken.sum(1).clamp(min=1)

    def _read(self, state: State, ids: Int[Tensor, "B L"]) -> tuple[Float[Tensor, "B L V"], Read]:
        words = self.dropout(self.words(ids))
        past: Tensors = state.past
        read = self.net(words, past, state.fixed)
        said = words + self.from_state(self.dropout(read.states))
        if self.from_taken is not None and read.taken is not None:
            said = said + self.from_taken(read.taken)
        return self.head(self.dropout(said)), read


class LSTMDecoder(_Recurrent):
    """LSTM that looks at the memory before every step: Show, Attend and Tell (Xu et al. 2015), soft attention.

    With m_s the S tokens of the memory, y_t the tokens said, E their vectors, [h_0; c_0] = tanh(W_0 mean_s(m_s) + b):

        a_t = softmax_s(v·tanh(W_k m_s + W_h h_{t-1})),  z_t = σ(w_β·h_{t-1}) Σ_s a_ts m_s
        h_t, c_t = LSTM([E y_{t-1}; z_t], h_{t-1}, c_{t-1})
        p(y_t) = softmax(W_o (E y_{t-1} + L_h h_t + L_z z_t))

    and the loss, a mean over a sentence's T tokens, grows by `doubly_stochastic` / T · Σ_s (1 - Σ_t a_ts)², so that
    no token of the memory is passed over. With `attend: false` there is no z: as Show and Tell (Vinyals et al. 2015),
    but that the memory makes the first state instead of a first word.

    Settings: `hidden`, the width H of the state (the memory's); `layers` (1), the first reads z, the last asks;
    `embed`, the width of the tokens' vectors (H); `attend` (true); `doubly_stochastic` (1.0); `dropout` (0.3) of what
    the layers read and of the last sum; `tied` (false): W_o is E (Press and Wolf 2017).
    """

    kind = "lstm"


class GRUDecoder(_Recurrent):
    """GRU that looks at the memory before every step: as `lstm`, with the cell of Cho et al. 2014."""

    kind = "gru"
