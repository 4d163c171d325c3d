"""Pictures of a sentence: each word with where in the pictures the model looked when it said it."""

from __future__ import annotations

import base64
import io
import math
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image

from polymodal.assemble import Assembly
from polymodal.core.schema import Json
from polymodal.core.streams import Batch, Outputs
from polymodal.data.dataset import Dataset
from polymodal.model import on_device
from polymodal.work.runtime import Runtime

SIDE = 112  # pixels of a small picture
DARK = 0.2  # what is left of the light where it looked least
MOST = 24  # words of a sentence that are shown


class Word(NamedTuple):
    """A word, and by input the picture as it was looked at, a JPEG in base64."""

    word: str
    pictures: dict[str, str]


class Seen(NamedTuple):
    """A picture and the grid of places that its tokens are."""

    pixels: UInt8[np.ndarray, "H W 3"]
    grid: tuple[int, int]
    weights: Float[np.ndarray, "L T"]  # of every place, at every step


class Looked(NamedTuple):
    """A row's sentence, word by word."""

    task: str
    row: int
    words: list[Word]


@torch.inference_mode()
def look(assembly: Assembly, dataset: Dataset, rows: np.ndarray, runtime: Runtime) -> list[Looked]:
    """Where tasks that say sentences looked in the pictures of these rows; nothing for other tasks."""
    model = assembly.model.eval()
    speaking = [(name, task) for name, task in model.tasks.items() if hasattr(task, "looks")]
    if not speaking or not len(rows):
        return []
    batch, _ = dataset.load(rows)
    if batch is None:
        return []
    with runtime.autocast():
        out = model(on_device(batch, runtime.move), respond=True)
        found = {name: task.looks(out.attended, out.fused, out.answers[name]) for name, task in speaking}
    return [
        Looked(name, row.number, _words(task, out.answers[name]["ids"][at, 0].tolist(), {
            one: seen
            for one, weights in found[name].items()
            if (seen := _seen(batch, out, one, at, weights[at].float().cpu().numpy())) is not None
        }))
        for name, task in speaking
        if found[name]
        for at, row in enumerate(batch.rows)
    ]  # fmt: skip


def _seen(batch: Batch, out: Outputs, name: str, row: int, weights: Float[np.ndarray, "L T"]) -> Seen | None:
    """The row's picture as it was looked at; None where an input has none, or its tokens are no places."""
    cells, maps = batch.inputs[name], out.encoded[name].maps
    if "pixels" not in cells.data or cells.index.shape[1] != 1 or int(cells.index[row, 0]) < 0 or not maps:
        return None
    grid = (maps[-1].shape[2], maps[-1].shape[3])
    if grid[0] * grid[1] != weights.shape[1]:
        return None
    pixels = cells.data["pixels"][int(cells.index[row, 0])].permute(1, 2, 0).cpu().numpy()
    return Seen(pixels if pixels.shape[2] == 3 else pixels.repeat(3, 2), grid, weights)


def _words(task: Any, ids: list[int], pictures: dict[str, Seen]) -> list[Word]:
    words = []
    for step, token in enumerate(ids[:MOST]):
        if token == task.words.end:
            break
        shown = {name: painted(seen.pixels, seen.grid, seen.weights[step]) for name, seen in pictures.items()}
        words.append(Word(task.words.say([token]) or "·", shown))
    return words


def painted(picture: UInt8[np.ndarray, "H W 3"], grid: tuple[int, int], weights: Float[np.ndarray, " T"]) -> str:
    """The picture, light where the weights of its places are large: a JPEG in base64."""
    height, width = picture.shape[:2]
    size = (SIDE, max(1, math.ceil(SIDE * height / width)))
    heat = weights.reshape(grid) / max(float(weights.max()), 1e-12)
    light = Image.fromarray((255 * (DARK + (1 - DARK) * heat)).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    small = Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC)
    lit = Image.composite(small, Image.new("RGB", size), light)
    file = io.BytesIO()
    lit.save(file, "JPEG", quality=80)
    return base64.b64encode(file.getvalue()).decode()


def plain(found: list[Looked]) -> dict[str, list[Json]]:
    """By task, as the report shows it."""
    tasks: dict[str, list[Json]] = {}
    for one in found:
        words = [{"word": w.word, "pictures": list(w.pictures.values())} for w in one.words]
        if any(w["pictures"] for w in words):
            tasks.setdefault(one.task, []).append({"row": one.row, "words": words})
    return tasks
