"""After the training: validation rows fit each task's temperature, and are kept as witnesses of how far to trust it."""

from __future__ import annotations

from typing import Any

import numpy as np

from polymodal.assemble import Assembly
from polymodal.core.contracts import Bounded, Calibrated, Records, Selective
from polymodal.data.dataset import Dataset
from polymodal.data.loader import Loader
from polymodal.work.collect import collect
from polymodal.work.runtime import Runtime
from polymodal.work.trust.conformal import lots, ranked, step_of
from polymodal.work.trust.store import Trust, Witness


def calibrate(assembly: Assembly, valid: Dataset, runtime: Runtime) -> Trust:
    """Answer the validation rows once more, fit what the tasks fit, and keep what speaks for them.

    The rows chose the epoch too, one of a few; that is the only way in which they are better than new rows.
    """
    settings = assembly.spec.train
    loader = Loader(valid, batch=max(64, settings.batch), seed=settings.seed, shuffle=False, augment=False,
                    buckets=False, workers=settings.workers)  # fmt: skip
    found, _ = collect(assembly.model, loader, runtime)
    kept = {}
    for name, records in found.records.items():
        task, rows = assembly.model.tasks[name], found.rows[name]
        if len(rows):
            records = task.calibrate(records) if isinstance(task, Calibrated) else records
            kept[name] = witness(task, name, records, rows)
    return kept


def witness(task: Any, name: str, records: Records, rows: np.ndarray) -> Witness:
    """What the records of these rows (numbers in their table) say for the task."""
    scores, step, confidence, right = None, 0.0, None, None
    if isinstance(task, Bounded):
        strange = task.strangeness(records)
        step = step_of(strange)
        scores = ranked(strange, lots(name, "witness", rows), step)
    if isinstance(task, Selective):
        confidence, right = task.certainty(records)
    return Witness(len(rows), scores, step, confidence, right)
