"""Checkpoints of a training under way: all or nothing, the newest sound one wins, no pickle."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from polymodal.core.errors import RunError, saving
from polymodal.core.schema import Json
from polymodal.work.folder import KEPT, read_json, read_tensors, sync_folder, write_json, write_tensors
from polymodal.work.optimize import Average, load_optimizer, optimizer_tensors

DEAR = 20  # seconds of work for every second of saving


@dataclass
class State:
    """Where a training stands, as plain JSON. Randomness is a function of seed, epoch, step, row: nothing to save."""

    epoch: int = 0  # the epoch under way, from 0
    step: int = 0  # optimiser steps done in it
    steps: int = 0  # optimiser steps done in all
    loss: dict[str, float] = field(default_factory=dict)  # sums over this epoch's steps
    counted: dict[str, int] = field(default_factory=dict)  # steps in which a task had rows with a target
    added: dict[str, float] = field(default_factory=dict)  # sums, likewise, of the losses that parts add
    seconds: float = 0.0  # spent in this epoch so far
    best: list[float] | None = None  # score (larger is better) and minus the validation loss
    best_epoch: int | None = None
    stale: int = 0  # epochs since the best
    plateau: float = 1.0
    plateau_stale: int = 0
    history: list[Json] = field(default_factory=list)
    done: bool = False


class Checkpoints:
    """The folder `checkpoints` of a run: `step-N` folders, and the weights of the best epoch beside them."""

    def __init__(self, run: Path) -> None:
        self.folder = run / "checkpoints"
        self.loaded: Path | None = None
        self.kept: dict[str, Tensor] | None = None
        self.saved, self.cost = time.monotonic(), 0.0

    def keep(self, model: nn.Module) -> None:
        """These weights are the best so far: they are written with the next checkpoint."""
        self.kept = {name: value.detach().clone() for name, value in model.state_dict().items()}

    def due(self, seconds: int) -> bool:
        """Whether the last checkpoint is so many seconds old, or so old that another one is cheap beside the work."""
        return time.monotonic() - self.saved >= min(seconds, DEAR * self.cost)

    def save(self, state: State, model: nn.Module, optimizer: torch.optim.Optimizer, average: Average | None) -> None:
        """Write a new checkpoint, then drop the older ones. A crash at any point leaves the older one in place.

        Of a training that is done only the best weights are worth keeping, and where it stands.
        """
        began = time.monotonic()
        place = self.folder / f"step-{state.steps:09d}-{state.epoch:06d}"
        if place == self.loaded:  # nothing was done since
            return
        fresh = self.folder / f".new-{os.getpid()}"
        shutil.rmtree(fresh, ignore_errors=True)
        tensors: dict[str, dict[str, Tensor]] = {}
        if not state.done:
            tensors = {"model": model.state_dict(), "optimizer": optimizer_tensors(optimizer)}
            tensors |= {} if average is None else {"average": average.weights}
        try:
            if self.kept is not None:
                write_tensors(self.best(state), self.kept)
                self.kept = None
            hashes = {n: write_tensors(fresh / f"{n}.safetensors", t) for n, t in tensors.items()}
            write_json(fresh / "state.json", {**asdict(state), "hashes": hashes})
            shutil.rmtree(place, ignore_errors=True)
            with saving(place, RunError, KEPT):
                os.replace(fresh, place)
                sync_folder(self.folder)
        except RunError:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        for old in self.found()[1:]:
            shutil.rmtree(old, ignore_errors=True)
        for old in self.folder.glob("best-*.safetensors"):
            if old != self.best(state):
                old.unlink(missing_ok=True)
        self.saved = time.monotonic()
        self.cost = self.saved - began

    def found(self) -> list[Path]:
        """The checkpoints, newest first."""
        return sorted(self.folder.glob("step-*"), reverse=True)

    def best(self, state: State) -> Path:
        """Where the weights of the best epoch so far are."""
        return self.folder / f"best-{state.best_epoch}.safetensors"

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer, average: Average | None) -> State | None:
        """Put the newest sound checkpoint into the model; None when there is none to go on from."""
        for place in self.found():
            try:
                plain = read_json(place / "state.json")
                tensors = {n: read_tensors(place / f"{n}.safetensors", h) for n, h in plain.pop("hashes").items()}
                state = State(**plain)
                if state.best_epoch is not None:
                    read_tensors(self.best(state))
            except RunError:
                continue  # damaged: an older one may be sound, and starting again gives the same weights
            self.loaded = place
            if state.done:
                return state
            model.load_state_dict(tensors["model"])
            load_optimizer(optimizer, tensors["optimizer"])
            if average is not None:
                average.weights = {n: t.to(average.weights[n].device) for n, t in tensors["average"].items()}
            return state
        return None

    def clear(self) -> None:
        """Remove the folder once the run is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)
