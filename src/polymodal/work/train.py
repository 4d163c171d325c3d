"""Training: one loop over epochs and optimiser steps, exact to resume, safe to stop at any moment."""

from __future__ import annotations

import math
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from polymodal.assemble import Assembly, parameter_groups
from polymodal.core.errors import SpecError, Stopped
from polymodal.core.schema import Json
from polymodal.data.dataset import Dataset
from polymodal.data.loader import Loader
from polymodal.work import dropout, memory
from polymodal.work.checkpoint import Checkpoints, State
from polymodal.work.collect import collect
from polymodal.work.evaluate import scores
from polymodal.work.folder import read_tensors
from polymodal.work.history import write_history, write_tensorboard
from polymodal.work.mixing import close_epoch, means, weights
from polymodal.work.optimize import Average, make_optimizer
from polymodal.work.pace import set_pace
from polymodal.work.progress import Display
from polymodal.work.runtime import Runtime
from polymodal.work.session import Session
from polymodal.work.step import step
from polymodal.work.thaw import thaw
from polymodal.work.words import measure

WORST = -sys.float_info.max  # in place of a score that is not defined; JSON has no infinity


def train(
    assembly: Assembly, datasets: dict[str, Dataset], folder: Path, runtime: Runtime, *, resume: bool = False,
    display: Display | None = None,
) -> State:  # fmt: skip
    """Train until the epochs are done or the score no longer rises; the model ends with the best epoch's weights.

    Raises Stopped after Ctrl-C, with a checkpoint written, and UserError when the loss is no longer finite.
    """
    session = _session(assembly, datasets, folder, runtime, display or Display())
    if resume:
        found = session.checkpoints.load(assembly.model, session.bare_optimizer, session.average)
        session.state = found or session.state
    with runtime.exact(), memory.kept(), dropout.quick(assembly.model), _interruptible() as stopped:
        while not session.state.done:
            _epoch(session, stopped)
    runtime.wait()
    best = session.checkpoints.best(session.state)
    assembly.model.load_state_dict(read_tensors(best))
    return session.state


def _session(assembly: Assembly, datasets: dict[str, Dataset], folder: Path, runtime: Runtime,
             display: Display) -> Session:  # fmt: skip
    settings = assembly.spec.train
    assembly.model.to(runtime.device)
    optimizer = make_optimizer(parameter_groups(assembly.model, assembly.spec), settings)
    average = Average(assembly.model, settings.ema) if settings.ema else None
    model, prepared = runtime.prepare(assembly.model, optimizer)
    loader = Loader(datasets["train"], batch=settings.batch, seed=settings.seed, shuffle=True, augment=True,
                    buckets=settings.buckets, workers=settings.workers, accumulate=settings.accumulate,
                    rank=runtime.rank, world=runtime.world)  # fmt: skip
    valid = Loader(datasets["valid"], batch=max(64, settings.batch), seed=settings.seed, shuffle=False, augment=False,
                   buckets=False, workers=settings.workers)  # fmt: skip
    return Session(assembly, runtime, model, prepared, average, loader, valid, Checkpoints(folder), folder, display,
                   State())  # fmt: skip


def _epoch(session: Session, stopped: Callable[[], bool]) -> None:
    """One epoch from wherever the state stands in it, with checkpoints on the way, then the validation."""
    state, settings = session.state, session.assembly.spec.train
    rows = len(session.loader.dataset.rows)
    began = time.monotonic()
    before = state.seconds
    title = f"epoch {state.epoch + 1}/{settings.epochs}"
    thaw(session)
    session.model.train()
    with session.display.bar(title, rows, state.step * settings.batch * settings.accumulate) as bar:
        for micro in session.loader.epoch(state.epoch, state.step):
            batches = [batch for batch, _ in micro if batch is not None]
            step(session, batches)
            bar.advance(sum(len(batch.rows) for batch in batches) * session.runtime.world)
            now = time.monotonic()
            state.seconds = before + now - began
            every = settings.checkpoint_steps
            late = now - session.checkpoints.saved > settings.checkpoint_seconds
            due = late or (every is not None and state.steps % every == 0)
            stop = session.runtime.any(stopped())
            if stop or (due and state.step < session.loader.steps):
                _save(session)
            if stop:
                raise Stopped(f"stopped after step {state.steps}; the work is saved in {session.folder}")
    _close_epoch(session, rows)
    stop = session.runtime.any(stopped())
    if stop or state.done or settings.checkpoint_steps or session.checkpoints.due(settings.checkpoint_seconds):
        _save(session)
    if stop and not state.done:
        raise Stopped(f"stopped after epoch {state.epoch}; the work is saved in {session.folder}")


