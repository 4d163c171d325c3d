"""Polymodal beside AutoGluon Multimodal, Ludwig and a plain PyTorch loop on the same rows, in one go.

    python benchmarks/rivals.py --peers PEERS --venvs VENVS --data DATA --out OUT

PEERS holds the other tools' scripts (`plain_loop.py`, `automm.py`, `ludwig_run.py`), VENVS their environments (`ag`,
`lw`), DATA the tables. Every run is a process of its own, one after the other; runs already in OUT are kept, so a
broken-off benchmark goes on where it was. Writes benchmarks/rivals.md and benchmarks/rivals.json; what is measured and
what differs between the tools is said in benchmarks/rivals/README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
Result = dict[str, Any]


class Table(NamedTuple):
    """A table, its flags, and for how many epochs it is trained."""

    folder: str
    flags: dict[str, str]
    epochs: int


class Tool(NamedTuple):
    """Who is measured: the environment (None: this one), the script, its own flags, the name in the table."""

    venv: str | None
    script: str
    flags: tuple[str, ...]
    title: str


TABLES = {
    "ham": Table("ham10000_subset", {"image": "image", "numeric": "age", "category": "sex,localization",
                                     "target": "dx", "split-column": "split", "test": "val"}, 3),
    "mvsa": Table("mvsa_single", {"image": "image", "text": "text", "target": "label", "split-column": "fold",
                                  "test": "0"}, 1),
    "houses": Table("houses", {"image": "frontal,bedroom,bathroom,kitchen", "numeric": "bedrooms,bathrooms,area",
                               "category": "zipcode", "target": "price", "task": "regress", "split-column": "fold",
                               "test": "0"}, 5),
}  # fmt: skip
TOOLS = {  # in this order: each of the others has a run of Polymodal beside it
    "plain": Tool("ag", "plain_loop.py", (), "plain PyTorch loop"),
    "equal": Tool(None, "polymodal_run.py", ("--settings", "equal"), "Polymodal, equal settings"),
    "automm": Tool("ag", "automm.py", (), "AutoGluon Multimodal"),
    "own": Tool(None, "polymodal_run.py", ("--settings", "own"), "Polymodal, own settings"),
    "ludwig": Tool("lw", "ludwig_run.py", ("--image-encoder", "resnet18"), "Ludwig, its ResNet-18"),
}
RATIOS = (("equal", "plain"), ("own", "plain"), ("own", "automm"), ("own", "ludwig"))
SCORES = {"classify": ("accuracy", "macro_f1"), "regress": ("rmse", "r2")}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--peers", "--venvs", "--data", "--out"):
        parser.add_argument(name, type=lambda text: Path(text).resolve(), required=True)
    parser.add_argument("--tables", default=",".join(TABLES), help="of: %(default)s")
    parser.add_argument("--tools", default=",".join(TOOLS), help="of: %(default)s")
    parser.add_argument("--repeat", type=int, default=1, help="runs of each, with seeds 0, 1, ...")
    parser.add_argument("--epochs", type=int, help="instead of each table's own number; for a trial")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--timeout", type=int, default=3600, help="seconds that one run may take")
    parser.add_argument("--report", type=Path, default=HERE / "rivals.md", help="the page; a .json is written beside")
    args = parser.parse_args()
    for name, known in (("tables", TABLES), ("tools", TOOLS)):
        setattr(args, name, [one for one in getattr(args, name).split(",") if one])
        unknown = set(getattr(args, name)) - set(known)
        if unknown:
            parser.error(f"--{name}: {', '.join(sorted(unknown))} is none of {', '.join(known)}")
    return args


def plan(args: argparse.Namespace) -> Iterator[tuple[str, str, int]]:
    """(table, tool, seed) of every run, in order; with each repetition the tools change direction."""
    for table in args.tables:
        for seed in range(args.repeat):
            order = [name for name in TOOLS if name in args.tools]
            yield from ((table, tool, seed) for tool in (reversed(order) if seed % 2 else order))


def command(args: argparse.Namespace, table: str, tool: str, seed: int, out: Path) -> list[str]:
    one, who = TABLES[table], TOOLS[tool]
    python = sys.executable if who.venv is None else str(args.venvs / who.venv / "bin" / "python")
    folder = args.data / one.folder
    flags = {"table": folder / "table.csv", "root": folder, **one.flags, "epochs": args.epochs or one.epochs,
             "seed": seed, "threads": args.threads, "size": 64, "out": out}  # fmt: skip
    script = (HERE / "rivals" if who.venv is None else args.peers) / who.script
    return [python, str(script), *who.flags, *(text for k, v in flags.items() for text in (f"--{k}", str(v)))]


def run(args: argparse.Namespace, table: str, tool: str, seed: int) -> None:
    """One run in a process of its own, unless its result is there already."""
    out = args.out / f"{table}-{tool}-{seed}.json"
    if out.is_file():
        return
    load = os.getloadavg()[0]
    print(f"{time.strftime('%T')}  {out.stem}  (load {load:.2f})", flush=True)
    quiet = {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": str(args.threads), "PYTHONDONTWRITEBYTECODE": "1"}
    fresh, began = out.with_suffix(".new"), time.time()
    with open(out.with_suffix(".log"), "w") as log:
        try:
            code = subprocess.run(command(args, table, tool, seed, fresh), env={**os.environ, **quiet}, cwd=args.out,
                                  stdout=log, stderr=subprocess.STDOUT, timeout=args.timeout).returncode  # fmt: skip
        except subprocess.TimeoutExpired:
            code = -1
    if code or not fresh.is_file():
        print(f"          failed, see {out.with_suffix('.log')}", flush=True)
        return
    result = json.loads(fresh.read_text()) | {"began": round(began, 1), "rival": tool, "of": table}
    fresh.write_text(json.dumps(result, indent=1) + "\n")
    os.replace(fresh, out)


def ratios(results: Iterable[Result], table: str, ours: str, theirs: str, field: str) -> list[float]:
    """Ours over theirs, for every run of ours with the run of theirs of the same table that began nearest to it."""
    runs = [r for r in results if r["of"] == table]
    rivals = [r for r in runs if r["rival"] == theirs]
    pairs = ((r, min(rivals, key=lambda o: abs(o["began"] - r["began"]))) for r in runs if r["rival"] == ours)
    return [r[field] / o[field] for r, o in pairs] if rivals else []


def spread(values: list[float], digits: int = 2) -> str:
    """The median, and the smallest and largest where there are several."""
    if not values:
        return ""
    shown = f"{median(values):.{digits}f}"
    return shown if len(values) == 1 else f"{shown} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def page(results: list[Result], called: str) -> str:
    """The report as Markdown."""
    lines = ["# Polymodal beside other tools", "", f"    {called}", "",
             "What is measured, what is the same and what differs: [rivals/README.md](rivals/README.md). Times say "
             "nothing without their rival from the same hour on the same machine: look at the ratios first.", "",
             "## Ratios", "", *_ratio_table(results)]  # fmt: skip
    for name in dict.fromkeys(r["of"] for r in results):
        lines += ["", f"## {TABLES[name].folder}", "", *_run_table([r for r in results if r["of"] == name])]
    versions = {k: v for r in results for k, v in r["versions"].items() if k in ("polymodal", "ludwig")}
    versions |= {k: v for r in results for k, v in r["versions"].items() if k == "autogluon.multimodal"}
    machine = f"{results[0]['cores']} cores, {results[0]['threads']} threads, {results[0]['date']}"
    said = ", ".join(f"{k} {v}" for k, v in sorted(versions.items()))
    return "\n".join([*lines, "", f"{machine}; {said}.", ""])


def _ratio_table(results: list[Result]) -> list[str]:
    """Seconds of training of one over those of another."""
    names = list(dict.fromkeys(r["of"] for r in results))
    rows = ["| training to a saved model | " + " | ".join(f"{TABLES[n].folder}, {kind}" for n in names
                                                           for kind in ("wall", "CPU")) + " |"]  # fmt: skip
    rows.append("|---" * (2 * len(names) + 1) + "|")
    for ours, theirs in RATIOS:
        cells = [spread(ratios(results, n, ours, theirs, f)) for n in names for f in ("fit_s", "fit_cpu_s")]
        if any(cells):
            rows.append(f"| {TOOLS[ours].title} / {TOOLS[theirs].title} | {' | '.join(cells)} |")
    return rows


def _run_table(results: list[Result]) -> list[str]:
    measures = SCORES[results[0]["task"]]
    timed = ("import_s", "fit_s", "fit_cpu_s", "whole_s", "rows_per_s", "predict_rows_per_s", "peak_mb")
    names = ["tool", "epochs", "seed", *measures, *timed, "load", "stolen %"]
    rows = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    order = list(TOOLS)
    for r in sorted(results, key=lambda r: (order.index(r["rival"]), r["seed"])):
        load = " to ".join(str(one) for one in r["load_before_after"])
        cells = [TOOLS[r["rival"]].title, r["epochs"], r["seed"], *(r.get(n, "") for n in (*measures, *timed))]
        rows.append("| " + " | ".join(str(c) for c in [*cells, load, r["stolen_percent"]]) + " |")
    return rows


def collect(folder: Path) -> list[Result]:
    """All results of a folder, in the order in which they were made."""
    found = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    return sorted((r for r in found if "rival" in r), key=lambda r: r["began"])


def main() -> None:
    args = parse()
    args.out.mkdir(parents=True, exist_ok=True)
    for table, tool, seed in plan(args):
        run(args, table, tool, seed)
    wanted = {(t, tool, seed) for t, tool, seed in plan(args)}
    results = [r for r in collect(args.out) if (r["of"], r["rival"], r["seed"]) in wanted]
    if not results:
        sys.exit("no run has ended well")
    flags = f"--tables {','.join(args.tables)} --tools {','.join(args.tools)} --repeat {args.repeat}"
    called = f"python benchmarks/rivals.py --peers PEERS --venvs VENVS --data DATA --out OUT {flags}"
    text = page(results, called + (f" --epochs {args.epochs}" if args.epochs else ""))
    args.report.write_text(text)
    args.report.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    print(text)
    if len(results) < len(wanted):
        sys.exit(f"{len(wanted) - len(results)} of {len(wanted)} runs are missing")


if __name__ == "__main__":
    main()
