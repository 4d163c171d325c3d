"""The public checker of decoders; see `checks`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from polymodal.core.checks import _check_gradients, _check_saving, _close, _fresh, _longer, _row
from polymodal.core.contracts import Decoder
from polymodal.core.search import Search, decode
from polymodal.core.streams import State, Stream

SEARCHES = (
    Search("greedy", 7),
    Search("beam", 7, beams=3),
    Search("beam", 7, beams=4, length_penalty=0.0, min_tokens=3),
    Search("sample", 7, temperature=1.5, top_p=0.8, top_k=5),
)


class Talk(NamedTuple):
    """A memory of B rows, and what is said of each: a start token, then others."""

    memory: Stream
    ids: Int[Tensor, "B L"]
    size: int


def talk_like(width: int, size: int, starts: int, rows: int = 5, steps: int = 6, seed: int = 0) -> Talk:
    """A random talk for the checker: row 0 has all tokens, the last has none, the others some."""
    g = torch.Generator().manual_seed(seed)
    mask = torch.rand(rows, 4, generator=g) < 0.6
    mask[:, 1], mask[0], mask[-1] = True, True, False
    tokens = torch.randn(rows, 4, width, generator=g) * mask[..., None]
    ids = torch.randint(size, (rows, steps), generator=g)
    ids[:, 0] = size + torch.arange(rows) % starts
    return Talk(Stream(tokens, mask), ids, size)


def check_decoder(make: Callable[[], Any], width: int, size: int, starts: int, export: bool = True) -> None:
    """Check the Decoder contract, for `make` built with these; `size` is 4 at least.

    Scores that are finite (of a row without a real token too), that no later token, padding or other row changes, and
    that the memory does; `step` scores as the call does, for beams that change places too; every search finds the same
    with and without the cache, and for a row by itself; what `look`, `penalty` and `teach` promise; gradients, saving,
    `torch.export`.
    """
    part = _fresh(make, Decoder)
    talk = talk_like(width, size, starts)
    with torch.no_grad():
        scores = _check_scores(part, talk)
        _check_steps(part, talk, scores)
        _check_beams(part, talk)
        _check_look(part, talk)
        for search in SEARCHES:
            _check_search(part, talk, search)
    _check_saving(part, make, lambda p: p(talk.memory, talk.ids))
    if export:
        _check_export(part, talk, scores)
    part.train()
    total = part(talk.memory, talk.ids)
    _check_gradients(part, (total * torch.randn_like(total)).sum())
    _check_penalty(part, talk)


def _check_scores(part: Any, talk: Talk) -> Float[Tensor, "B L V"]:
    memory, ids, size = talk
    kept = memory.tokens.clone(), memory.mask.clone(), ids.clone()
    scores = part(memory, ids)
    given = memory.tokens, memory.mask, ids
    assert all(torch.equal(a, b) for a, b in zip(kept, given, strict=True)), "what was given was changed in place"
    assert scores.shape == (*ids.shape, size), f"scores {tuple(scores.shape)}, not {(*ids.shape, size)}"
    assert torch.isfinite(scores).all(), "scores are not finite"
    for at in range(1, ids.shape[1]):
        other = ids.clone()
        other[:, at:] = (other[:, at:] + 1) % size
        _close(part(memory, other)[:, :at], scores[:, :at], f"scores before place {at}, after changing it")
    _close(part(memory, ids[:, :3]), scores[:, :3], "scores of a beginning by itself")
    _close(part(_longer(memory), ids), scores, "scores with more padding of the memory")
    for row in range(len(ids)):
        only = torch.tensor([row])
        _close(part(_row(memory, only), ids[only])[0], scores[row], f"row {row} without the others")
    other = part(Stream(-memory.tokens, memory.mask), ids)
    assert not torch.allclose(other[0], scores[0], atol=1e-6), "the memory changes nothing"
    return scores


def _check_steps(part: Any, talk: Talk, scores: Float[Tensor, "B L V"]) -> None:
    """Token by token as all at once; also with the memory's padding."""
    for memory in (talk.memory, _longer(talk.memory)):
        state = part.begin(memory, talk.ids.shape[1])
        _check_state(state, len(talk.ids), 0)
        for at, ids in enumerate(talk.ids.unbind(1)):
            found, state = part.step(state, ids)
            _check_state(state, len(talk.ids), at + 1)
            _close(found, scores[:, at], f"step {at} beside the call")


def _check_state(state: State, rows: int, at: int) -> None:
    assert isinstance(state, State), f"a state is a State, not {type(state).__name__}"
    assert state.at == at, f"state.at is {state.at} after {at} tokens"
    for name, x in {**state.past, **state.fixed}.items():
        assert len(x) == rows, f"state: {name} has {len(x)} rows for {rows}"


