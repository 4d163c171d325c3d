"""From one vector per frame to tokens: pooled, or seen one after the other."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from polymodal.core.errors import SpecError
from polymodal.core.streams import Stream
from polymodal.modalities.steps import StepEncoder, StepRecurrent, StepTransformer, mean

Over = Literal["none", "mean", "max", "rnn", "lstm", "gru", "transformer"]
Tokens = Literal["all", "mean", "last"]


class Pooled(nn.Module):
    """The vectors as they are (`none`), their mean, or the largest value of each feature (T = 1). No parameters."""

    def __init__(self, how: Over, features: int) -> None:
        super().__init__()
        self.how, self.width = how, features

    def forward(self, data: dict[str, Tensor]) -> Stream:
        x, mask = data["vectors"], data["vectors_mask"]
        if self.how == "none":
            return Stream(x * mask[..., None], mask)
        return mean(x, mask) if self.how == "mean" else largest(x, mask)


def largest(x: Float[Tensor, "N T D"], mask: Bool[Tensor, "N T"]) -> Stream:
    """The largest value of each feature among the real tokens, as the only one."""
    found = x.masked_fill(~mask[..., None], torch.finfo(x.dtype).min).amax(1, keepdim=True)
    return Stream(found * mask[:, :1, None], mask[:, :1])


class _Vectors(StepEncoder):
    """A frame is a step."""

    array: ClassVar[str] = "vectors"
    size: ClassVar[str] = "features"


class _RNN(_Vectors, StepRecurrent):
    kind = "rnn"


class _LSTM(_Vectors, StepRecurrent):
    kind = "lstm"


class _GRU(_Vectors, StepRecurrent):
    kind = "gru"


class _Transformer(_Vectors, StepTransformer):
    pass


RECURRENT = {"rnn": _RNN, "lstm": _LSTM, "gru": _GRU}


def over_time(
    over: Over, features: int, *, width: int, layers: int, bidirectional: bool, heads: int, dropout: float,
    tokens: Tokens,
) -> Any:  # fmt: skip
    """The part that is called `over`: it has a `width`, and makes a stream of "vectors" [N T F]. Raises SpecError."""
    field: dict[str, Any] = {"features": features}
    if over in RECURRENT:
        return RECURRENT[over](
            field=field, width=width, layers=layers, bidirectional=bidirectional, dropout=dropout, tokens=tokens
        )
    if tokens == "last":
        raise SpecError("tokens", "is for recurrent nets", given=tokens, advice="all or mean")
    if over == "transformer":
        return _Transformer(field=field, width=width, layers=layers, heads=heads, dropout=dropout, tokens=tokens)
    return Pooled(over, features)
