"""The training rows' fingerprints in the run folder, so that rows measured later can be compared with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from polymodal.data.fingerprints import Marks
from polymodal.work import folder as folders

NAME = "fingerprints.safetensors"


def save(folder: Path, marks: dict[str, Marks]) -> list[str]:
    """Write the fingerprints by input, 32 or 40 bytes and a row number for every cell; the names of the files."""
    tensors = {}
    for name, found in marks.items():
        tensors[f"{name}.words"] = torch.from_numpy(found.words.view(np.int64))  # safetensors' readers know no uint64
        tensors[f"{name}.rows"] = torch.from_numpy(found.rows)
    if not tensors:
        return []
    folders.write_tensors(folder / NAME, tensors)
    return [NAME]


def load(folder: Path) -> dict[str, Marks]:
    """What `save` wrote; nothing for a run without it, an older one or one whose owner took the file away."""
    digest = folders.manifest(folder)["files"].get(NAME)
    if digest is None or not (folder / NAME).is_file():
        return {}
    tensors = {name: tensor.numpy() for name, tensor in folders.read_tensors(folder / NAME, digest).items()}
    names = [name.removesuffix(".words") for name in tensors if name.endswith(".words")]
    return {n: Marks(tensors[f"{n}.words"].view(np.uint64), tensors[f"{n}.rows"]) for n in names}
