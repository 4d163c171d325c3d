"""What is kept of the validation rows: how strange the truth was, how sure the answers were, which were right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float

from polymodal.work.folder import read_tensors, write_tensors

FILE = "trust.safetensors"


@dataclass(frozen=True)
class Witness:
    """The validation rows of one task; what the task does not offer is None."""

    rows: int
    scores: Float[np.ndarray, " n"] | None = None  # of strangeness, in steps with a lot added, in rising order
    step: float = 0.0
    confidence: Float[np.ndarray, " n"] | None = None
    right: Bool[np.ndarray, " n"] | None = None


Trust = dict[str, Witness]  # by task


def save(folder: Path, trust: Trust) -> None:
    """Write `trust.safetensors`, if there is anything to keep; tensors are named `what/task`."""
    tensors: dict[str, torch.Tensor] = {}
    for task, found in trust.items():
        if found.scores is not None:
            tensors[f"scores/{task}"] = torch.from_numpy(found.scores)
            tensors[f"step/{task}"] = torch.tensor(found.step, dtype=torch.float64)
        if found.confidence is not None and found.right is not None:
            tensors[f"confidence/{task}"] = torch.from_numpy(found.confidence)
            tensors[f"right/{task}"] = torch.from_numpy(found.right)
    if tensors:
        write_tensors(folder / FILE, tensors)


def load(folder: Path, hashes: Mapping[str, str]) -> Trust:
    """What `save` wrote; nothing for a run that was made before it was kept. Raises RunError when it was changed."""
    if FILE not in hashes:
        return {}
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, tensor in read_tensors(folder / FILE, hashes[FILE]).items():
        what, _, task = name.partition("/")
        found.setdefault(task, {})[what] = tensor.numpy()
    return {
        task: Witness(
            rows=len(kept["scores"] if "scores" in kept else kept["confidence"]),
            scores=kept.get("scores"),
            step=float(kept.get("step", 0.0)),
            confidence=kept.get("confidence"),
            right=kept.get("right"),
        )
        for task, kept in found.items()
    }
