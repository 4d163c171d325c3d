"""RESULTS.md from the numbers in results/*.json."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from cells import interval, mean, number, table
from ways import on_ways

HEAD = "# Results\n\nEvery section is written by the command it shows; scores are on test rows, which chose nothing.\n"
WHOLE = "whole"
Found = dict[str, Any]


def write_page(folder: Path) -> Path:
    """Write `folder`/RESULTS.md; a section of it whose recipe has no results stays as it is."""
    page = folder / "RESULTS.md"
    text = page.read_text(encoding="utf-8") if page.is_file() else HEAD
    parts = {m.group(1): m.group(0).strip() for m in re.finditer(r"^## (\w+)\n.*?(?=^## |\Z)", text, re.M | re.S)}
    for path in sorted((folder / "results").glob("*.json")):
        parts[path.stem] = section(json.loads(path.read_text(encoding="utf-8"))).strip()
    page.write_text(HEAD + "\n" + "\n\n".join(parts[n] for n in sorted(parts)) + "\n", encoding="utf-8")
    return page


def section(found: Found) -> str:
    """One recipe's part of the page."""
    lines = [f"## {found['recipe']}", "", found["about"], "", f"    {found['command']}", ""]
    if found.get("test", {}).get("models"):
        lines += on_test(found["test"], found["measures"])
    if found.get("leave_out", {}).get("models"):
        lines += on_groups(found["leave_out"], found["measures"])
    if "also" in found:
        lines += on_more(found["also"])
    if "compare" in found:
        lines += [*on_ways(found["compare"]), *spent({"comparison": found["compare"]})]
    missing = [f"Not run yet: {', '.join(found['missing'])}.", ""] if found["missing"] else []
    return "\n".join([*lines, *missing, *machines(found["machines"])])


def on_test(found: Found, chosen: list[str]) -> list[str]:
    """A training per seed, scored on the test rows: every measure of the whole, then the whole beside the others."""
    runs = found["models"].get(WHOLE, {})
    lines = []
    if runs:
        tests = [run["test"] for run in runs.values()]
        blind = list(tests[0].get("withheld", {}))
        heads = ["task.measure", "mean over seeds", *(f"seed {s}" for s in runs), *(f"without {i}" for i in blind)]
        rows = []
        for task, name in measures(tests[0]["tasks"], chosen):
            own = [t["tasks"][task].get(name, {"value": None}) for t in tests]
            gone = [[value(t["withheld"][i]["tasks"], task, name) for t in tests] for i in blind]
            rows.append([f"{task}.{name}", mean(m["value"] for m in own), *map(interval, own), *map(mean, gone)])
        lines += [
            f"{tests[0]['rows']} test rows. Ledger: {tests[0]['ledger'] or 'empty'}.",
            "",
            *table(heads, rows),
            "",
        ]
        lines += looking({seed: run["test"] for seed, run in runs.items()})
        lines += calibration(tests, "mean over seeds")
    others = {n: {s: r["test"]["tasks"] for s, r in m.items()} for n, m in found["models"].items()}
    simple = found.get("baselines", {}).get("models", {})
    beside = {n: list(m.values()) for n, m in others.items()} | {
        f"baseline {n}": [m["tasks"]] for n, m in simple.items()
    }
    lines += compared(beside, chosen, "mean over seeds")
    gains = {f"{n}, seed {s}": r["gain"] for n, m in found["models"].items() for s, r in m.items() if "gain" in r}
    times = {f"{n}, seed {s}": r for n, m in found["models"].items() for s, r in m.items()}
    return [*lines, *gained(gains, chosen), *spent(times | fitted(found))]


def on_more(found: Found) -> list[str]:
    """What the recipe's own module measured of its runs besides: a line for each, a column for each run."""
    runs = {f"{name}, seed {seed}": run["found"] for name, seeds in found.items() for seed, run in seeds.items()}
    names = dict.fromkeys(name for run in runs.values() for name in run)
    rows = [[name, *(interval(run.get(name, {"value": None})) for run in runs.values())] for name in names]
    return [*table(["measured besides", *runs], rows), ""]


def on_groups(found: Found, chosen: list[str]) -> list[str]:
    """Every group of rows scored by a training without it."""
    column, whole = found["column"], found["models"].get(WHOLE)
    lines = []
    if whole:
        drawn = f"95 % intervals by a bootstrap over {whole['resampled']}"
        lines += [f"Each of {len(whole['groups'])} groups by `{column}` scored by a training without it: "
                  f"{whole['rows']} rows, all together with {drawn}; the rest are means over groups.", ""]  # fmt: skip
        blind = list(whole.get("withheld", {}))
        heads = ["task.measure", "all rows", "mean over groups", "std", "lowest", "highest"]
        rows = []
        for task, name in measures(whole["mean"], chosen):
            over, pooled = whole["mean"][task][name], whole["tasks"][task].get(name, {"value": None})
            gone = [number(value(whole["withheld"][i]["tasks"], task, name)) for i in blind]
            cells = [number(over[key]) for key in ("value", "std", "min", "max")]
            rows.append([f"{task}.{name}", interval(pooled), *cells, *gone])
        lines += [*table([*heads, *(f"without {i}" for i in blind)], rows), ""]
        lines += groups(column, whole["groups"], chosen)
        lines += calibration(list(whole["groups"].values()), "mean over groups")
    simple = found.get("baselines", {}).get("models", {})
    beside = {n: [m["mean"]] for n, m in found["models"].items()} | {
        f"baseline {n}": [m["mean"]] for n, m in simple.items()
    }
    lines += compared(beside, chosen, "mean over groups")
    gains = {n: m["gain"] for n, m in found["models"].items() if "gain" in m}
    return [*lines, *gained(gains, chosen), *spent(found["models"] | fitted(found))]


