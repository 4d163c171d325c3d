"""Simple models beside the trials: fitted once on the same training rows, measured on the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from polymodal.core import catalog
from polymodal.core.errors import UserError
from polymodal.model import Model
from polymodal.work.baseline import choose, measure_baselines
from polymodal.work.compare.probe import FILE, Answered
from polymodal.work.compare.shared import Shared
from polymodal.work.look import Ground
from polymodal.work.pooling import Scores
from polymodal.work.progress import Display

PLACE = "simple"


def names_of(shared: Shared, names: Sequence[str] | None) -> list[str]:
    """The simple models that are asked for, or all that suit; none without scikit-learn where none is asked for."""
    if names is None:
        try:
            catalog.need("sklearn", "baselines")
        except UserError:
            return []
    return [part.type for part in choose(shared.spec, names)]


def simple_models(shared: Shared, names: Sequence[str], folder: Path, display: Display,
                  model: Model | None) -> dict[str, Answered]:  # fmt: skip
    """How each of them answers the rows; what was measured before is not measured again.

    `model` has the encoders whose features they may use, untrained ones when there is none.
    """
    todo = [name for name in names if not (folder / PLACE / name / FILE).is_file()]
    if todo:
        ground = Ground(shared.spec, shared.readers, shared.targets, shared.files)
        found = measure_baselines(ground, shared.parts, todo, datasets=shared.datasets, runtime=shared.runtime,
                                  model=model, display=display)  # fmt: skip
        for name, evaluation in found.items():
            Answered(Scores.of(evaluation)).write(folder / PLACE / name)
    return {name: Answered.read(folder / PLACE / name) for name in names}
