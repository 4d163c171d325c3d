"""What measured rows say of trust: coverage of sets, accuracy of what is answered, what a temperature did."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from polymodal.assemble import Assembly
from polymodal.core.contracts import Bounded, Calibrated, Records, Selective
from polymodal.core.schema import Json
from polymodal.work.collect import Collected
from polymodal.work.evaluation import Measures, TaskResult
from polymodal.work.intervals import intervals, paired
from polymodal.work.trust.abstain import Threshold
from polymodal.work.trust.chance import expected_coverage
from polymodal.work.trust.conformal import limits, lots, place
from polymodal.work.trust.store import Trust, Witness

LEVEL = 0.9  # at which coverage is always measured
LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)  # of the curve


def add_evidence(
    assembly: Assembly, tasks: dict[str, TaskResult], withheld: dict[str, dict[str, Measures]],
    blind: dict[str, Collected], trust: Trust, thresholds: dict[str, Threshold],
) -> dict[str, Json]:  # fmt: skip
    """Put measures and charts of trust into what was measured, whole and with each input withheld; what was fitted."""
    seed, proof = assembly.spec.train.seed, {}
    for name, result in tasks.items():
        task, kept, wanted = assembly.model.tasks[name], trust.get(name), thresholds.get(name)
        result.measures |= trust_measures(task, name, result.records, result.rows, kept, seed, wanted)
        result.charts = trust_charts(task, name, result.records, result.rows, kept, result.charts)
        for entry, found in blind.items():
            more = trust_measures(task, name, found.records[name], found.rows[name], kept, seed, wanted)
            withheld[entry][name] |= more
        if fitted := calibration(task, result.records, kept, seed):
            proof[name] = fitted
    return proof


def covers(task: Bounded, name: str, records: Records, rows: np.ndarray, kept: Witness, level: float) -> Records:
    """Per row: whether its region at this level holds the truth, and how large it is."""
    assert kept.scores is not None
    limit = limits(kept.scores, level, lots(name, "answer", rows), kept.step)
    strange = task.strangeness(records)
    covered = (strange <= limit) & (strange < np.inf)  # a class that no training row had is in no set
    return {"covered": covered.astype(np.float64), "extent": task.extents(records, limit)}


def trust_measures(task: Any, name: str, records: Records, rows: np.ndarray, kept: Witness | None, seed: int,
                   wanted: Threshold | None = None) -> Measures:  # fmt: skip
    """`coverage_90` and the size of the sets; with a threshold `answered_at` and `accuracy_answered`; with intervals.

    `rows` are the numbers of the records' rows in their table. The rows that gave the limits prove nothing about them.
    """
    columns: Records = {"error": records["error"]}
    if isinstance(task, Bounded) and kept is not None and kept.scores is not None:
        columns |= covers(task, name, records, rows, kept, LEVEL)
    if isinstance(task, Selective) and wanted is not None:
        confidence, right = task.certainty(records)
        columns |= {"answered": (confidence >= wanted.least).astype(np.float64), "right": right.astype(np.float64)}

    def measure(given: Records, weights: Float[np.ndarray, "W n"]) -> dict[str, Float[np.ndarray, " W"]]:
        total, found = weights.sum(1), {}
        if "covered" in given:
            found[f"coverage_{100 * LEVEL:g}"] = weights @ given["covered"] / total
            found[f"{task.extent}_{100 * LEVEL:g}"] = _mean(given["extent"], weights)
        if "answered" in given:
            answered = weights @ given["answered"]
            found["answered_at"] = answered / total
            right = weights @ (given["answered"] * given["right"])
            found["accuracy_answered"] = np.divide(right, answered, out=np.full_like(right, np.nan), where=answered > 0)
        return found

    return intervals(measure, columns, seed) if len(columns) > 1 else {}


def _mean(extent: Float[np.ndarray, " n"], weights: Float[np.ndarray, "W n"]) -> Float[np.ndarray, " W"]:
    """Infinite where a region without limits was drawn: too few validation rows vouch for any smaller one."""
    endless = np.isinf(extent)
    mean = weights @ np.where(endless, 0.0, extent) / weights.sum(1)
    return np.where(weights @ endless > 0, np.inf, mean)


def calibration(task: Any, records: Records, kept: Witness | None, seed: int) -> dict[str, Json]:
    """What was fitted, and what it did to these rows: measures before, after, and the difference, with intervals.

    For a task with sets also on how many validation rows they rest, and between which shares coverage is to be
    expected on as many rows as these.
    """
    found: dict[str, Json] = {}
    if isinstance(task, Calibrated):
        before = task.uncalibrated(records)
        found = {
            **task.calibrated(),
            "before": intervals(task.calibration, before, seed),
            "after": intervals(task.calibration, records, seed),
            "difference": paired(task.calibration, records, before, seed),
        }
    if kept is not None and kept.scores is not None:
        rows = len(kept.scores)
        expected = expected_coverage(place(rows, LEVEL), rows, len(records["error"]))
        found["sets"] = {"level": LEVEL, "rows": rows, "expected95": list(expected)}
    return found


def trust_charts(task: Any, name: str, records: Records, rows: np.ndarray, kept: Witness | None,
                 charts: list[Json]) -> list[Json]:  # fmt: skip
    """The task's charts, the one of reliability with its bins before scaling, and coverage and accuracy as curves."""
    drawn = [dict(c) if isinstance(c, dict) else c for c in charts]
    plain = task.uncalibrated(records) if isinstance(task, Calibrated) else records
    if plain is not records:
        before: Any = task
        bins = [c["bins"] for c in before.charts(plain) if c.get("kind") == "reliability"]
        for chart in (c for c in drawn if bins and c.get("kind") == "reliability"):
            chart["before"] = bins[0]
    if isinstance(task, Selective):
        drawn.append({"kind": "selective", "points": selective(*task.certainty(records))})
    if isinstance(task, Bounded) and kept is not None and kept.scores is not None:
        drawn.append({"kind": "coverage", "points": coverage(task, name, records, rows, kept)})
    return drawn


def selective(confidence: np.ndarray, right: np.ndarray, points: int = 50) -> list[Json]:
    """The accuracy among the surest rows, by their share of all."""
    order = np.argsort(-confidence, kind="stable")
    counts = np.unique(np.linspace(1, len(order), min(points, len(order))).round().astype(np.int64))
    pairs = np.stack([counts / len(order), np.cumsum(right[order])[counts - 1] / counts], 1).tolist()
    return [{"answered": share, "accuracy": accuracy} for share, accuracy in pairs]


def coverage(task: Bounded, name: str, records: Records, rows: np.ndarray, kept: Witness) -> list[Json]:
    """At several levels: the measured coverage, and between which shares it was to be expected."""
    assert kept.scores is not None
    found = []
    for level in LEVELS:
        measured = covers(task, name, records, rows, kept, level)["covered"].mean()
        low, high = expected_coverage(place(len(kept.scores), level), len(kept.scores), len(rows))
        found.append({"level": level, "coverage": float(measured), "low": low, "high": high})
    return found
