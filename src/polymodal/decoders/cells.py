"""One step of a recurrent layer; what it reads is mapped outside, for all steps at once where all are known."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

State = tuple[Tensor, ...]  # each [B H]; the first is what the layer says


class LSTMStep(nn.Module):
    """LSTM (Hochreiter and Schmidhuber 1997), as `nn.LSTMCell` with its gates in the order i, f, o, g."""

    parts: ClassVar[tuple[str, ...]] = ("h", "c")
    gates: ClassVar[int] = 4

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.read, self.keep = nn.Linear(features, 4 * width), nn.Linear(width, 4 * width, bias=False)

    def forward(self, read: Float[Tensor, "B G"], state: State) -> State:
        h, c = state
        gates, new = (read + self.keep(h)).split([3 * h.shape[1], h.shape[1]], 1)
        enter, stay, leave = gates.sigmoid().chunk(3, 1)
        c = stay * c + enter * new.tanh()
        return leave * c.tanh(), c


class GRUStep(nn.Module):
    """GRU (Cho et al. 2014), as `nn.GRUCell`."""

    parts: ClassVar[tuple[str, ...]] = ("h",)
    gates: ClassVar[int] = 3

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.read, self.keep = nn.Linear(features, 3 * width), nn.Linear(width, 3 * width)

    def forward(self, read: Float[Tensor, "B G"], state: State) -> State:
        (h,) = state
        sizes = [2 * h.shape[1], h.shape[1]]
        (gates, new), (gates_h, new_h) = read.split(sizes, 1), self.keep(h).split(sizes, 1)
        reset, stay = (gates + gates_h).sigmoid().chunk(2, 1)
        new = (new + reset * new_h).tanh()
        return (new + stay * (h - new),)


STEPS: dict[str, type[LSTMStep] | type[GRUStep]] = {"lstm": LSTMStep, "gru": GRUStep}