def _check_beams(part: Any, talk: Talk) -> None:
    """Two beams for each row that part at the second token and then change places, or both go on from one."""
    memory, ids, size = talk
    twice = Stream(memory.tokens.repeat_interleave(2, 0), memory.mask.repeat_interleave(2, 0))
    said = ids.repeat_interleave(2, 0)
    said[1::2, 1] = (said[1::2, 1] + 1) % size
    first = part.begin(memory, ids.shape[1])
    past, fixed = ({n: x.repeat_interleave(2, 0) for n, x in half.items()} for half in first[:2])
    state = State(past, fixed, first.at)
    order = torch.arange(len(said)).view(-1, 2).flip(1)
    order[::2] = order[::2, :1]  # in every other row both from one
    order = order.flatten()
    for at in range(ids.shape[1]):
        if at == 3:
            said = torch.cat([said[order, :at], said[:, at:]], 1)
            state = state._replace(past={n: x.index_select(0, order) for n, x in state.past.items()})
        found, state = part.step(state, said[:, at])
        _close(found, part(twice, said[:, : at + 1])[:, -1], f"step {at} of beams, which change places before step 3")


def _check_look(part: Any, talk: Talk) -> None:
    memory, ids, _ = talk
    shares = part.look(memory, ids)
    if shares is None:
        return
    expected = (*ids.shape, memory.mask.shape[1])
    assert shares.shape == expected, f"look gives {tuple(shares.shape)}, not {expected}"
    assert torch.isfinite(shares).all(), "a look is not finite"
    assert (shares >= 0).all(), "a look has negative shares"
    assert not (shares * ~memory.mask[:, None]).any(), "a look falls on padding"
    there = memory.mask.any(1)[:, None].expand(ids.shape).to(shares)
    _close(shares.sum(2), there, "the sum of a look: 1, or 0 with nothing to see")
    _close(part.look(_longer(memory), ids)[..., : expected[2]], shares, "look with more padding of the memory")


def _check_search(part: Any, talk: Talk, search: Search) -> None:
    """The same sentences with and without the cache, and for a row by itself."""
    memory, start, end = talk.memory, talk.ids[:, 0], 1
    draws = torch.rand(len(start), search.longest, generator=torch.Generator().manual_seed(0))
    wanted: Any = {"end": end, "banned": (0,), "search": search}
    whole = decode(part, memory, start, **wanted, draws=draws)
    again = decode(part, memory, start, **wanted, draws=draws, cached=False)
    assert torch.equal(whole.ids, again.ids), f"{search.way}: other tokens without the cache"
    _close(whole.score, again.score, f"{search.way}: scores without the cache")
    for row in range(len(start)):
        only = torch.tensor([row])
        alone = decode(part, _row(memory, only), start[only], **wanted, draws=draws[only])
        length = int(whole.length[row])
        assert int(alone.length) == length, f"{search.way}: row {row} is as long as {int(alone.length)} by itself"
        assert torch.equal(alone.ids[0, :length], whole.ids[row, :length]), f"{search.way}: row {row} by itself"


def _check_penalty(part: Any, talk: Talk) -> None:
    """One finite number per row, which steps that are not spoken do not change; `teach` gives it with the scores."""
    if not hasattr(part, "penalty"):
        return
    memory, ids, size = talk
    part.eval()
    spoken = torch.arange(ids.shape[1]) < torch.arange(1, len(ids) + 1)[:, None]
    found = part.penalty(memory, ids, spoken)
    assert found.shape == (len(ids),), f"a penalty is one number per row, not {tuple(found.shape)}"
    assert torch.isfinite(found).all(), "a penalty is not finite"
    other = torch.where(spoken, ids, (ids + 1) % size)
    _close(part.penalty(memory, other, spoken), found, "the penalty after changing what is not spoken")
    _close(part.penalty(_longer(memory), ids, spoken), found, "the penalty with more padding of the memory")
    if hasattr(part, "teach"):
        scores, penalty = part.teach(memory, ids, spoken)
        _close(scores, part(memory, ids), "the scores that teach gives")
        _close(penalty, found, "the penalty that teach gives")


def _check_export(part: nn.Module, talk: Talk, scores: Tensor) -> None:
    try:
        exported = torch.export.export(part, (talk.memory, talk.ids), strict=False).module()
    except RuntimeError as error:
        raise AssertionError(f"torch.export: {str(error).strip().splitlines()[0]}") from error
    with torch.no_grad():
        _close(exported(talk.memory, talk.ids), scores, "after torch.export")
