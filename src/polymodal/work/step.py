"""One step of the optimiser: the loss is the weighted mean over all rows of all micro-batches and processes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from polymodal.core.errors import UserError
from polymodal.core.seeds import derive
from polymodal.core.streams import Batch
from polymodal.model import Model, on_device
from polymodal.work.checkpoint import State
from polymodal.work.optimize import factor, set_rate
from polymodal.work.runtime import Runtime
from polymodal.work.session import Session


def step(session: Session, micro: list[Batch]) -> None:
    """One step of the optimiser over its micro-batches: the loss is the weighted mean over all rows of all of them.

    What parts add by their notes is averaged over the same rows, each counting as one.
    """
    state, settings, runtime = session.state, session.assembly.spec.train, session.runtime
    model = session.assembly.model
    micro = [on_device(batch, runtime.move) for batch in micro]
    counts = _counts(model, micro, runtime)
    set_rate(session.bare_optimizer, factor(settings, state.steps, session.total, state.epoch, state.plateau))
    rows = runtime.total(torch.tensor([float(sum(len(b.key) for b in micro))], device=runtime.device))
    sums = torch.zeros(len(counts), device=runtime.device)
    added: dict[str, torch.Tensor] = {}
    for number, batch in enumerate(micro):
        runtime.seed(derive(settings.seed, "dropout", state.steps, number, runtime.rank))
        with runtime.between(session.model, last=number == len(micro) - 1):
            with runtime.autocast():
                out = session.model(batch, gather=runtime.gather)
            parts = [
                (out.losses[name].float() * task.weight(batch.targets[name])).sum() / counts[i]
                for i, (name, task) in enumerate(model.tasks.items())
            ]
            weighted = [
                p * session.assembly.spec.tasks[n].weight for n, p in zip(model.tasks.names, parts, strict=True)
            ]
            extra = {name: x.float().sum() / rows[0] for name, x in out.notes.losses.items()}
            loss = torch.stack([*weighted, *extra.values()]).sum()
            session.runtime.accelerator.backward(loss * runtime.world)
            sums += torch.stack(parts).detach()
            added = {name: added.get(name, 0.0) + x.detach() for name, x in extra.items()}
    if settings.clip:
        _clip([p for p in model.parameters() if p.grad is not None], settings.clip)
    sums, names = torch.stack([*sums, *added.values()]), (*model.tasks.names, *added)
    _check_finite(sums, names, state)
    session.optimizer.step()
    session.optimizer.zero_grad()
    if session.average is not None:
        session.average.update(model, state.steps)
    for place, (name, value) in enumerate(zip(names, runtime.total(sums).tolist(), strict=True)):
        kept = state.loss if place < len(counts) else state.added
        kept[name] = kept.get(name, 0.0) + value
    state.step, state.steps = state.step + 1, state.steps + 1


def _counts(model: Model, micro: list[Batch], runtime: Runtime) -> torch.Tensor:
    """Per task, the summed weight of the rows of this step over all processes (1 where there is none)."""
    sums = [sum(task.weight(b.targets[name]).sum() for b in micro) for name, task in model.tasks.items()]
    total = runtime.total(torch.stack([torch.as_tensor(s, device=runtime.device, dtype=torch.float32) for s in sums]))
    return torch.where(total > 0, total, torch.ones_like(total))


def _clip(parameters: list[torch.nn.Parameter], most: float) -> None:
    """Scale the gradient down to this norm; a shorter one is left alone, which spares a pass over it."""
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if float(norm) > most:
        torch.nn.utils.clip_grads_with_norm_(parameters, most, norm)


def _check_finite(sums: torch.Tensor, names: Sequence[str], state: State) -> None:
    if not bool(torch.isfinite(sums).all()):
        bad = [n for n, v in zip(names, sums.tolist(), strict=True) if not math.isfinite(v)]
        problem = f"the loss of {', '.join(bad)} is no longer a finite number, at step {state.steps + 1}"
        advice = "a lower train.lr, more train.warmup, train.clip: 1.0, or precision: fp32"
        raise UserError("train", problem, advice=advice)
