"""The real tokens of a stream, first to last without gaps; and which input a task along time is about."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from polymodal.core.contracts import Field
from polymodal.core.errors import SpecError, suggest
from polymodal.core.streams import Stream


def packed(stream: Stream) -> tuple[Float[Tensor, "B T D"], Int[Tensor, " B"]]:
    """The real tokens of each row before all others, in their order, and how many they are."""
    order = (~stream.mask).to(torch.uint8).argsort(dim=1, stable=True)
    tokens = stream.tokens.gather(1, order[..., None].expand(-1, -1, stream.tokens.shape[2]))
    return tokens, stream.mask.sum(1)


def prefix(length: Int[Tensor, " B"], size: int | torch.SymInt) -> Tensor:
    """Bool [B, size], True for the first `length` places of each row."""
    return torch.arange(size, device=length.device) < length[:, None]  # type: ignore[arg-type]


def the_input(chosen: str | None, inputs: Sequence[str], fields: Mapping[str, Field], kinds: Collection[str]) -> str:
    """The input that is meant: the one named, the only one, or the only one whose field has one of `kinds`.

    Raises SpecError where that leaves a choice, or where no input has the name.
    """
    if chosen is not None and chosen not in inputs:
        raise SpecError("input", "no input of this name", given=chosen, advice=suggest(chosen, inputs))
    fitting = [n for n in inputs if any(kind in fields.get(n, {}) for kind in kinds)]
    meant = [chosen] if chosen is not None else inputs if len(inputs) == 1 else fitting
    if len(meant) != 1:
        raise SpecError("input", "which of the inputs is meant?", advice=f"input: {(fitting or list(inputs))[0]}")
    return meant[0]


def covered(name: str, fields: Mapping[str, Field]) -> int:
    """How many steps of an input each of its tokens stands for. Raises SpecError where one stands for all."""
    found: int = fields.get(name, {}).get("covers", 1)
    if not found:
        raise SpecError("input", "its encoder gives a single token for all steps", given=name,
                        advice=f"inputs.{name}.encoder.tokens: all")  # fmt: skip
    return found
