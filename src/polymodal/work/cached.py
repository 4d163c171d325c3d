"""Gradient caching: the micro-batches of a step are one batch to tasks that compare rows, in the memory of one of them.

Of all micro-batches the answers are computed, without gradient; the loss over all of them gives its gradient at these
answers; then each micro-batch is computed once more, with gradient and the same random state, and what was found at its
answers is led back through it. Without batch statistics the gradient is that of one large batch. It costs a forward
pass more; answers of all rows and what compares them stand in memory at once, and what is between input and answer of
one micro-batch. Source: Gao, Zhang, Han and Callan, "Scaling Deep Contrastive Learning Batch Size under Memory Limited
Setup", RepL4NLP 2021 (GradCache).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from polymodal.core.errors import SpecError
from polymodal.core.streams import Answer, Batch, Outputs, Target
from polymodal.model import Model
from polymodal.work.session import Session


class Held(NamedTuple):
    """What is known of a task's micro-batches: each one's summed loss, and the gradient at its answer."""

    losses: list[Float[Tensor, ""]]
    gradients: list[Answer]


class Cached:
    """The tasks of a step whose loss is taken over all of its micro-batches; none without `train.gradient_cache`."""

    def __init__(self, session: Session, micro: list[Batch], seeds: Sequence[int], names: Sequence[str]) -> None:
        model, wished = session.assembly.model, session.assembly.spec.train.gradient_cache
        able = [name for name, task in model.tasks.items() if getattr(task, "whole", False)]
        if wished and not able:
            raise SpecError("train.gradient_cache", "no task compares the rows of a batch", given=True,
                            advice="leave it out, or a task of type retrieve")  # fmt: skip
        self.names = [name for name in able if name in names] if wished else []
        self.held: dict[str, Held] = {}
        if self.names:
            drawn = zip(micro, seeds, strict=True)
            answers = [_answers(session, self.left(batch), seed, names) for batch, seed in drawn]
            for name in self.names:
                self.held[name] = _hold(session, name, micro, [one[name] for one in answers])

    def left(self, batch: Batch) -> Batch:
        """The batch without the targets of these tasks: their loss is known."""
        return batch._replace(targets={n: t for n, t in batch.targets.items() if n not in self.names})

    def sums(self, number: int, out: Outputs) -> dict[str, Float[Tensor, ""]]:
        """By task, this micro-batch's summed loss, whose gradient is the one that was found at its answer."""
        return {name: _led(held.losses[number], held.gradients[number], out.answers[name])
                for name, held in self.held.items()}  # fmt: skip


@torch.no_grad()
def _answers(session: Session, batch: Batch, seed: int, names: Sequence[str]) -> dict[str, Answer]:
    """All tasks of the step are asked, so that every part draws the same numbers as in the second pass."""
    runtime, model = session.runtime, session.assembly.model
    runtime.seed(seed)
    with _unmoved(model), runtime.autocast():
        out: Outputs = model(batch, gather=runtime.gather, tasks=names)
    return out.answers


def _hold(session: Session, name: str, micro: list[Batch], answers: list[Answer]) -> Held:
    task, runtime = session.assembly.model.tasks[name], session.runtime
    joined = {key: torch.cat([one[key] for one in answers]) for key in answers[0]}
    leaves = {key: x.requires_grad_() for key, x in joined.items() if x.is_floating_point()}
    target = _together([task.prepare(b.inputs, b.targets[name], b.key)[1] for b in micro])
    with runtime.autocast():
        each = task.loss(joined, target, runtime.gather).float() * task.weight(target)
    found = torch.autograd.grad(each.sum(), list(leaves.values()), allow_unused=True) if each.requires_grad else ()
    gradients = {key: g for key, g in zip(leaves, found, strict=False) if g is not None}
    sizes = [len(batch.key) for batch in micro]
    cut = {key: g.split(sizes) for key, g in gradients.items()}
    losses = [part.detach().sum() for part in each.split(sizes)]
    return Held(losses, [{key: parts[i] for key, parts in cut.items()} for i in range(len(micro))])


def _together(targets: list[Target]) -> Target:
    data = {key: torch.cat([one.data[key] for one in targets]) for key in targets[0].data}
    return Target(data, torch.cat([one.present for one in targets]))


def _led(loss: Float[Tensor, ""], gradients: Answer, answer: Answer) -> Float[Tensor, ""]:
    """A number of the value of `loss` and with these gradients at the answer."""
    terms = [(answer[key].float() * g.float()).sum() for key, g in gradients.items() if answer[key].requires_grad]
    path: Any = sum(terms, torch.zeros_like(loss))
    return loss + path - path.detach()


@contextmanager
def _unmoved(model: Model) -> Iterator[None]:
    """Running statistics stay as they are: the second pass moves them."""
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training]
    kept = [(m, m.momentum) for m in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in kept:
            norm.momentum = momentum
