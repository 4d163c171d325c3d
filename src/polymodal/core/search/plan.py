"""How sentences are looked for, and what is found."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple, get_args

from jaxtyping import Float, Int
from torch import Tensor

from polymodal.core.errors import SpecError, suggest

Way = Literal["greedy", "beam", "sample"]


class Search(NamedTuple):
    """How a sentence is looked for.

    `greedy` takes the likeliest token at every step. `beam` keeps the `beams` likeliest beginnings and gives the
    sentence with the largest log-probability over (number of tokens)^`length_penalty`. `sample` draws every token from
    p^(1 / `temperature`), cut to the `top_k` likeliest tokens (0 = all), then to the smallest set of tokens that has at
    least the share `top_p` of what is left (nucleus sampling, Holtzman et al. 2020).

    A sentence has `longest` tokens at most; its end is not said before there are `min_tokens` others.
    """

    way: Way
    longest: int
    beams: int = 4
    length_penalty: float = 1.0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_tokens: int = 0

    def check(self, where: str = "search") -> None:
        """Raise SpecError where a value makes no sense."""
        if self.way not in get_args(Way):
            raise SpecError(f"{where}.way", "no way of this name", given=self.way,
                            advice=suggest(str(self.way), get_args(Way)))  # fmt: skip
        bounds: dict[str, tuple[bool, str]] = {
            "longest": (self.longest >= 1, "at least 1"),
            "beams": (self.beams >= 1, "at least 1"),
            "length_penalty": (math.isfinite(self.length_penalty), "a finite number"),
            "temperature": (0 < self.temperature < math.inf, "more than 0; close to 0 is nearly greedy"),
            "top_p": (0 < self.top_p <= 1, "more than 0, at most 1"),
            "top_k": (self.top_k >= 0, "0 for all tokens, or how many"),
            "min_tokens": (self.min_tokens >= 0, "at least 0"),
        }
        given: dict[str, Any] = self._asdict()
        for name, (right, advice) in bounds.items():
            if not right:
                raise SpecError(f"{where}.{name}", "is out of range", given=given[name], advice=advice)


class Said(NamedTuple):
    """A sentence for each of B rows."""

    ids: Int[Tensor, "B L"]  # without the start token; the end after a row's end
    length: Int[Tensor, " B"]  # tokens said, with the end where it was reached
    score: Float[Tensor, " B"]  # sum of their log-probabilities; of beams over length^length_penalty
