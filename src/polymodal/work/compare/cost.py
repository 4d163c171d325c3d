"""What a model costs: operations for a row, the time until one row is answered, CPU seconds of this process."""

from __future__ import annotations

import os
import statistics
import time

import numpy as np
import torch

from polymodal.core.streams import Batch
from polymodal.data.dataset import Dataset
from polymodal.model import Model, on_device
from polymodal.work.runtime import Runtime

COUNTED = 16  # rows whose operations are counted
TIMED = 20  # rows that are answered one by one


def cpu_seconds() -> float:
    """Of this process and of those it waited for."""
    return sum(os.times()[:4])


def operations(model: Model, dataset: Dataset, runtime: Runtime) -> int:
    """Floating-point operations of answering a row, encoders included: two for each multiplication and addition.

    Counted are matrix products, convolutions and attention (`torch.utils.flop_counter`), on up to 16 rows at once;
    what a recurrent net does inside one fused call of the library is not seen.
    """
    from torch.utils.flop_counter import FlopCounterMode

    batch = _batch(dataset, dataset.rows[:COUNTED], runtime)
    model.eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(batch, encoded=model.encode(batch.inputs), respond=True)
    return round(counter.get_total_flops() / len(batch.rows))


def seconds_per_row(model: Model, dataset: Dataset, runtime: Runtime) -> float:
    """The median time to answer one row that is read already, encoders included."""
    model.eval()
    batches = [_batch(dataset, dataset.rows[i : i + 1], runtime) for i in range(min(TIMED, len(dataset.rows)))]
    times = []
    with torch.inference_mode(), runtime.autocast():
        for batch in [batches[0], *batches]:
            began = time.perf_counter()
            model(batch, encoded=model.encode(batch.inputs), respond=True)
            times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def _batch(dataset: Dataset, rows: np.ndarray, runtime: Runtime) -> Batch:
    batch, _ = dataset.load(rows)
    assert batch is not None, "rows that were read once can be read again"
    return on_device(batch, runtime.move)
