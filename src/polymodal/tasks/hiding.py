"""Which tokens of a text are hidden, and what is shown in their place: functions of the rows' keys."""

from __future__ import annotations

import json
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from tokenizers import Tokenizer
from torch import Tensor

from polymodal.core.contracts import Field
from polymodal.core.lots import numbers, uniform
from polymodal.core.streams import Cells

MASKED, CHANGED = 0.8, 0.1  # of the chosen tokens; the others stay as they are
MASKS = ("[MASK]", "<mask>")  # as pretrained models call their mask token

Chosen = tuple[Int[Tensor, "B M"], Bool[Tensor, "B M"]]  # places in each row's tokens, and which of them count


class Tokens(NamedTuple):
    """A vocabulary as hiding sees it."""

    size: int
    mask: int  # what stands in place of a hidden token, and for a gap in a text that is given to be filled in
    plain: list[int]  # the tokens that are words or parts of words


def tokens_of(field: Field) -> Tokens:
    """What hiding needs to know of a text reader's vocabulary."""
    described = json.loads(field["tokenizer"])
    special = {token["id"] for token in described["added_tokens"] if token["special"]}
    added = Tokenizer.from_str(field["tokenizer"]).encode("").ids  # such as [CLS] and [SEP]
    own = next((t["id"] for t in described["added_tokens"] if t["content"] in MASKS), None)
    silent = special | {field["pad"], field["unknown"], *added}
    plain = [i for i in range(field["size"]) if i not in silent]
    return Tokens(field["size"], field["unknown"] if own is None else own, plain)


def own_cells(cells: Cells) -> Cells:
    """The same cells, with one of its own for every row and column: what is done to one row's touches no other."""
    each = cells.index.flatten().clamp(min=0)
    index = torch.arange(len(each), device=each.device).view(cells.index.shape).where(cells.index >= 0, -1)
    return Cells({name: value[each] for name, value in cells.data.items()}, index, cells.id[each])


def choose(plain: Bool[Tensor, "B L"], share: float, key: Int[Tensor, " B"], columns: int) -> Chosen:
    """The places of the plain tokens that draw lowest, `max(1, round(share · n))` of a row's n.

    A row's tokens are those of `columns` cells, which draw apart: how far one of them is padded changes nothing.
    """
    length = plain.shape[1]
    draws = uniform(numbers(key, "mask.columns", columns), "mask.choose", length // columns).flatten(1)
    at = draws.where(plain, 2.0).argsort(dim=1, stable=True)[:, : int(_wanted(torch.tensor(length), share))]
    count = _wanted(plain.sum(1), share).minimum(plain.sum(1))
    return at, torch.arange(at.shape[1], device=at.device) < count[:, None]


def _wanted(count: Int[Tensor, "*B"], share: float) -> Float[Tensor, "*B"]:
    return (share * count).round().clamp(min=1)


def hide(
    ids: Int[Tensor, "B L"], chosen: Chosen, key: Int[Tensor, " B"], mask: int, plain: Int[Tensor, " P"]
) -> Int[Tensor, "B L"]:
    """The ids with the chosen ones replaced: by the mask, by any plain token, or by themselves."""
    at, asked = chosen
    known, fate = ids.gather(1, at), uniform(key, "mask.fate", at.shape[1])
    other = plain[numbers(key, "mask.other", at.shape[1]) % len(plain)]
    new = torch.where(fate < MASKED, mask, torch.where(fate < MASKED + CHANGED, other, known))
    return ids.scatter(1, at, new.where(asked, known))


def gaps(ids: Int[Tensor, "B L"], mask: int) -> Chosen:
    """The places of masks, as many as the row has that has most of them, and which of them are any."""
    there = ids == mask
    count = there.sum(1)
    most = int(count.max())
    return (~there).long().argsort(dim=1, stable=True)[:, :most], torch.arange(most, device=ids.device) < count[:, None]
