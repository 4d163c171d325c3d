"""Fusion by feature-wise modulation."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from polymodal.core.errors import SpecError, suggest
from polymodal.core.schema import Wired
from polymodal.core.streams import Notes, Stream, Streams
from polymodal.fusion.slots import Slots, one_token


class FiLM(nn.Module):
    """Feature-wise linear modulation: one input scales and shifts the features of the others.

    `z_i = (1 + γ_i) ∘ x_i + β_i`, `[γ_i; β_i] = W_i c_i + b_i`, and the fused vector is `[z_1; ...; z_M]`, where

    - with `by`, the condition `c_i` is that input's mean token, and the M = N − 1 others are modulated;
    - without it every input is modulated by the others side by side, M = N. An input alone modulates itself.

    Training starts from the plain concatenation (`W_i = 0`, `b_i = 0`).

    Streams of [B T D] -> one token [B 1 M·D]. A missing input's place holds its own learned token.

    Cost: N·T·D additions and M·C·2·D multiplications, where C, the width of a condition, is D with `by` and (N − 1)·D
    without (D for an input alone); N·D + M·(C + 1)·2·D parameters.
    Source: Perez et al., "FiLM: Visual Reasoning with a General Conditioning Layer", AAAI 2018, equations 1 and 2,
    with 1 + γ in place of γ, as in their model details.

    Settings: `by`, the name of the input that modulates the others.
    """

    def __init__(self, *, inputs: Wired[tuple[str, ...]], width: Wired[int], by: str | None = None) -> None:
        super().__init__()
        if by is not None and by not in inputs:
            raise SpecError("fusion.by", "no input of this name", given=by, advice=suggest(by, inputs))
        self.slots = Slots(inputs=inputs, width=width)
        self.by = None if by is None or len(inputs) == 1 else inputs.index(by)
        self.modulated = [i for i in range(len(inputs)) if i != self.by]
        self.width = len(self.modulated) * width
        others = 1 if self.by is not None else max(len(inputs) - 1, 1)
        maps = [nn.Linear(others * width, 2 * width) for _ in self.modulated]
        for one in maps:
            nn.init.zeros_(one.weight)
            nn.init.zeros_(one.bias)
        self.maps = nn.ModuleList(maps)

    def forward(self, streams: Streams) -> tuple[Stream, Notes]:
        vectors, _ = self.slots(streams)
        changed = []
        for place, one in zip(self.modulated, self.maps, strict=True):
            scale, shift = one(self._condition(vectors, place)).chunk(2, 1)
            changed.append((1 + scale) * vectors[:, place] + shift)
        return one_token(torch.cat(changed, 1)), Notes()

    def _condition(self, vectors: Float[Tensor, "B N D"], place: int) -> Float[Tensor, "B C"]:
        """What modulates the input at `place`."""
        if self.by is not None:
            return vectors[:, self.by]
        others = [v for i, v in enumerate(vectors.unbind(1)) if i != place]
        return torch.cat(others or [vectors[:, place]], 1)
