"""The public checkers of what joins answers, and of objectives beside the tasks; see `checks`."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from polymodal.core.checks import (
    _check_gradients,
    _check_names,
    _check_saving,
    _close,
    _fresh,
    _longer,
    _rows,
    _without,
)
from polymodal.core.contracts import Align, Balance, Decision, Paced
from polymodal.core.streams import Cells, Notes, Streams, Target

Kind = Literal["class", "classes", "value"]


def scores_like(
    kind: Kind, inputs: int, size: int, rows: int = 6, seed: int = 0
) -> tuple[Float[Tensor, "{rows} {inputs} {size}"], Bool[Tensor, "{rows} {inputs}"]]:
    """Random scores of this kind for the checker; row 0 has all inputs, row 1 misses the first, the last has none."""
    g = torch.Generator().manual_seed(seed)
    scores = 2 * torch.randn(rows, inputs, size, generator=g)
    present = torch.rand(rows, inputs, generator=g) < 0.6
    present[0], present[1], present[-1] = True, torch.arange(inputs) > 0, False
    return (scores.log_softmax(2) if kind == "class" else scores), present


def check_decision(make: Callable[[], Any], kind: Kind, inputs: int, size: int, export: bool = True) -> None:
    """Check the Decision contract on random scores [B N K] of this kind, for `make` built for so many inputs and K.

    Shape, finite for every subset of inputs, no influence of a missing input's scores or of other rows, scores left as
    they were, gradients where it learns and parameters only there, saving and loading, `torch.export`.
    """
    part = _fresh(make, Decision)
    assert hasattr(type(part), "learns"), "learns must be said of the class"
    assert part.learns == any(p.requires_grad for p in part.parameters()), "it learns if it has parameters"
    scores, present = scores_like(kind, inputs, size)
    kept = scores.clone()

    def run(module: nn.Module, scores: Tensor = scores, there: Tensor = present) -> Tensor:
        found = module(scores, there)
        assert found.shape == (len(scores), size), f"{tuple(found.shape)} scores, not {(len(scores), size)}"
        assert torch.isfinite(found).all(), "scores are not finite"
        return found

    with torch.no_grad():
        whole = run(part)
        assert torch.equal(scores, kept), "the scores were changed in place"
        other = torch.where(present[..., None], scores, torch.randn_like(scores) * 50)
        _close(run(part, other), whole, "with other scores in the place of missing inputs")
        order = torch.randperm(len(scores), generator=torch.Generator().manual_seed(0))
        _close(run(part, scores[order], present[order]), whole[order], "after changing the order of the rows")
        for row in range(len(scores)):
            _close(run(part, scores[[row]], present[[row]])[0], whole[row], f"row {row} without the others")
        for count in range(inputs + 1):
            for some in combinations(range(inputs), count):
                run(part, scores, torch.isin(torch.arange(inputs), torch.tensor(some)).expand(len(scores), -1))
        run(part, 200 * scores)  # very sure
    _check_saving(part, make, run)
    if export:
        with torch.no_grad():
            exported = torch.export.export(part, (scores, present), strict=False).module()
            _close(whole, run(exported), "after torch.export")
    part.train()
    total = run(part)
    _check_gradients(part, (total * torch.randn_like(total)).sum())


def check_balance(make: Callable[[], Any], streams: Streams, targets: dict[str, Target]) -> None:
    """Check the Balance contract: streams of the same values, losses per row, every subset missing, gradients, saving.

    `make` builds the part with its probes; a part that is Paced is also given losses to learn from.
    """
    part = _fresh(make, Balance).train()
    rows = len(next(iter(streams.values())).tokens)

    def run(module: nn.Module, given: Streams = streams) -> Tensor:
        torch.manual_seed(0)
        out, notes = module(given, targets, None)
        assert list(out) == list(given), f"streams {list(out)} for {list(given)}"
        for name, stream in out.items():
            assert torch.equal(stream.tokens, given[name].tokens), f"the tokens of {name} were changed"
            assert torch.equal(stream.mask, given[name].mask), f"the mask of {name} was changed"
        return _added(notes, rows)

    whole = run(part)
    torch.manual_seed(0)
    _, notes = part(streams, targets, lambda x: x)
    _close(_added(notes, rows), whole, "with all processes being this one")
    for count in range(1, len(streams) + 1):
        for gone in combinations(streams, count):
            run(part, _without(streams, gone))
    if isinstance(part, Paced):
        _check_names(part, Paced)
        loss = torch.randn(rows)
        assert torch.equal(part.joint(loss), loss), "joint changes the value of the loss"
        for step in range(3):
            part.learn([1.0 - 0.1 * step] * (len(streams) + 1), [1.5 - 0.1 * step] * (len(streams) + 1))
    _check_saving(part, make, lambda m: run(m.train()))
    given = {n: s._replace(tokens=s.tokens.clone().requires_grad_()) for n, s in streams.items()}
    out, notes = part.train()(given, targets, None)
    total = sum((s.tokens * torch.randn_like(s.tokens)).sum() for s in out.values())
    _check_gradients(part, total + _added(notes, rows).sum())
    for name, stream in given.items():
        assert stream.tokens.grad is not None, f"no gradient reaches {name}"
        assert torch.isfinite(stream.tokens.grad).all(), f"the gradient that reaches {name} is not finite"


def check_align(make: Callable[[], Any], streams: Streams) -> None:
    """Check the Align contract: losses per row, in any order of the rows, with more padding, every subset missing.

    With all rows showing the same cells nothing is to be told apart; `make` builds the part for these streams.
    """
    part = _fresh(make, Align).train()
    rows = len(next(iter(streams.values())).tokens)

    def run(module: nn.Module, given: Streams, cells: dict[str, Cells]) -> Tensor:
        return _added(module(given, cells, None), len(next(iter(given.values())).tokens))

    cells = _cells(streams)
    whole = run(part, streams, cells)
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(0))
    mixed = {n: c._replace(index=c.index[order]) for n, c in cells.items()}
    _close(run(part, _rows(streams, order), mixed), whole[order], "after changing the order of the rows")
    _close(run(part, {n: _longer(s) for n, s in streams.items()}, cells), whole, "after more padding")
    _close(_added(part(streams, cells, lambda x: x), rows), whole, "with all processes being this one")
    for count in range(1, len(streams) + 1):
        for gone in combinations(streams, count):
            left = _without(streams, gone)
            run(part, left, _cells(left))
    _check_saving(part, make, lambda m: run(m.train(), streams, cells))
    _check_gradients(part.train(), run(part, streams, cells).sum())


def _cells(streams: Streams) -> dict[str, Cells]:
    """A cell of its own for every row that has one."""
    found = {}
    for name, stream in streams.items():
        rows = torch.arange(len(stream.mask))
        index = rows.where(stream.mask.any(1), -1)[:, None]
        found[name] = Cells({}, index, 100 + rows)
    return found


def _added(notes: Notes, rows: int) -> Tensor:
    """The losses of the notes together."""
    for name, loss in notes.losses.items():
        assert loss.shape == (rows,), f"notes.losses[{name!r}] must be one number per row"
        assert torch.isfinite(loss).all(), f"notes.losses[{name!r}] is not finite"
    return torch.stack([torch.zeros(rows), *notes.losses.values()]).sum(0)
