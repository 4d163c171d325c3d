"""The page of a comparison: one HTML file that needs no network and runs nothing."""

from __future__ import annotations

from pathlib import Path

from polymodal.core.schema import Json
from polymodal.work import plots
from polymodal.work.beside import signed
from polymodal.work.compare.result import COSTS, Comparison, costs, ordered, p_words, rivals, sentences
from polymodal.work.folder import write_bytes
from polymodal.work.report import read_text, templates
from polymodal.work.words import written

SHOWN = 6  # candidates whose contributions and robustness are listed; all of them stand in compare.json


def write_page(result: Comparison) -> Path:
    """Write `report.html` beside `compare.json` and return its path."""
    made = templates()
    made.filters["p"] = p_words
    page = made.get_template("compare.html").render(gather(result))
    place = result.folder / "report.html"
    write_bytes(place, page.encode("utf-8", "replace"))
    return place


def gather(result: Comparison) -> dict[str, Json]:
    """All that the page shows."""
    found = result.found
    return {
        "title": result.folder.resolve().name,
        "found": found,
        "tasks": [_task(found, name, one) for name, one in found["tasks"].items()],
        "spec": read_text(result.folder / "spec.yaml"),
    }


def _task(found: dict[str, Json], name: str, one: dict[str, Json]) -> dict[str, Json]:
    best, joined = one["best"], [n for n in ordered(one) if "contribution" in one["candidates"][n]][:SHOWN]
    return {
        "name": name,
        "measure": one["measure"],
        "rows": one["rows"],
        "clusters": one["clusters"],
        "sentences": sentences(one),
        "lines": [
            {"name": n, "place": place, **_line(found, one, n)}
            for n, place in zip(ordered(one), _places(one), strict=True)
        ],
        "best": best,
        "rivals": list(rivals(one).values()),
        "costs": COSTS,
        "contributions": [_contributions(one, n) for n in joined],
        "interactions": [(n, pair) for n in joined for pair in one["candidates"][n]["interaction"]],
        "curves": _curves(one, found["inputs"]),
        "robustness": _robustness(one, joined, found["inputs"]),
        "end_to_end": one["end_to_end"],
    }


def _line(found: dict[str, Json], one: dict[str, Json], name: str) -> dict[str, Json]:
    """A candidate's score, its differences from the two rivals, its costs."""
    line, trial = one["candidates"][name], found["trials"].get(name, {})
    against = line.get("against", {})
    return {
        "valid": line["valid"],
        "score": line["measures"][one["measure"]],
        "against": [against.get(key) for key in rivals(one)],
        "costs": costs(trial),
    }


def _places(one: dict[str, Json]) -> list[dict[str, float] | None]:
    """Where each candidate's score and interval lie, in per cent of the widest among those that were trained."""
    spans = [one["candidates"][n]["measures"][one["measure"]] for n in ordered(one)]
    trained = [s for n, s in zip(ordered(one), spans, strict=True) if n not in one["simple"]]
    ends = [v for s in trained for v in (s["value"], *s["ci95"]) if v is not None]
    low, width = min(ends, default=0.0), (max(ends, default=1.0) - min(ends, default=0.0)) or 1.0

    def at(value: float) -> float:
        return min(100.0, max(0.0, 100 * (value - low) / width))

    return [
        None if None in (s["value"], *s["ci95"]) else
        {k: at(v) for k, v in zip(("value", "low", "high"), (s["value"], *s["ci95"]), strict=True)}
        for s in spans
    ]  # fmt: skip


def _contributions(one: dict[str, Json], name: str) -> dict[str, Json]:
    """A candidate's inputs as bars: Shapley value, and what shuffling costs."""
    line, main = one["candidates"][name]["contribution"], one["measure"]
    most = max((abs(v["shapley"]["value"] or 0.0) for v in line.values()), default=0.0) or 1.0
    sign = -1.0 if one["lower"] else 1.0

    def told(value: dict[str, Json]) -> str:
        return "–" if value["value"] is None else signed(sign * value["value"], main)

    return {"name": name, "bars": [
        {"input": i, "share": 100 * max(0.0, v["shapley"]["value"] or 0.0) / most, "shapley": told(v["shapley"]),
         "shuffled": told(v["shuffled"])} for i, v in line.items()]}  # fmt: skip


def _curves(one: dict[str, Json], inputs: list[str]) -> list[dict[str, Json]]:
    """The best candidate's score over levels of noise and of missing cells, beside what late fusion's fall predicts."""
    best = one["best"]
    own = one["candidates"][best]["robustness"] if best else {}
    expected = own.get("expected")
    drawn = []
    for i in inputs:
        for kind in ("noise", "missing"):
            names = [n for n in dict.fromkeys((best, expected)) if n and i in own.get(kind, {})]
            lines = [one["candidates"][n]["robustness"][kind][i] for n in names]
            if lines:
                drawn.append({"input": i, "kind": kind, "names": names, "svg": plots.levels(
                    [list(zip(line["levels"], line["scores"], strict=True)) for line in lines])})  # fmt: skip
    return drawn


def _robustness(one: dict[str, Json], names: list[str], inputs: list[str]) -> dict[str, Json]:
    """Relative and effective robustness of some candidates, a column for each input and kind."""
    columns = [(i, kind) for i in inputs for kind in ("noise", "missing")
               if names and i in one["candidates"][names[0]]["robustness"][kind]]  # fmt: skip
    rows = []
    for name in names:
        own = one["candidates"][name]["robustness"]
        cells = []
        for i, kind in columns:
            relative, effective = (own[kind].get(i, {}).get(k) for k in ("relative", "effective"))
            cells.append(("–", "") if not relative else (
                written(relative["value"], one["measure"]),
                f"{_raw(effective['value'], one['measure'])}" if name != own["expected"] else ""))  # fmt: skip
        rows.append((name, cells))
    expected = one["candidates"][names[0]]["robustness"]["expected"] if names else None
    return {"columns": columns, "rows": rows, "expected": expected}


def _raw(value: float | None, main: str) -> str:
    """Effective robustness: positive is better for every measure."""
    return (
        "–" if value is None else f"{100 * value:+.1f} points" if written(1.0, main).endswith("%") else f"{value:+.3g}"
    )
