"""The reward of self-critical training: CIDEr-D of what was said, by the n-grams of the training rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from polymodal.core.contracts import Field
from polymodal.tasks.language.cider import Cider
from polymodal.tasks.sentences import Words


class Critic:
    """Token ids and references -> rewards, CIDEr-D / 10. Needs a field with `document_frequencies`."""

    def __init__(self, field: Field, words: Words) -> None:
        self.words, self.cider = words, Cider(field["document_frequencies"], field["documents"])

    def __call__(self, ids: Int[Tensor, "N L"], references: Sequence[Sequence[str]]) -> Float[Tensor, " N"]:
        said = [self.words.say(row) for row in ids.tolist()]
        return torch.from_numpy(self.cider.score(said, references)) / 10
