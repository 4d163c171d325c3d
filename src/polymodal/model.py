"""The forward pass on one page: cells -> streams -> attention -> fusion -> tasks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from polymodal.core.contracts import Gather, Paced
from polymodal.core.layers import Hold, resting
from polymodal.core.names import key
from polymodal.core.streams import Answer, Batch, Cells, Notes, Outputs, Stream, Streams, Target, pool

Recall = Callable[[str, Cells], Stream | None]  # what a frozen encoder said of these cells before, where it is known


class Named(nn.Module):
    """Modules under free names, in order."""

    def __init__(self, modules: dict[str, Any]) -> None:
        super().__init__()
        self.names = tuple(modules)
        self.parts = nn.ModuleDict({key(n): m for n, m in modules.items()})

    def __getitem__(self, name: str) -> Any:
        return self.parts[key(name)]

    def items(self) -> Iterator[tuple[str, Any]]:
        return ((n, self[n]) for n in self.names)


class Entry(nn.Module):
    """Encoded cells [N T W] -> rows [B K*T D]: the projection to the common width, and a mark for each column.

    There are no marks where all columns are `alike`: what a cell says is then the same in each of them.
    """

    def __init__(self, *, width_in: int, width: int, columns: int, maps: bool, alike: bool = False) -> None:
        super().__init__()
        self.maps = maps and columns == 1  # nothing unread is built
        self.project = nn.Identity() if width_in == width else nn.Linear(width_in, width)
        self.column = nn.Embedding(columns, width) if columns > 1 and not alike else None
        if self.column is not None:
            nn.init.normal_(self.column.weight, std=0.02)

    def forward(self, cells: Stream, index: Int[Tensor, "B K"]) -> Stream:
        present, at = index >= 0, index.clamp(min=0)
        tokens = self.project(cells.tokens)[at]  # [B K T D]
        if self.column is not None:
            tokens = tokens + self.column(torch.arange(index.shape[1], device=index.device))[:, None]
        mask = (cells.mask[at] & present[..., None]).flatten(1)
        maps = tuple(m[at[:, 0]] * present[:, :1, None, None] for m in cells.maps) if self.maps else ()
        return Stream(tokens.flatten(1, 2).masked_fill(~mask[..., None], 0.0), mask, maps)


class Model(nn.Module):
    """Encoders, the common width, attention, fusion and tasks, wired by `assemble`; knows no part by name.

    `frozen` names the inputs whose encoders are never trained: they stay in eval and keep no gradients. `holds` are
    parts that are frozen, some of them until an epoch; what of them does not learn stays in eval too. Without a
    fusion the fused stream is the mean of the real tokens of the only input; of several there is none, for tasks that
    read streams. `align` and `balance` see the streams in training only; `weigh` is asked by the training.
    """

    def __init__(
        self,
        *,
        encoders: dict[str, Any],
        columns: dict[str, int],
        width: int,
        tasks: dict[str, Any],
        attention: nn.Module | None = None,
        fusion: nn.Module | None = None,
        align: nn.Module | None = None,
        balance: nn.Module | None = None,
        weigh: nn.Module | None = None,
        frozen: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__()
        self.encoders, self.tasks = Named(encoders), Named(tasks)
        maps = any("maps" in task.reads for task in tasks.values())
        alike = any(getattr(task, "alike", False) for task in tasks.values())
        how: dict[str, Any] = {"width": width, "maps": maps, "alike": alike}
        entries = {n: Entry(width_in=e.width, columns=columns[n], **how) for n, e in encoders.items()}
        self.entries = Named(entries)
        self.attention, self.fusion, self.frozen = attention, fusion, frozen
        self.align, self.balance, self.weigh = align, balance, weigh
        self.recall: Recall | None = None
        self.holds: tuple[Hold, ...] = ()

    def train(self, mode: bool = True) -> Model:
        super().train(mode)
        for part in [self.encoders[name] for name in self.frozen] + [m for h in self.holds for m in resting(h.module)]:
            part.eval()
        return self

    def encode(self, inputs: dict[str, Cells]) -> Streams:
        """Every input's cells [N ...] -> Stream of N rows at its encoder's own width."""
        encoded = {}
        for name, cells in inputs.items():
            encoder = self.encoders[name]
            learns = torch.is_grad_enabled() and name not in self.frozen
            with torch.set_grad_enabled(learns), _steady(encoder, cells):
                encoded[name] = encoder(cells.data)
        return encoded

    def recalled(self, inputs: dict[str, Cells]) -> Streams:
        """As `encode`, for cells as the readers gave them: what is known of them is not computed again."""
        known = {} if self.recall is None else {n: self.recall(n, cells) for n, cells in inputs.items()}
        found = {n: stream for n, stream in known.items() if stream is not None}
        return found | self.encode({n: cells for n, cells in inputs.items() if n not in found})

    def forward(
        self, batch: Batch, *, gather: Gather | None = None, encoded: Streams | None = None, respond: bool = False,
        options: dict[str, Any] | None = None, tasks: Collection[str] | None = None,
    ) -> Outputs:  # fmt: skip
        """Answers and, where there are targets, losses [B] per row.

        `encoded` skips the encoders; `respond` answers as the model does in use, with these `options`; `tasks` are
        those that are asked, all when not given.
        """
        shared = self.recalled(batch.inputs) if encoded is None else encoded
        seen: dict[int, Joined] = {}  # by what a task has prepared
        answers: dict[str, Answer] = {}
        losses: dict[str, Tensor] = {}
        asked: dict[str, Target] = {}
        learned = batch.targets if self.training and not respond else None
        weigh = self.balance.joint if learned is not None and isinstance(self.balance, Paced) else _as_it_is
        for name, task in self.tasks.items():
            if tasks is not None and name not in tasks:
                continue
            poses = getattr(task, "poses", False)
            inputs, target = batch.inputs, batch.targets.get(name)
            if poses or not respond:
                inputs, target = task.prepare(inputs, target, batch.key)
            if id(inputs) not in seen:
                seen[id(inputs)] = self._joined(batch, inputs, shared, learned, gather)
            _, _, streams, fused, _ = seen[id(inputs)]
            if not respond:
                answers[name] = task(streams, fused, target)
            else:
                how = {"key": batch.key, **(options or {})} if getattr(task, "draws", False) else {}
                answers[name] = task.respond(streams, fused, **how, **({"asked": target} if poses else {}))
            if target is not None and name in batch.targets:
                forced = respond and getattr(task, "forced", False)
                said = task(streams, fused, target) if forced else answers[name]
                losses[name] = weigh(task.loss(said, target, gather))
                asked[name] = target
        objectives = [part for part in (self.align, self.balance) if part is not None]
        if objectives and learned is not None and id(batch.inputs) not in seen:
            seen[id(batch.inputs)] = self._joined(batch, batch.inputs, shared, learned, gather)
        first, entered = next(iter(seen.values())), tuple([one.entered for one in seen.values()])
        plain = seen.get(id(batch.inputs), first)
        _, _, streams, fused, _ = plain if respond else first
        return Outputs(shared, streams, fused, answers, losses, plain.notes, asked, entered)

    def _joined(
        self, batch: Batch, inputs: dict[str, Cells], shared: Streams, learned: dict[str, Target] | None,
        gather: Gather | None,
    ) -> Joined:  # fmt: skip
        """Inputs as a task has prepared them, encoded where their data is new; others learn from them as they are."""
        changed = {n: cells for n, cells in inputs.items() if cells.data is not batch.inputs[n].data}
        entered = self.enter(shared | self.encode(changed), inputs)
        if self.weigh is not None and learned is not None:
            entered = {n: _with_gradient(stream) for n, stream in entered.items()}
        learned = learned if inputs is batch.inputs else None
        return Joined(inputs, entered, *self._join(entered, inputs, learned, gather))

    def enter(self, encoded: Streams, inputs: dict[str, Cells]) -> Streams:
        """Encoded cells -> streams of B rows at the common width."""
        return {n: self.entries[n](encoded[n], inputs[n].index) for n in self.encoders.names}

    def join(
        self, encoded: Streams, inputs: dict[str, Cells], learned: dict[str, Target] | None = None,
        gather: Gather | None = None,
    ) -> tuple[Streams, Stream | None, Notes]:  # fmt: skip
        """Encoded cells -> streams of B rows at the common width, attended, and fused; `learned` are targets."""
        return self._join(self.enter(encoded, inputs), inputs, learned, gather)

    def _join(
        self, entered: Streams, inputs: dict[str, Cells], learned: dict[str, Target] | None, gather: Gather | None
    ) -> tuple[Streams, Stream | None, Notes]:
        streams, notes = entered, []
        if self.balance is not None and learned is not None:
            streams, balancing = self.balance(entered, learned, gather)
            notes.append(balancing)
        if self.align is not None and learned is not None:
            notes.append(self.align(entered, inputs, gather))
        if self.attention is not None:
            streams, attending = self.attention(streams)
            notes.append(attending)
        if self.fusion is None:
            return streams, _only(streams), _together(notes)
        fused, fusing = self.fusion(streams)
        return streams, fused, _together([*notes, fusing])


class Joined(NamedTuple):
    """Inputs on their way: as cells, at the common width, attended, fused."""

    inputs: dict[str, Cells]
    entered: Streams
    streams: Streams
    fused: Stream | None
    notes: Notes


def _with_gradient(stream: Stream) -> Stream:
    """The stream, through which a gradient can be asked for even where nothing before it learns."""
    tokens = stream.tokens
    return stream if tokens.requires_grad else stream._replace(tokens=tokens.detach().requires_grad_())


def _only(streams: Streams) -> Stream | None:
    """The mean of the real tokens, where there is a single input."""
    if len(streams) > 1:
        return None
    (only,) = streams.values()
    return Stream(pool(only.tokens, only.mask)[:, None], torch.ones_like(only.mask[:, :1]))


def _together(notes: list[Notes]) -> Notes:
    losses = {name: loss for one in notes for name, loss in one.losses.items()}
    return Notes(losses, {name: weights for one in notes for name, weights in one.weights.items()})


def _as_it_is(loss: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    return loss


@contextmanager
def _steady(encoder: nn.Module, cells: Cells) -> Iterator[None]:
    """Batch statistics are left alone by a blank cell, and by a single cell, which has no variance to give."""
    few = encoder.training and (len(cells.id) < 2 or not bool((cells.index >= 0).any()))
    norms = [m for m in encoder.modules() if isinstance(m, _BatchNorm) and m.training] if few else []
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()


def on_device(batch: Batch, move: Callable[[Tensor], Tensor]) -> Batch:
    """The batch with every tensor moved."""
    inputs = {
        n: Cells({k: move(v) for k, v in c.data.items()}, move(c.index), move(c.id)) for n, c in batch.inputs.items()
    }
    targets = {
        n: t._replace(data={k: move(v) for k, v in t.data.items()}, present=move(t.present))
        for n, t in batch.targets.items()
    }
    return Batch(inputs, targets, move(batch.key), batch.rows)


def withhold(batch: Batch, name: str) -> Batch:
    """The batch as if every cell of one input were missing."""
    cells = batch.inputs[name]
    return batch._replace(inputs={**batch.inputs, name: cells._replace(index=torch.full_like(cells.index, -1))})
