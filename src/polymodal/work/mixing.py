"""How the losses of several tasks make one: whose turn a step is, how many rows count, how tasks are weighed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from polymodal.core.schema import Json
from polymodal.core.seeds import generator
from polymodal.core.spec import Spec
from polymodal.core.streams import Batch, Outputs, Target
from polymodal.model import Model
from polymodal.work.session import Session


def turn(spec: Spec, step: int) -> tuple[str, ...]:
    """The tasks of a step: all of them, or one that is drawn in proportion to its weight, a function of the seed."""
    names = tuple(spec.tasks)
    if spec.train.turns == "all":
        return names
    weights = np.array([spec.tasks[name].weight for name in names])
    upto = np.cumsum(weights if weights.any() else np.ones(len(names)))
    drawn = generator(spec.train.seed, "turn", step).random() * upto[-1]
    return (names[int(np.searchsorted(upto, drawn, side="right"))],)


class Mix:
    """The losses of one step: `add` those of each micro-batch, then `learn` what is weighed in the next step."""

    def __init__(self, session: Session, micro: list[Batch]) -> None:
        spec, model, runtime = session.assembly.spec, session.assembly.model, session.runtime
        self.model, self.runtime, self.step = model, runtime, session.state.steps
        self.names = turn(spec, self.step)
        counts = runtime.total(torch.stack([_weight(model, name, micro, name in self.names, runtime.device)
                                            for name in model.tasks.names]))  # fmt: skip
        self.known: Bool[Tensor, " T"] = counts > 0
        self.counts = counts.where(self.known, 1.0)
        self.factors = torch.tensor(fixed(spec), device=runtime.device)
        weigh: Any = model.weigh
        self.weigh, self.due = weigh, weigh is not None and weigh.due(self.step)
        self.losses, self.squares = torch.zeros_like(self.counts), torch.zeros_like(self.counts)

    def add(self, out: Outputs, sums: dict[str, Float[Tensor, ""]] | None = None) -> Float[Tensor, " T"]:
        """What a micro-batch adds to each task's term of the step's loss, a mean over the rows of all of them.

        `sums` are those of tasks whose rows' weighted losses are known otherwise.
        """
        none = torch.zeros((), device=self.counts.device)
        found = {name: (out.losses[name].float() * self.model.tasks[name].weight(out.asked[name])).sum()
                 for name in self.names if name not in (sums or {})} | (sums or {})  # fmt: skip
        parts = [found.get(name, none) / self.counts[i] for i, name in enumerate(self.model.tasks.names)]
        if self.due:
            self.squares += torch.stack([_square(part, out) for part in parts])
        each = torch.stack(parts)
        self.losses += each.detach()
        return each * self.factors if self.weigh is None else each * self.factors * self.weigh.weights()

    def learn(self, losses: Float[Tensor, " T"]) -> None:
        """Tell what weighs the tasks the mean losses over all rows of all processes."""
        if self.weigh is not None:
            norms = self.runtime.total(self.squares).sqrt() if self.due else None
            self.weigh.step(losses, norms, self.known)


def fixed(spec: Spec) -> list[float]:
    """What tasks' losses are multiplied by; those that take turns count by how often it is theirs."""
    return [1.0 if spec.train.turns == "one" else task.weight for task in spec.tasks.values()]


def weights(session: Session) -> dict[str, Json]:
    """What every task's loss is multiplied by now, for the history; nothing where that never changes."""
    weigh, spec = session.assembly.model.weigh, session.assembly.spec
    if weigh is None:
        return {}
    learned: Any = weigh
    pairs = zip(spec.tasks, fixed(spec), learned.weights().tolist(), strict=True)
    return {"weights": {name: factor * weight for name, factor, weight in pairs}}


def means(session: Session) -> dict[str, float]:
    """Every task's mean loss over the epoch's steps in which it had rows with a target."""
    state = session.state
    return {name: value / state.counted.get(name, 1) for name, value in state.loss.items()}


def close_epoch(session: Session) -> None:
    """Tell what weighs the tasks how they did in the epoch that ends."""
    weigh: Any = session.assembly.model.weigh
    if weigh is None:
        return
    names, found = session.assembly.model.tasks.names, means(session)
    losses = torch.tensor([found.get(name, 0.0) for name in names], device=session.runtime.device)
    known = torch.tensor([session.state.counted.get(name, 0) > 0 for name in names], device=losses.device)
    weigh.epoch(losses, known)


def _weight(model: Model, name: str, micro: Sequence[Batch], asked: bool, device: torch.device) -> Float[Tensor, ""]:
    """The summed weight of this process's rows; of a task that is not asked, 0."""
    total = torch.zeros((), device=device)
    for batch in micro if asked else ():
        total = total + model.tasks[name].weight(_asked(model.tasks[name], name, batch)).sum().float()
    return total


def _asked(task: Any, name: str, batch: Batch) -> Target:
    """The target, or what a task that poses its own questions makes of it."""
    target = batch.targets[name]
    return task.prepare(batch.inputs, target, batch.key)[1] if getattr(task, "poses", False) else target


def _square(part: Tensor, out: Outputs) -> Float[Tensor, ""]:
    """The squared norm of a loss's gradient at all streams of the common width; the graph is kept."""
    if not part.requires_grad:
        return torch.zeros_like(part)
    tokens = [stream.tokens for streams in out.entered for stream in streams.values()]
    found = torch.autograd.grad(part, tokens, retain_graph=True, allow_unused=True)
    return torch.stack([g.float().square().sum() for g in found if g is not None] or [torch.zeros_like(part)]).sum()
