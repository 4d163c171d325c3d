"""The two ways to let a decoder speak: whole sentences, or token by token."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from polymodal.core.contracts import Decoder
from polymodal.core.errors import SpecError
from polymodal.core.search.beam import beam
from polymodal.core.search.draw import draw
from polymodal.core.search.plan import Said, Search
from polymodal.core.search.speaker import Lips, Remembering, Rereading, Speaker
from polymodal.core.streams import Stream


@torch.no_grad()
def decode(
    decoder: Decoder,
    memory: Stream,
    start: Int[Tensor, " B"],
    *,
    end: int,
    banned: tuple[int, ...] = (),
    search: Search,
    draws: Float[Tensor, "B N"] | None = None,
    cached: bool = True,
) -> Said:
    """A sentence for every row, after its `start` token.

    `banned` tokens are never said; log-probabilities are over the others, before temperature and cuts. Sampling takes
    `draws`, uniform in [0, 1), one for each row and step: N is at least `search.longest`. `cached=False` reads all that
    was said again at every step: the same sentences, slowly. A row is answered as it would be by itself. The decoder is
    used as it is: put it into eval mode. Raises SpecError for a search that makes no sense.
    """
    search.check()
    copies = search.beams if search.way == "beam" else 1
    speaker: Speaker = (
        Remembering(decoder, memory, search.longest, copies) if cached else Rereading(decoder, memory, copies)
    )
    lips = Lips(end, banned, search.min_tokens)
    if search.way == "beam":
        return beam(speaker, lips, start, end, search)
    tokens, gains = zip(*_walk(speaker, lips, start, end, search, draws), strict=True)
    ids = torch.stack(tokens, 1)
    length = ((ids != end).sum(1) + 1).clamp(max=ids.shape[1])
    return Said(ids, length, torch.stack(gains, 1).sum(1))


@torch.no_grad()
def stream(
    decoder: Decoder,
    memory: Stream,
    start: Int[Tensor, " B"],
    *,
    end: int,
    banned: tuple[int, ...] = (),
    search: Search,
    draws: Float[Tensor, "B N"] | None = None,
) -> Iterator[Int[Tensor, " B"]]:
    """As `decode`, token by token as they are said: the end for rows that have ended; stops when all have.

    Beams cannot be said before all is said: SpecError.
    """
    search.check()
    if search.way == "beam":
        raise SpecError("search.way", "cannot be given token by token", given="beam", advice="greedy or sample")
    speaker = Remembering(decoder, memory, search.longest, 1)
    for ids, _ in _walk(speaker, Lips(end, banned, search.min_tokens), start, end, search, draws):
        yield ids


def _walk(
    speaker: Speaker, lips: Lips, ids: Int[Tensor, " B"], end: int, search: Search, draws: Float[Tensor, "B N"] | None
) -> Iterator[tuple[Int[Tensor, " B"], Float[Tensor, " B"]]]:
    """The tokens of every step, and their log-probabilities: the end and zero for rows that have ended."""
    if search.way == "sample" and (draws is None or draws.shape[1] < search.longest):
        raise ValueError("sampling needs draws [B, longest]")
    done = torch.zeros_like(ids, dtype=torch.bool)
    for step in range(search.longest):
        scores = lips(speaker.next(ids), step)
        sampled = draws is not None and search.way == "sample"
        ids = draw(scores, draws[:, step], search) if sampled else scores.argmax(1)  # type: ignore[index]
        ids = ids.masked_fill(done, end)
        gain = scores.gather(1, ids[:, None])[:, 0].masked_fill(done, 0.0)
        done = done | (ids == end)
        yield ids, gain
        if done.all():
            return
