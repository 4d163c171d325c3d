"""Late fusion: a task answered from every input by itself, and one answer made of theirs."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from polymodal.core.contracts import Gather
from polymodal.core.schema import Json
from polymodal.core.streams import Answer, Cells, Stream, Streams, Target
from polymodal.tasks.alone import Alone

PRESENT = ".present"  # which inputs a row has, in an answer given in training


class Late(nn.Module):
    """A task with one head per input and a decision that joins their answers.

    In training every input learns from its own answer, as it would in a model of its own: the loss of a row is the sum
    over the inputs it has. A decision that `learns` gets the joint answer's loss on top, from scores without a graph,
    so that it changes neither heads nor encoders. What the model says, and what is measured, is the joint answer; a row
    with nothing at all gets the task's `prior`.

    It offers whatever the task offers (measures, sets, a temperature); the first input's copy speaks for it, since
    none of that depends on a head. The answer given in training also holds the inputs' own.
    """

    def __init__(self, *, alone: Alone, decision: nn.Module) -> None:
        super().__init__()
        self.alone, self.decision = alone, decision
        task = alone.first
        self.reads: frozenset[str] = (task.reads - {"fused"}) | {"tokens"}
        modules = {*task._modules, *task._parameters, *task._buffers}
        for name in sorted({*dir(task)} - {*dir(nn.Module()), *dir(type(self)), *vars(self), *modules}):
            if not name.startswith("_"):
                setattr(self, name, getattr(task, name))

    def prepare(
        self, inputs: dict[str, Cells], target: Target | None, key: Tensor
    ) -> tuple[dict[str, Cells], Target | None]:
        for _, task in self.alone.copies():
            inputs, target = task.prepare(inputs, target, key)
        return inputs, target

    def forward(self, streams: Streams, fused: Stream | None, target: Target | None) -> Answer:
        answers, present = self.alone(streams, target), self.alone.present(streams)
        each = {f"{i}.{k}": v for i, answer in enumerate(answers) for k, v in answer.items()}
        return self._joined(answers, present) | each | {PRESENT: present}

    def respond(self, streams: Streams, fused: Stream | None, **options: Json) -> Answer:
        return self._joined(self.alone.respond(streams, options), self.alone.present(streams))

    def _joined(self, answers: list[Answer], present: Bool[Tensor, "B N"]) -> Answer:
        task = self.alone.first
        scores = torch.stack([task.scores(a) for a in answers], 1).detach()
        found = self.decision(scores, present)
        return task.joined(torch.where(present.any(1, keepdim=True), found, task.prior().to(found)))

    def loss(self, answer: Answer, target: Target, gather: Gather | None) -> Float[Tensor, " B"]:
        """The sum of the inputs' own losses, and the joint one where the decision learns; of `respond` the joint."""
        task = self.alone.first
        if PRESENT not in answer:
            return task.loss(answer, target, gather)
        starts = [f"{i}." for i in range(len(self.alone.inputs))]
        own = [{k.removeprefix(s): v for k, v in answer.items() if k.startswith(s)} for s in starts]
        total = self.alone.losses(own, target, answer[PRESENT] > 0, gather).sum(1)
        return total + task.loss(answer, target, gather).float() if self.decision.learns else total