def groups(column: str, found: Found, chosen: list[str]) -> list[str]:
    """Each group's own scores in the main measures."""
    wanted = shown(next(iter(found.values()))["tasks"], chosen)
    rows = [
        [", ".join(g["values"]), str(g["rows"]), *(interval(g["tasks"][t][m]) for t, m in wanted)]
        for g in found.values()
    ]
    return [*table([column, "rows", *(f"{t}.{m}" for t, m in wanted)], rows), ""]


def compared(models: dict[str, list[Found]], chosen: list[str], over: str) -> list[str]:
    """The whole beside variants, single inputs and baselines, in the main measures; each model's tasks, per seed."""
    if len(models) < 2:
        return []
    wanted = shown(next(iter(models.values()))[0], chosen)
    rows = [[name, *(mean(value(t, task, m) for t in tasks) for task, m in wanted)]
            for name, tasks in models.items()]  # fmt: skip
    return [*table([f"model ({over})", *(f"{t}.{m}" for t, m in wanted)], rows), ""]


def gained(gains: dict[str, Found], chosen: list[str]) -> list[str]:
    """The paired differences between the whole and each other model."""
    if not gains:
        return []
    wanted = shown(next(iter(gains.values())), chosen)
    rows = [[name, *(interval(g[task][m], sign="+") for task, m in wanted)] for name, g in gains.items()]
    heads = ["whole less ...", *(f"{t}.{m}" for t, m in wanted)]
    return ["Differences on the same rows, with paired 95 % intervals:", "", *table(heads, rows), ""]


def looking(tests: dict[str, Found]) -> list[str]:
    """Of tasks that answer questions, by seed, whether anything but the question is looked at."""
    told = [f"- {task}, seed {seed}: {one['text']}." for seed, test in tests.items()
            for task, one in test.get("question", {}).items()]  # fmt: skip
    return [*told, ""] if told else []


def calibration(tests: list[Found], over: str) -> list[str]:
    """What scaling by a temperature did to the whole, where its tasks are scaled; means over seeds or groups."""
    rows = []
    for task in tests[0].get("calibration", {}):
        told = [t["calibration"][task] for t in tests if "before" in t.get("calibration", {}).get(task, {})]
        for name in told[0]["before"] if told else []:
            ends = [mean(t[when][name]["value"] for t in told) for when in ("before", "after", "difference")]
            rows.append([f"{task}.{name}", mean(t["temperature"] for t in told), *ends])
    heads = [f"calibration ({over})", "temperature", "before", "after", "difference"]
    return [*table(heads, rows), ""] if rows else []


def fitted(found: Found) -> dict[str, Found]:
    return {"baselines": found["baselines"]} if "baselines" in found else {}


def spent(parts: dict[str, Found]) -> list[str]:
    """The time of each part; of one that went on after a break only what came then."""
    told = []
    for name, p in parts.items():
        after = ", after a break" if p["broken_off"] else ""
        told.append(f"{name} {p['seconds']:,.0f} s ({p['cpu_seconds']:,.0f} s of CPU{after})")
    return [f"Wall time, reading and scoring included: {'; '.join(told)}.", ""]


def machines(found: list[Found]) -> list[str]:
    """Where the parts were run, a line for each place: a command may go on somewhere else."""
    return [f"Machine: {one['cores']} cores, {one.get('gpu') or 'no GPU'}; torch {one.get('torch', '?')}, "
            f"{one['threads']} threads." for one in found]  # fmt: skip


def measures(tasks: Found, chosen: list[str]) -> list[tuple[str, str]]:
    """Every (task, measure), the chosen measures of each task first."""
    return [(task, m) for task, found in tasks.items() for m in sorted(found, key=lambda m: _place(m, chosen))]


def shown(tasks: Found, chosen: list[str]) -> list[tuple[str, str]]:
    """The chosen measures of the first task, or its first three; the others stand beside it to help it."""
    task, found = next(iter(tasks.items()))
    return [(task, m) for m in ([c for c in chosen if c in found] or list(found)[:3])]


def value(tasks: Found, task: str, name: str) -> float | None:
    return tasks.get(task, {}).get(name, {}).get("value")


def _place(name: str, chosen: list[str]) -> int:
    return chosen.index(name) if name in chosen else len(chosen)
