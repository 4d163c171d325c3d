"""Beam search, all rows and beams at once."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from polymodal.core.search.plan import Said, Search
from polymodal.core.search.speaker import Lips, Speaker


def beam(speaker: Speaker, lips: Lips, start: Int[Tensor, " B"], end: int, search: Search) -> Said:
    """The best of the sentences that ended, for each row; see Search.

    Of the continuations of K beginnings, those among the K likeliest that end are sentences; the K likeliest others go
    on. A row is done when none of its beginnings can overtake its best sentence any more: log-probabilities only fall.
    """
    count, places = search.beams, torch.arange(len(start), device=start.device)[:, None] * search.beams
    sums = torch.full((len(start), count), -torch.inf, device=start.device)
    sums[:, 0] = 0.0  # all beams begin alike: one of them counts
    said = start.new_full((len(start), count, search.longest), end)
    best = _nothing(start, end, search.longest)
    ids = start.repeat_interleave(count)
    for step in range(search.longest):
        sums, ids, parent = _continued(lips(speaker.next(ids), step), sums)
        said = said.gather(1, parent[..., None].expand(-1, -1, search.longest))
        said[:, :, step] = ids
        last = step + 1 == search.longest
        ended = (ids == end) | last
        best = _better(best, sums[:, :count].masked_fill(~ended[:, :count], -torch.inf), said, step + 1, search)
        sums, which = sums.masked_fill(ids == end, -torch.inf).topk(count, 1)
        hope = sums[:, 0] / _weight(search.longest if _grows(search) else step + 2, search)
        if last or (best.score >= hope).all():
            break
        said = said.gather(1, which[..., None].expand(-1, -1, search.longest))
        ids, parent = ids.gather(1, which).flatten(), parent.gather(1, which)
        speaker.turn((places + parent).flatten())
    return best._replace(ids=best.ids[:, : int(best.length.max())] if len(start) else best.ids)


def _continued(
    scores: Float[Tensor, "N V"], sums: Float[Tensor, "B K"]
) -> tuple[Float[Tensor, "B C"], Int[Tensor, "B C"], Int[Tensor, "B C"]]:
    """The 2·K likeliest continuations: at most K of them end. Their sums, tokens, and the beams they come from."""
    size = scores.shape[1]
    whole = (scores.view(*sums.shape, size) + sums[..., None]).flatten(1)
    sums, place = whole.topk(min(2 * sums.shape[1], whole.shape[1]), 1)
    return sums, place % size, place // size


def _better(best: Said, ended: Float[Tensor, "B K"], said: Int[Tensor, "B C L"], length: int, search: Search) -> Said:
    """The best sentence of each row, after some of this length ended."""
    score, which = (ended / _weight(length, search)).max(1)
    better = score > best.score
    ids = said.gather(1, which[:, None, None].expand(-1, 1, said.shape[2]))[:, 0]
    return Said(
        torch.where(better[:, None], ids, best.ids),
        best.length.masked_fill(better, length),
        torch.where(better, score, best.score),
    )


def _weight(length: int, search: Search) -> float:
    return float(length) ** search.length_penalty


def _grows(search: Search) -> bool:
    """Whether a sentence of a given sum is the better, the longer it is: sums are negative."""
    return search.length_penalty >= 0


def _nothing(start: Int[Tensor, " B"], end: int, longest: int) -> Said:
    score = torch.full((len(start),), -torch.inf, device=start.device)
    return Said(start.new_full((len(start), longest), end), torch.zeros_like(start), score)
