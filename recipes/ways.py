"""How a comparison of ways of joining stands on the page; `contest.compact` says what is known of it."""

from __future__ import annotations

from typing import Any

from cells import interval, number, table

Found = dict[str, Any]
COSTS = {"parameters": "parameters", "operations": "operations", "rows_per_second": "rows/s", "latency_ms": "ms/row"}


def on_ways(found: Found) -> list[str]:
    """For each task what was found in words, every candidate, and what the best one owes to its inputs."""
    lines = []
    for name, one in found["tasks"].items():
        lines += [f"{name}: {_rows(found, one)}", ""]
        lines += [*(f"- {sentence}" for sentence in one["sentences"]), ""]
        lines += [*_candidates(found, f"{name}.{one['measure']}", one), *_worth(one), *_robustness(one)]
    lines += [f"Failed: {name}: {why}" for name, why in found["failed"].items()]
    return [*lines, ""] if found["failed"] else lines


def _rows(found: Found, one: Found) -> str:
    """On which rows, with which seeds, and what was trained."""
    rows = f"{one['rows']} {found['split']} rows" + (
        f" in {one['clusters']} clusters by `{found['cluster']}`" if found["cluster"] else "")  # fmt: skip
    seeds = ", ".join(map(str, found["seeds"]))
    how = "encoders trained once for each input alone, then frozen" if found["frozen"] else "all of it trained"
    tuned = f", settings by {found['tuned']} tries each" if found["tuned"] else ""
    ledger = f"Ledger: {found['ledger'] or 'empty'}."
    sure = "Intervals are of 95 %, over seeds and rows; p is corrected for the number of ways, but not in brackets"
    return f"{rows}; seeds {seeds}; {how}{tuned}. {sure}. {ledger}"


def _candidates(found: Found, measure: str, one: Found) -> list[str]:
    """A line for each, the best on validation rows first, simple models last."""
    rivals = {key: one[name] for key, name in (("reference", "reference"), ("single", "best_single")) if one[name]}
    heads = [measure, "validation", found["split"]]
    for rival in rivals.values():
        heads += [f"minus {rival}", "p (Holm)"]
    rows = []
    for line in one["candidates"]:
        cells = [line["name"], number(line["valid"]), interval(line)]
        for key in rivals:
            gap = line["against"].get(key)
            cells += ["", ""] if gap is None else [interval(gap, sign="+"), _chance(gap)]
        trial = found["trials"].get(line["name"], {})
        rows.append([*cells, *(_count(trial.get(cost)) for cost in COSTS)])
    return [*table([*heads, *COSTS.values()], rows), ""]


def _chance(gap: Found) -> str:
    """Corrected for the number of ways of joining; of what is none of them as it is, in brackets."""
    if gap["holm"] is not None:
        return f"{gap['holm']:.3f}"
    return "" if gap["p"] is None else f"({gap['p']:.3f})"


def _worth(one: Found) -> list[str]:
    """What the inputs contribute to the best way of joining; positive is better for every measure."""
    rows = [[i, interval(w["shapley"], sign="+"), interval(w["shuffled"], sign="+")]
            for i, w in one["contribution"].items()]  # fmt: skip
    rows += [[" and ".join(p["inputs"]) + ", beyond both", interval(p, sign="+"), ""] for p in one["interaction"]]
    return [*table([f"worth to {one['best']}", "Shapley value", "lost by shuffling"], rows), ""] if rows else []


def _robustness(one: Found) -> list[str]:
    """Scores of the best way of joining and of late fusion, the more noise or missing cells an input has."""
    rows, levels = [], []
    for name, kinds in one["robustness"].items():
        for kind, curves in kinds.items():
            for i, curve in curves.items():
                levels = list(curve["scores"])
                cells = [number(curve["scores"][level]) for level in levels]
                rows.append([name, f"{i}, {kind}", *cells, number(curve["relative"]), number(curve["effective"], "+")])
    heads = ["robustness", "level", *levels, "relative", "effective"]
    return [*table(heads, rows), ""] if rows else []


def _count(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
