"""Noise in texts."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int64

from polymodal.core.contracts import Field
from polymodal.core.noise import hit
from polymodal.core.seeds import Rng

Ids = Int64[np.ndarray, " _"]


def noisy(
    ids: Int64[np.ndarray, "N T"], mask: Bool[np.ndarray, "N T"], level: float, rng: Rng, plain: Ids, fixed: Ids
) -> Int64[np.ndarray, "N T"]:
    """With chance `level` a token becomes any of the `plain` ones, all equally likely; padding and `fixed` ones stay.

    What typing errors and wrong words do to a text that has been cut into tokens; its length stays as it is.
    """
    lost = hit(mask & ~np.isin(ids, fixed), level, rng)
    others = plain[rng.integers(0, len(plain), ids.shape)] if len(plain) else ids
    return np.where(lost, others, ids)


def tokens(field: Field, added: Sequence[int]) -> tuple[Ids, Ids]:
    """The ids that noise may put into a text, and those that it leaves where they are.

    Fixed are what the tokenizer has `added` to an empty text (such as [CLS] and [SEP]) and its other special tokens,
    but for the unknown one, which stands for a word; none of them is put into a text.
    """
    described = json.loads(field["tokenizer"])
    special = {token["id"] for token in described["added_tokens"] if token["special"]}
    fixed = (special - {field["unknown"]}) | {field["pad"], *added}
    plain = np.setdiff1d(np.arange(field["size"]), [*fixed, field["unknown"]])
    return plain.astype(np.int64), np.array(sorted(fixed), np.int64)
