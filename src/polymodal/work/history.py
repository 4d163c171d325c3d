"""The history of a training: a JSON line per epoch, and TensorBoard events when asked for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from polymodal.core.catalog import need
from polymodal.core.schema import Json
from polymodal.work.folder import write_bytes


def write_history(folder: Path, history: list[Json]) -> None:
    lines = [json.dumps(entry, allow_nan=False) for entry in history]
    write_bytes(folder / "history.jsonl", "".join(line + "\n" for line in lines).encode())


def write_tensorboard(folder: Path, history: list[Json]) -> None:
    """The history as TensorBoard events, written anew so that a resumed run has each epoch once."""
    need("tensorboard", "train.tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    shutil.rmtree(folder / "tensorboard", ignore_errors=True)
    with SummaryWriter(str(folder / "tensorboard")) as writer:
        for entry in history:
            flat = {f"train/{k}": v for k, v in entry["train"].items()} | {"train/lr": entry["lr"]}
            flat |= {f"weights/{k}": v for k, v in entry.get("weights", {}).items()}
            flat |= {f"valid/{k}": v for k, v in entry["valid"].items() if v is not None}
            for name, value in flat.items():
                writer.add_scalar(name, value, entry["step"])
