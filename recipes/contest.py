"""What a plan says of comparing ways of joining, and what is kept of such a comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from polymodal.core.schema import Natural, Positive
from polymodal.work.compare.result import Comparison, ordered, sentences

Found = dict[str, Any]
COSTS = ("parameters", "operations", "rows_per_second", "latency_ms", "seconds", "cpu_seconds")


class Contest:
    """The entry `compare` of a plan: the options of `polymodal.compare`, and which tasks are told of."""

    def __init__(
        self,
        *,
        fusion: Literal["all"] | list[Any] = "all",
        attention: list[Any] | None = None,
        seeds: Positive = 3,
        frozen: bool = False,
        end_to_end: Natural = 3,
        tune: Natural = 0,
        cluster: str | None = None,
        noise: bool = True,
        baselines: Literal["all"] | list[str] = "all",
        tasks: list[str] | None = None,
    ) -> None:
        self.tasks = tasks
        self.options: Found = {
            "fusion": [] if fusion == "all" else fusion, "attention": attention or [], "seeds": seeds, "frozen": frozen,
            "end_to_end": end_to_end, "tune": tune, "cluster": cluster, "noise": noise,
            "baselines": None if baselines == "all" else baselines,
        }  # fmt: skip


def compact(result: Comparison, tasks: list[str] | None = None) -> Found:
    """What the page tells of a comparison, without the lists that only a report has room for."""
    found = result.found
    kept = {key: found[key] for key in ("split", "seeds", "frozen", "tuned", "cluster", "inputs", "ledger")}
    chosen = found["tasks"] if tasks is None else {name: found["tasks"][name] for name in tasks}
    return kept | {
        "failed": {name: _first_line(why, result.folder) for name, why in found["failed"].items()},
        "trials": {name: _cost(trial, found["tuned"]) for name, trial in found["trials"].items()},
        "tasks": {name: _task(one) for name, one in chosen.items()},
    }


def _first_line(why: str, folder: Path) -> str:
    return why.strip().partition("\n")[0].replace(str(folder), "OUT")


def _cost(trial: Found, tuned: int) -> Found:
    return {name: trial[name] for name in ("kind", *COSTS, *(("lr", "width") if tuned else ()))}


def _task(one: Found) -> Found:
    """Each candidate's main measure and what it is tested against; of the best what its inputs are worth.

    How it and late fusion hold out: the scores at every level, and both robustnesses.
    """
    best, main, lines = one["best"], one["measure"], one["candidates"]
    own = lines[best] if best else {}
    shown = dict.fromkeys(n for n in (best, own.get("robustness", {}).get("expected")) if n)
    names = ("measure", "lower", "rows", "clusters", "best", "best_single", "reference", "simple", "end_to_end")
    return {name: one[name] for name in names} | {
        "sentences": sentences(one),
        "candidates": [
            {"name": n, "valid": line["valid"], **line["measures"][main], "against": line.get("against", {})}
            for n, line in ((n, lines[n]) for n in ordered(one))
        ],
        "contribution": own.get("contribution", {}),
        "interaction": own.get("interaction", []),
        "robustness": {n: {kind: {i: _curve(c) for i, c in lines[n]["robustness"][kind].items()}
                           for kind in ("missing", "noise")} for n in shown},
    }  # fmt: skip


def _curve(curve: Found) -> Found:
    scores = {str(level): score["value"] for level, score in zip(curve["levels"], curve["scores"], strict=True)}
    return {"scores": scores, "relative": curve["relative"]["value"], "effective": curve["effective"]["value"]}
