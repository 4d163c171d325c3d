"""The public checker of tasks that put rows into one space; see `checks`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from polymodal.core.checks import _close, _fresh, _longer, _row, _rows, _without
from polymodal.core.contracts import Embeds
from polymodal.core.streams import Embedded, Stream, Streams


def check_embeds(
    make: Callable[[], Any], streams: Streams, fused: Stream | None = None, columns: Mapping[str, int] | None = None
) -> None:
    """Check the Embeds contract on streams of some rows, of inputs with so many `columns` (one when not given).

    Vectors of length 1 where something is present, zeros elsewhere; finite; the same for a row by itself, in another
    order, with more padding in inputs of one column, and without what they are not made of.
    """
    part = _fresh(make, Embeds)
    counts = {name: (columns or {}).get(name, 1) for name in streams}
    with torch.no_grad():
        found = _embedded(part, streams, fused)
        order = torch.randperm(len(next(iter(streams.values())).tokens), generator=torch.Generator().manual_seed(0))
        _same(_embedded(part, _rows(streams, order), fused and _row(fused, order)), found, "in another order", order)
        for row in order.split(1):
            _same(_embedded(part, _rows(streams, row), fused and _row(fused, row)), found, "without other rows", row)
        padded = {name: _longer(s) if counts[name] == 1 else s for name, s in streams.items()}
        _same(_embedded(part, padded, fused and _longer(fused)), found, "after more padding")
        _check_sources(part, streams, fused, found, counts)


def _embedded(part: Any, streams: Streams, fused: Stream | None) -> dict[str, Embedded]:
    """Every space's vectors, in the promised form."""
    found: dict[str, Embedded] = part.embed(streams, fused)
    rows = len(next(iter(streams.values())).tokens)
    assert tuple(sorted(found)) == tuple(sorted(part.spaces)), f"embed gives {sorted(found)}, not {part.spaces}"
    for name, (vectors, present) in found.items():
        assert vectors.ndim == 3, f"{name}: vectors must be [B K E], got {tuple(vectors.shape)}"
        assert (len(vectors), vectors.shape[2]) == (rows, part.dim), f"{name}: {tuple(vectors.shape)}, E = {part.dim}"
        assert present.dtype == torch.bool, f"{name}: present is {present.dtype}"
        assert present.shape == vectors.shape[:2], f"{name}: present {tuple(present.shape)}"
        assert torch.isfinite(vectors).all(), f"{name}: vectors are not finite"
        _close(vectors.norm(dim=2), present.to(vectors.dtype), f"{name}: length 1 where present, else 0")
    return found


def _same(one: dict[str, Embedded], two: dict[str, Embedded], what: str, rows: Tensor | None = None) -> None:
    for name, (vectors, present) in one.items():
        whole = two[name] if rows is None else Embedded(two[name].vectors[rows], two[name].present[rows])
        assert torch.equal(present, whole.present), f"{name}: what is present {what}"
        _close(vectors, whole.vectors, f"{name} {what}")


def _check_sources(
    part: Any, streams: Streams, fused: Stream | None, found: dict[str, Embedded], counts: dict[str, int]
) -> None:
    """A space needs the inputs it is made of, and no other."""
    named = {name: tuple(f"{name}.{k}" for k in range(count)) for name, count in counts.items()}
    made_of = getattr(part, "made_of", lambda space, columns: columns[space])
    for space in part.spaces:
        needed = set(made_of(space, named))
        gone = [name for name, columns in named.items() if not needed & set(columns)]
        without = _embedded(part, _without(streams, gone), fused)
        _same({space: without[space]}, found, f"without {gone}, of which it is not made")
        empty = _embedded(part, _without(streams, set(named) - set(gone)), fused)[space]
        gap = (empty.vectors - found[space].vectors).abs().max()
        assert gap > 1e-4 or not needed, f"{space}: what it is made of is not looked at"
