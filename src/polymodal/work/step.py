"""One step of the optimiser: the loss is the weighted mean over all rows of all micro-batches and processes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from polymodal.core.errors import UserError
from polymodal.core.seeds import derive
from polymodal.core.streams import Batch
from polymodal.model import Model, on_device
from polymodal.work.cached import Cached
from polymodal.work.checkpoint import State
from polymodal.work.mixing import Mix
from polymodal.work.optimize import factor, set_rate
from polymodal.work.session import Session


def step(session: Session, micro: list[Batch]) -> None:
    """One step of the optimiser over its micro-batches: the loss is the weighted mean over all rows of all of them.

    What parts add by their notes is averaged over the same rows, each counting as one.
    """
    state, settings, runtime = session.state, session.assembly.spec.train, session.runtime
    model = session.assembly.model
    micro = [on_device(batch, runtime.move) for batch in micro]
    tell(model, state.steps / session.total)
    mix = Mix(session, micro)
    set_rate(session.bare_optimizer, factor(settings, state.steps, session.total, state.epoch, state.plateau))
    rows = runtime.total(torch.tensor([float(sum(len(b.key) for b in micro))], device=runtime.device))
    added: dict[str, torch.Tensor] = {}
    seeds = [derive(settings.seed, "dropout", state.steps, number, runtime.rank) for number in range(len(micro))]
    cached = Cached(session, micro, seeds, mix.names)
    for number, batch in enumerate(micro):
        runtime.seed(seeds[number])
        with runtime.between(session.model, last=number == len(micro) - 1):
            with runtime.autocast():
                out = session.model(cached.left(batch), gather=runtime.gather, tasks=mix.names)
            extra = {name: x.float().sum() / rows[0] for name, x in out.notes.losses.items()}
            loss = torch.stack([*mix.add(out, cached.sums(number, out)), *extra.values()]).sum()
            session.runtime.accelerator.backward(loss * runtime.world)
            added = {name: added.get(name, 0.0) + x.detach() for name, x in extra.items()}
    if settings.clip:
        _clip([p for p in model.parameters() if p.grad is not None], settings.clip)
    sums, names = torch.stack([*mix.losses, *added.values()]), (*model.tasks.names, *added)
    _check_finite(sums, names, state)
    session.optimizer.step()
    session.optimizer.zero_grad()
    if session.average is not None:
        session.average.update(model, state.steps)
    totals, known = runtime.total(sums), mix.known.tolist()
    mix.learn(totals[: len(known)])
    for place, (name, value) in enumerate(zip(names, totals.tolist(), strict=True)):
        if place >= len(known):
            state.added[name] = state.added.get(name, 0.0) + value
        elif known[place]:
            state.loss[name] = state.loss.get(name, 0.0) + value
            state.counted[name] = state.counted.get(name, 0) + 1
    state.step, state.steps = state.step + 1, state.steps + 1


def tell(model: Model, done: float) -> None:
    """Tell every part that wants to know how much of the training is done."""
    for part in model.modules():
        hear = getattr(part, "progress", None)
        if hear is not None:
            hear(done)


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
