"""Why a row was answered as it was: each input withheld, the likeliest answers, and where the model looked.

Not a proof: inputs are withheld one at a time, so that two which say the same hide each other.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from polymodal.assemble import Assembly
from polymodal.core.contracts import Prediction
from polymodal.core.schema import Json
from polymodal.core.streams import Answer, Batch, Outputs, Row
from polymodal.data.ledger import Ledger
from polymodal.data.loader import Loader
from polymodal.data.splits import Part
from polymodal.model import on_device, withhold
from polymodal.tasks.speaking import Speaking
from polymodal.work.collect import as_float
from polymodal.work.reason_looks import Looks
from polymodal.work.runtime import Runtime

Reason = dict[str, Json]
LIKELY = 10  # classes that are told of each row
ROWS = 64  # answered at once


@torch.inference_mode()
def reasons(
    assembly: Assembly, batch: Batch, runtime: Runtime, *, options: dict[str, Json] | None = None, pictures: bool = True
) -> list[dict[str, Reason]]:
    """For every row of the batch, in order, by task:

    - `measure`: what is compared, `confidence` of the answer given, or its `value` where the answer is a number;
    - `whole`: this measure with all inputs;
    - `withheld`: by input that the row has, how much the measure changes when the input is withheld: below 0 where the
      answer leans on it. For classes and sentences it is the confidence in the answer that was given, whatever would
      be said instead; for other tasks that of what is said then;
    - `without`: by input, `value` and `confidence` of what is said without it;
    - `likely`: the likeliest classes with their probabilities, where the task has classes;
    - `attention`: what attention, fusion or decoder tell of where they looked, see `reason_looks`; with `pictures`, the
      pictures as the model saw them.

    One forward pass for each input; nothing is encoded again. `options` are those of answering. A task that answers
    nothing has no reason.
    """
    model: Any = assembly.model.eval()
    moved = on_device(batch, runtime.move)
    with runtime.autocast():
        whole = model(moved, respond=True, options=options)
        others = {
            n: model(withhold(moved, n), respond=True, options=options, encoded=whole.encoded)
            for n in model.encoders.names
        }
        looks = Looks(assembly, moved, whole, pictures)
        found: list[dict[str, Reason]] = [{} for _ in batch.rows]
        for name, task in model.tasks.items():
            for row, reason in enumerate(_of_task(name, task, batch, whole, others)):
                if reason is not None:
                    seen = looks.of(name, row)
                    found[row][name] = {**reason, **({"attention": seen} if seen else {})}
    return found


def reasons_of_part(
    assembly: Assembly, part: Part, runtime: Runtime, *, options: dict[str, Json] | None = None, pictures: bool = True
) -> list[dict[str, Reason]]:
    """The reasons of every row of the part, in order; {} for one that cannot be used."""
    dataset = assembly.dataset(part, Ledger(), targets=False)
    loader = Loader(dataset, batch=ROWS, seed=0, shuffle=False, augment=False, buckets=False)
    found: dict[int, dict[str, Reason]] = {}
    for micro in loader.epoch(0):
        for batch, _ in micro:
            if batch is not None:
                told = reasons(assembly, batch, runtime, options=options, pictures=pictures)
                found |= {row.number: of for row, of in zip(batch.rows, told, strict=True)}
    return [found.get(row, {}) for row in part.rows.tolist()]


def _of_task(
    name: str, task: Any, batch: Batch, whole: Outputs, others: dict[str, Outputs]
) -> list[Reason | None]:  # fmt: skip
    said = as_float(whole.answers[name])
    given = task.predict(said, batch.rows)
    kind, level = _measured(task, said, whole, said, given)
    there = {n: (cells.index >= 0).any(1).tolist() for n, cells in batch.inputs.items()}
    levels, instead = {}, {}
    for one, out in others.items():
        answer = as_float(out.answers[name])
        instead[one] = task.predict(answer, batch.rows)
        levels[one] = _measured(task, said, out, answer, instead[one])[1]
    likely = _likely(task, said)

    def reason(at: int, row: Row) -> Reason | None:
        if given[at].value is None:
            return None
        held = [n for n in others if there[n][at]]
        return {
            "measure": kind,
            "whole": _plain(level[at]),
            "withheld": {n: _plain(levels[n][at] - level[at]) for n in held},
            "without": {n: {"value": instead[n][at].value, "confidence": instead[n][at].confidence} for n in held},
            **({} if likely is None else {"likely": likely[at]}),
        }

    return [reason(at, row) for at, row in enumerate(batch.rows)]


def _measured(
    task: Any, said: Answer, out: Outputs, answer: Answer, predictions: list[Prediction]
) -> tuple[str, Float[np.ndarray, " B"]]:
    """What `answer` thinks of what was `said`: its confidence in it; or its own number where the answer is one."""
    if hasattr(task, "cooled"):
        return "confidence", _of_classes(task, said, answer)
    if isinstance(task, Speaking):
        return "confidence", _of_sentences(task, said, out)
    if any(p.confidence is not None for p in predictions):
        return "confidence", _array([p.confidence for p in predictions])
    return "value", _array([p.value for p in predictions])


def _of_classes(task: Any, said: Answer, answer: Answer) -> Float[np.ndarray, " B"]:
    """The probability of the class, or of exactly the classes, that were said."""
    logits, told = task.cooled(answer["logits"]), task.cooled(said["logits"])
    if task.multi:
        p = logits.sigmoid()
        return torch.where(told > 0, p, 1 - p).log().sum(1).exp().cpu().numpy()
    return logits.softmax(1).gather(1, told.argmax(1, keepdim=True))[:, 0].cpu().numpy()


def _of_sentences(task: Speaking, said: Answer, out: Outputs) -> Float[np.ndarray, " B"]:
    """The geometric mean of the probabilities of the tokens that were said in the first language."""
    ids, length = said["ids"][:, 0], said["length"][:, 0]
    given = torch.cat([torch.full_like(ids[:, :1], task.field["size"]), ids[:, :-1]], 1)
    scores = task.decoder(task.memory(out.attended, out.fused), given).float()
    scores[..., list(task.banned)] = -torch.inf
    each: Float[Tensor, "B L"] = scores.log_softmax(2).gather(2, ids[..., None])[..., 0]
    spoken = torch.arange(ids.shape[1], device=ids.device) < length[:, None]
    return (each.where(spoken, 0.0).sum(1) / length.clamp(min=1)).exp().double().cpu().numpy()


def _likely(task: Any, said: Answer) -> list[Json] | None:
    """The likeliest classes of each row, [class, probability], the likeliest first."""
    if not hasattr(task, "cooled"):
        return None
    logits = task.cooled(said["logits"])
    p, which = (logits.sigmoid() if task.multi else logits.softmax(1)).topk(min(LIKELY, logits.shape[1]), 1)
    return [
        [[task.classes[c], x] for c, x in zip(row, sure, strict=True)]
        for row, sure in zip(which.tolist(), p.tolist(), strict=True)
    ]


def _array(values: list[Any]) -> Float[np.ndarray, " B"]:
    """Numbers; NaN for what is none."""
    return np.array([float(v) if isinstance(v, int | float) else math.nan for v in values], np.float64)


def _plain(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None