def _close_epoch(session: Session, rows: int) -> None:
    """Validate, note the epoch in the history, keep the weights if they are the best, decide whether to go on."""
    state, settings, model = session.state, session.assembly.spec.train, session.assembly.model
    entry: dict[str, Json] = {}
    if session.runtime.main:
        kept = None
        if session.average is not None:
            kept = {n: v.clone() for n, v in model.state_dict().items()}
            model.load_state_dict(session.average.weights)
        found, _ = collect(model, session.valid, session.runtime)
        values = scores(model, found)
        better = _judge(session, values)
        entry = _entry(session, values, rows, better)
        if better:
            state.best_epoch = state.epoch
            session.checkpoints.keep(model)
        if kept is not None:
            model.load_state_dict(kept)
        session.display.epoch(entry, settings.epochs)
    entry, state.best, state.best_epoch, state.stale, state.plateau, state.plateau_stale = session.runtime.agree(
        (entry, state.best, state.best_epoch, state.stale, state.plateau, state.plateau_stale)
    )
    state.history.append(entry)
    _tell(session)
    close_epoch(session)
    state.epoch, state.step, state.loss, state.added, state.seconds = state.epoch + 1, 0, {}, {}, 0.0
    state.counted = {}
    set_pace(session)
    tired = settings.patience is not None and state.stale >= settings.patience
    state.done = state.epoch >= settings.epochs or tired


def _judge(session: Session, values: dict[str, float]) -> bool:
    """Whether this epoch is the best so far; counts the epochs that were not, for patience and plateau."""
    state, settings, tasks = session.state, session.assembly.spec.train, session.assembly.model.tasks
    first = tasks.names[0]
    monitor = settings.monitor or f"{first}.{tasks[first].metric}"
    if monitor not in values:
        raise SpecError("train.monitor", "no such measure", given=monitor, advice=f"one of {sorted(values)}")
    value, loss = values[monitor], sum(v for n, v in values.items() if n.endswith(".loss"))
    task, _, name = monitor.rpartition(".")
    lower = not tasks[task].maximize if name == tasks[task].metric else measure(name).lower
    score = -value if lower else value
    rank = [x if math.isfinite(x) else WORST for x in (score, -loss)]
    better = state.best is None or rank > state.best
    state.best = rank if better else state.best
    state.stale = 0 if better else state.stale + 1
    state.plateau_stale = 0 if better else state.plateau_stale + 1
    if state.plateau_stale >= settings.plateau_epochs:
        state.plateau, state.plateau_stale = state.plateau * settings.factor, 0
    return better


def _entry(session: Session, values: dict[str, float], rows: int, better: bool) -> dict[str, Json]:
    state, spec = session.state, session.assembly.spec
    steps = max(1, session.loader.steps)
    train = means(session)
    added = {n: v / steps for n, v in state.added.items()}
    loss = sum(v * spec.tasks[n].weight for n, v in train.items()) + sum(added.values())
    return {
        "epoch": state.epoch + 1,
        "step": state.steps,
        "lr": max(group["lr"] for group in session.bare_optimizer.param_groups),
        "seconds": round(state.seconds, 3),
        "rows_per_second": round(rows / max(state.seconds, 1e-9), 1),
        "train": {"loss": loss, **train, **{n: v for n, v in added.items() if n not in train}},
        **weights(session),
        "valid": {n: v if math.isfinite(v) else None for n, v in values.items()},
        "best": better,
    }


def _save(session: Session) -> None:
    if session.runtime.main:
        session.checkpoints.save(session.state, session.assembly.model, session.bare_optimizer, session.average)


def _tell(session: Session) -> None:
    if session.runtime.main:
        write_history(session.folder, session.state.history)
        if session.assembly.spec.train.tensorboard:
            write_tensorboard(session.folder, session.state.history)


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Ctrl-C asks to stop at the next step; a second one stops at once."""
    asked = False

    def ask(number: int, frame: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    try:
        before = signal.signal(signal.SIGINT, ask)
    except ValueError:  # not in the main thread: nobody can press Ctrl-C here
        yield lambda: False
        return
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)
