"""The checker of decoders lets a sound one pass and finds what is broken in the others."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from polymodal.core.checks_decoder import check_decoder
from polymodal.core.streams import State, Stream, pool


class Sound(nn.Module):
    """The mean of the memory and the mean of the words so far."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.told, self.head = nn.Embedding(13, 8), nn.Linear(8, 8), nn.Linear(8, 11)

    def mean(self, memory: Stream) -> Tensor:
        return self.told(pool(memory.tokens, memory.mask))

    def forward(self, memory: Stream, ids: Tensor) -> Tensor:
        count = torch.arange(1, ids.shape[1] + 1)[:, None]
        return self.head((self.mean(memory)[:, None] + self.words(ids).cumsum(1) / count).tanh())

    def begin(self, memory: Stream, longest: int) -> State:
        told = self.mean(memory)
        return State({"sum": torch.zeros_like(told)}, {"told": told}, 0)

    def step(self, state: State, ids: Tensor) -> tuple[Tensor, State]:
        total, at = state.past["sum"] + self.words(ids), state.at + 1
        return self.head((state.fixed["told"] + total / at).tanh()), State({"sum": total}, state.fixed, at)

    def look(self, memory: Stream, ids: Tensor) -> Tensor | None:
        shares = memory.mask / memory.mask.sum(1, keepdim=True).clamp(min=1)
        return shares[:, None].expand(-1, ids.shape[1], -1)

    def penalty(self, memory: Stream, ids: Tensor, spoken: Tensor) -> Tensor:
        return (self.words(ids).square().mean(2) * spoken).sum(1)

    def teach(self, memory: Stream, ids: Tensor, spoken: Tensor) -> tuple[Tensor, Tensor]:
        return self(memory, ids), self.penalty(memory, ids, spoken)


class LooksAhead(Sound):
    def forward(self, memory: Stream, ids: Tensor) -> Tensor:
        return super().forward(memory, ids) + self.words(ids).sum((1, 2))[:, None, None]


class CountsPadding(Sound):
    def mean(self, memory: Stream) -> Tensor:
        return self.told(memory.tokens.mean(1))


class SeesNeighbours(Sound):
    def mean(self, memory: Stream) -> Tensor:
        return self.told(pool(memory.tokens, memory.mask) - memory.tokens.mean((0, 1)))


class Blind(Sound):
    def mean(self, memory: Stream) -> Tensor:
        return self.told(torch.zeros(len(memory.mask), 8))


class Divides(Sound):
    def mean(self, memory: Stream) -> Tensor:
        return self.told(memory.tokens.sum(1) / memory.mask.sum(1, keepdim=True))


class Forgets(Sound):
    def step(self, state: State, ids: Tensor) -> tuple[Tensor, State]:
        scores, after = super().step(state, ids)
        return scores, after._replace(past={"sum": self.words(ids)} if state.at == 2 else after.past)


class KeepsPastInFixed(Sound):
    def begin(self, memory: Stream, longest: int) -> State:
        told = self.mean(memory)
        return State({}, {"told": told, "sum": torch.zeros_like(told)}, 0)

    def step(self, state: State, ids: Tensor) -> tuple[Tensor, State]:
        total, at = state.fixed["sum"] + self.words(ids), state.at + 1
        scores = self.head((state.fixed["told"] + total / at).tanh())
        return scores, State({}, {**state.fixed, "sum": total}, at)


class DoesNotCount(Sound):
    def step(self, state: State, ids: Tensor) -> tuple[Tensor, State]:
        scores, after = super().step(state, ids)
        return scores, after._replace(at=0)


class LooksAtPadding(Sound):
    def look(self, memory: Stream, ids: Tensor) -> Tensor | None:
        return torch.ones(*ids.shape, memory.mask.shape[1]) / memory.mask.shape[1]


class LooksTooMuch(Sound):
    def look(self, memory: Stream, ids: Tensor) -> Tensor | None:
        return memory.mask[:, None].expand(-1, ids.shape[1], -1).float()


class PunishesSilence(Sound):
    def penalty(self, memory: Stream, ids: Tensor, spoken: Tensor) -> Tensor:
        return self.words(ids).square().mean((1, 2))


class TeachesOtherwise(Sound):
    def teach(self, memory: Stream, ids: Tensor, spoken: Tensor) -> tuple[Tensor, Tensor]:
        return self(memory, ids), self.penalty(memory, ids, spoken) + 1


class TooNarrow(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 10)


class Idle(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(8, 8)


def test_a_sound_one_passes() -> None:
    check_decoder(Sound, 8, 11, 2)


BROKEN: dict[Any, str] = {
    LooksAhead: "scores before place 1, after changing it",
    CountsPadding: "more padding of the memory",
    SeesNeighbours: "row 0 without the others|more padding",
    Blind: "the memory changes nothing",
    Divides: "scores are not finite",
    Forgets: "step 3 beside the call",
    KeepsPastInFixed: "of beams, which change places",
    DoesNotCount: "state.at is 0 after 1 tokens",
    LooksAtPadding: "falls on padding",
    LooksTooMuch: "the sum of a look",
    PunishesSilence: "after changing what is not spoken",
    TeachesOtherwise: "the penalty that teach gives",
    TooNarrow: "scores .*, not",
    Idle: "spare.weight takes no part",
}


@pytest.mark.parametrize(("broken", "match"), BROKEN.items(), ids=[b.__name__ for b in BROKEN])
def test_what_is_broken_is_found(broken: Any, match: str) -> None:
    with pytest.raises(AssertionError, match=match):
        check_decoder(broken, 8, 11, 2, export=False)
