"""A task answered from every input by itself: for late fusion, and for losses that look at single inputs."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from polymodal.core.contracts import Gather
from polymodal.core.schema import Json
from polymodal.core.streams import Answer, Stream, Streams, Target, pool


class Alone(nn.Module):
    """One copy of a task for each input; a copy is given that input's stream and nothing else.

    What a copy reads as fused is the mean of the input's real tokens, as in a model that has no other input.
    """

    def __init__(self, tasks: dict[str, Any]) -> None:
        super().__init__()
        self.inputs = tuple(tasks)
        self.tasks = nn.ModuleList(tasks.values())

    @property
    def first(self) -> Any:
        """Any of the copies: in all but their heads they are the same."""
        return self.tasks[0]

    def present(self, streams: Streams) -> Bool[Tensor, "B N"]:
        """Which inputs are there."""
        return torch.stack([streams[name].mask.any(1) for name in self.inputs], 1)

    def forward(self, streams: Streams, target: Target | None) -> list[Answer]:
        """Every input's answer, in the order of `inputs`."""
        return [task(*self._own(streams, name), target) for name, task in self.copies()]

    def respond(self, streams: Streams, options: dict[str, Json]) -> list[Answer]:
        """As `forward`, in the way in which the task answers when it is used."""
        return [task.respond(*self._own(streams, name), **options) for name, task in self.copies()]

    def losses(
        self, answers: list[Answer], target: Target, present: Bool[Tensor, "B N"], gather: Gather | None
    ) -> Float[Tensor, "B N"]:
        """Every input's own loss, zero where it is missing."""
        each = [t.loss(a, target, gather).float() for (_, t), a in zip(self.copies(), answers, strict=True)]
        return torch.stack(each, 1).where(present, 0.0)

    def copies(self) -> list[tuple[str, Any]]:
        """Every input's name and its copy."""
        return list(zip(self.inputs, self.tasks, strict=True))

    def _own(self, streams: Streams, name: str) -> tuple[Streams, Stream]:
        own = streams[name]
        return {name: own}, Stream(pool(own.tokens, own.mask)[:, None], torch.ones_like(own.mask[:, :1]))


class Probes(nn.Module):
    """Every task answered from every input by itself; `weights` says how much each task counts."""

    def __init__(self, tasks: dict[str, Alone], weights: dict[str, float]) -> None:
        super().__init__()
        self.names, self.weights = tuple(tasks), weights
        self.tasks = nn.ModuleList(tasks.values())

    def losses(
        self, streams: Streams, targets: dict[str, Target], gather: Gather | None = None
    ) -> Float[Tensor, "B N"]:
        """Each input's loss, such that its mean over the rows is the weighted sum of what the tasks lose.

        Zero in rows that lack the input.
        """
        total: Any = 0.0
        for name, alone, target in self._known(targets):
            answers, present = alone(streams, target), alone.present(streams)
            share = self.weights[name] * shares(alone.first.weight(target))
            total = total + share[:, None] * alone.losses(answers, target, present, gather)
        return total

    def joint(self, losses: dict[str, Tensor], targets: dict[str, Target]) -> Float[Tensor, " B"]:
        """The loss of answers from all inputs together, put together as the others are."""
        total: Any = 0.0
        for name, alone, target in self._known(targets):
            total = total + self.weights[name] * shares(alone.first.weight(target)) * losses[name].float()
        return total

    def credits(self, streams: Streams, targets: dict[str, Target]) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
        """What each input earns, from 0 to 1 for each answer by its nearness to the truth, in all rows that have it;
        and how many these are. Tasks count by their weights; one that cannot tell earns `1 / (1 + loss)`.
        """
        earned: Any = 0.0
        counts: Any = 0.0
        for name, alone, target in self._known(targets):
            asked = alone.present(streams) & (alone.first.weight(target) > 0)[:, None]
            each = torch.stack([_credit(alone.first, a, target).float() for a in alone(streams, target)], 1)
            earned = earned + self.weights[name] * each.where(asked, 0.0).sum(0)
            counts = counts + self.weights[name] * asked.to(each.dtype).sum(0)
        return earned, counts

    def _known(self, targets: dict[str, Target]) -> list[tuple[str, Any, Target]]:
        return [(n, alone, targets[n]) for n, alone in zip(self.names, self.tasks, strict=True)]


def shares(weight: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Weights of rows, scaled so that a mean over the rows is the weighted mean; zeros when nothing has any weight."""
    total = weight.sum()
    return weight * (len(weight) / total.where(total > 0, 1.0))


def _credit(task: Any, answer: Answer, target: Target) -> Float[Tensor, " B"]:
    own = getattr(task, "credit", None)
    return own(answer, target) if own is not None else 1 / (1 + task.loss(answer, target, None))
