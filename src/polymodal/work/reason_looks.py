"""Where a model looked when it answered a row: shares of the inputs, and grids over their pictures."""

from __future__ import annotations

import base64
import io
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from polymodal.assemble import Assembly
from polymodal.core.schema import Json
from polymodal.core.streams import Batch, Outputs, Stream

SIDE = 224  # of a picture that is told, at most
MOST = 24  # words of a sentence that are told one by one


class Looks:
    """What a batch's answers tell of where they come from; `of` gives it for one task and row, {} where nothing is:

    - `shares`: by input, its weight in the fusion;
    - `places`: by input, for each of its pictures {`column`, `grid`, `picture`}: the grid's rows from top to bottom,
      how much each place was looked at (1 in all), and a JPEG in base64 of the picture as the model saw it;
    - `words`: of a sentence, each `word` with the grids, by input, of where the decoder looked when it said it.

    Places are those that a decoder looked at, for tasks with one, otherwise those of the attention between inputs.
    An input's tokens are places where they are as many as its finest answer has: pictures whose encoder keeps a map.
    """

    def __init__(self, assembly: Assembly, batch: Batch, out: Outputs, pictures: bool) -> None:
        self.assembly, self.batch, self.out, self.pictures = assembly, batch, out, pictures
        self.told = {name: self._said(name, task) for name, task in assembly.model.tasks.items()}

    def of(self, task: str, row: int) -> dict[str, Json]:
        said, found = self.told[task], self._shares(row)
        steps = 0 if said is None else int(self.out.answers[task]["length"][row, 0])
        if said is None:
            tokens = {n: w[row] for n, w in self._attended.items()}
        else:
            tokens = {n: w[row, :steps].mean(0) for n, w in said.items() if steps}
        places = {n: seen for n, weights in tokens.items() if (seen := self._places(n, row, weights))}
        if places:
            found["places"] = places
        if said is not None and places:
            found["words"] = self._words(task, row, {n: w[row, :steps] for n, w in said.items() if n in places})
        return found

    def _shares(self, row: int) -> dict[str, Json]:
        weights, names = self.out.notes.weights.get("fusion"), self.assembly.model.encoders.names
        if weights is None or tuple(weights.shape[1:]) != (len(names),):
            return {}
        return {"shares": {n: _digits(w) for n, w in zip(names, weights[row].float().tolist(), strict=True)}}

    def _said(self, name: str, task: Any) -> dict[str, Float[np.ndarray, "B L _T"]] | None:
        """Where a decoder looked, step by step."""
        if not hasattr(task, "looks"):
            return None
        found = task.looks(self.out.attended, self.out.fused, self.out.answers[name])
        return {n: _numpy(w) for n, w in found.items()} or None

    @cached_property
    def _attended(self) -> dict[str, Float[np.ndarray, "B _T"]]:
        """How much the tokens of each input were looked at by attention, on average over who looked."""
        piles: dict[str, list[np.ndarray]] = {}
        for name, weights in self.out.notes.weights.items():
            who, arrow, seen = name.partition("<-")
            if arrow and seen in self.batch.inputs:
                piles.setdefault(seen, []).append(_numpy(_mean(weights, self.out.attended.get(who))))
        return {name: np.mean(pile, 0) for name, pile in piles.items()}

    def _places(self, name: str, row: int, weights: Float[np.ndarray, " T"]) -> list[Json]:
        grids = self._grids(name, row, weights)
        total = sum(float(grid.sum()) for grid in grids.values())
        columns = self.assembly.spec.inputs[name].columns
        return [
            {"column": columns[k], "grid": _plain(grid / total),
             **({"picture": self._picture(name, row, k)} if self.pictures else {})}
            for k, grid in grids.items() if total > 0
        ]  # fmt: skip

    def _grids(self, name: str, row: int, weights: Float[np.ndarray, " T"]) -> dict[int, np.ndarray]:
        """By column that the row has: weights [h, w]; nothing where tokens are no places of a picture."""
        cells, maps = self.batch.inputs[name], self.out.encoded[name].maps
        columns = cells.index.shape[1]
        if "pixels" not in cells.data or not maps:
            return {}
        size = (maps[-1].shape[2], maps[-1].shape[3])
        if columns * size[0] * size[1] != len(weights):
            return {}
        grids = weights.reshape(columns, *size)
        return {k: grids[k] for k in range(columns) if int(cells.index[row, k]) >= 0}

    def _picture(self, name: str, row: int, column: int) -> str:
        cells = self.batch.inputs[name]
        pixels = cells.data["pixels"][int(cells.index[row, column])].permute(1, 2, 0).cpu().numpy()
        picture = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0])
        picture.thumbnail((SIDE, SIDE))
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=80)
        return base64.b64encode(file.getvalue()).decode()

    def _words(self, task: str, row: int, looked: dict[str, Float[np.ndarray, "L _T"]]) -> list[Json]:
        speaker: Any = self.assembly.model.tasks[task]
        words: list[Json] = []
        for step, token in enumerate(self.out.answers[task]["ids"][row, 0].tolist()[:MOST]):
            if token == speaker.words.end:
                break
            grids = {n: self._grids(n, row, weights[step]) for n, weights in looked.items()}
            words.append({"word": speaker.words.say([token]) or "·",
                          "places": {n: [_plain(g) for g in of.values()] for n, of in grids.items()}})  # fmt: skip
        return words


def _mean(weights: Tensor, looker: Stream | None) -> Tensor:
    """[B T S] -> [B S], on average over the real tokens that looked; [B S] as it is."""
    if weights.ndim == 2:
        return weights
    if looker is None or looker.mask.shape != weights.shape[:2]:
        return weights.mean(1)
    mask = looker.mask.to(weights.dtype)
    return (weights * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)


def _numpy(weights: Tensor) -> np.ndarray:
    return weights.float().cpu().numpy()


def _plain(grid: Float[np.ndarray, "h w"]) -> Json:
    return [[_digits(w) for w in line] for line in grid.tolist()]


def _digits(value: float) -> float:
    return float(f"{value:.3g}")
