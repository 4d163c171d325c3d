"""All that takes part in a training, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from polymodal.assemble import Assembly
from polymodal.data.loader import Loader
from polymodal.work.checkpoint import Checkpoints, State
from polymodal.work.optimize import Average
from polymodal.work.progress import Display
from polymodal.work.runtime import Runtime


@dataclass
class Session:
    """All that takes part in a training; what of it changes is in `state`, the model, the optimiser and the average."""

    assembly: Assembly
    runtime: Runtime
    model: Any  # the model as accelerate wraps it; the plain one is assembly.model
    optimizer: Any
    average: Average | None
    loader: Loader
    valid: Loader
    checkpoints: Checkpoints
    folder: Path
    display: Display
    state: State

    @property
    def bare_optimizer(self) -> torch.optim.Optimizer:
        """The optimiser without accelerate's wrapper."""
        return getattr(self.optimizer, "optimizer", self.optimizer)

    @property
    def total(self) -> int:
        return self.loader.steps * self.assembly.spec.train.epochs
