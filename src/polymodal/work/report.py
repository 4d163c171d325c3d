"""The report: one HTML file that shows what a model can do, where it fails, and what it was made from."""

from __future__ import annotations

import base64
import binascii
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from polymodal.core.schema import Json
from polymodal.work import looks, plots
from polymodal.work.beside import limits, ranked, signed
from polymodal.work.evaluation import Evaluation, Example, TaskResult
from polymodal.work.folder import write_bytes
from polymodal.work.trust.words import trust_sentences
from polymodal.work.words import change, falls, guessing, interval, main_measure, main_split, measure, written

if TYPE_CHECKING:
    from jinja2 import Environment

NUMBERED = 20  # classes up to which a table of confusions has its numbers written in
LEDGER = 100  # entries that are shown
MEDIA = {
    "image": {b"\xff\xd8\xff": "jpeg", b"\x89PNG": "png", b"GIF8": "gif", b"RIFF": "webp"},
    "audio": {b"RIFF": "wav", b"OggS": "ogg", b"ID3": "mpeg", b"\xff\xfb": "mpeg", b"fLaC": "flac"},
}


def write_report(folder: Path, evaluations: dict[str, Evaluation]) -> Path:
    """Write `report.html` into the run folder and return its path.

    `evaluations` are the measured tables by name (valid, test). From the folder come, where they are there,
    history.jsonl, ledger.jsonl, spec.yaml and environment.json. The page needs no network and no scripts; all text
    from the table, the spec and the file names is escaped.
    """
    page = templates().get_template("report.html").render(gather(folder, evaluations))
    write_bytes(folder / "report.html", page.encode("utf-8", "replace"))
    return folder / "report.html"


def templates() -> Environment:
    """The jinja2 environment of report and card; HTML is escaped, Markdown through the filter `md`."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("polymodal", "work/templates"),
        autoescape=lambda name: name is None or name.endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"written": written, "change": change, "uri": data_uri, "plain": plain, "md": markdown}
    made.globals |= {"measure": measure, "interval": interval, "signed": signed, "limits": limits}
    return made


def gather(folder: Path, evaluations: dict[str, Evaluation]) -> dict[str, Json]:
    """All that the page shows, by section."""
    split = main_split(evaluations)
    main = evaluations[split] if split else Evaluation(0, {})
    history, ledger = read_lines(folder / "history.jsonl"), read_lines(folder / "ledger.jsonl")
    return {
        "title": folder.resolve().name,
        "split": split,
        "rows": {name: e.rows for name, e in evaluations.items()},
        "headline": [headline(name, result) for name, result in main.tasks.items()],
        "training": training(history),
        "curves": curves(history, main),
        "measures": measures(evaluations),
        "splits": list(evaluations),
        "trust": trust_sentences(main),
        "beside": simple_models(folder, main),
        "against": main.compared,
        "withheld": {name: found for name in main.tasks if (found := bars(main, name))},
        "alone": {name: each for name in main.tasks if (each := by_itself(main, name))},
        "question": {name: one["text"] for name, one in main.question.items()},
        "warnings": [(split, w["text"]) for split, e in evaluations.items() for w in e.warnings],
        "charts": {name: [c for c in map(chart, r.charts) if c] for name, r in main.tasks.items()},
        "examples": mistakes(main),
        "looks": looks.plain(main.looks),
        "ledger": {"counts": Counter(e.get("action", "") for e in ledger), "entries": ledger[:LEDGER]},
        "ledger_total": len(ledger),
        "spec": read_text(folder / "spec.yaml"),
        "environment": read_json(folder / "environment.json"),
    }


def headline(name: str, result: TaskResult) -> dict[str, Json]:
    """A task's main measure, with what always giving the most common answer would score."""
    main = main_measure(result)
    found = result.measures[main] if main else {"value": None}
    return {"task": name, "measure": main or "", "found": found, "rows": len(result.rows),
            "guessing": guessing(result, main or "")}  # fmt: skip


def simple_models(folder: Path, main: Evaluation) -> list[dict[str, Json]]:
    """The model's main measures beside those of simple models, where the run was asked for them."""
    return ranked(read_json(folder / "metrics.json"), {name: main_measure(r) for name, r in main.tasks.items()})


def training(history: list[Json]) -> dict[str, Json] | None:
    """Epochs, time and speed of the training; None without a history."""
    if not history:
        return None
    best = [e["epoch"] for e in history if e.get("best")]
    seconds = sum(e.get("seconds") or 0 for e in history)
    speeds = sorted(e["rows_per_second"] for e in history if e.get("rows_per_second"))
    return {
        "epochs": len(history),
        "best": best[-1] if best else None,
        "seconds": seconds,
        "rows_per_second": speeds[len(speeds) // 2] if speeds else None,
    }


def curves(history: list[Json], main: Evaluation) -> list[dict[str, Json]]:
    """Charts over the epochs: the whole loss, then loss and main measure of each task."""
    if not history:
        return []
    best = (training(history) or {})["best"]
    drawn = []
    names = list(dict.fromkeys([*main.tasks, *(n for e in history for n in e.get("train", {}) if n != "loss")]))
    if len(names) != 1:
        drawn.append(("", "loss", series(history, "train", "loss"), series(history, "valid", "loss")))
    for name in names:
        drawn.append((name, "loss", series(history, "train", name), series(history, "valid", f"{name}.loss")))
        found = main_measure(main.tasks[name]) if name in main.tasks else None
        if found:
            drawn.append((name, found, [], series(history, "valid", f"{name}.{found}")))
        drawn.append((name, "weight", series(history, "weights", name), []))
    return [
        {"task": task, "measure": kind, "train": bool(one), "valid": bool(two), "svg": plots.curves([one, two], best)}
        for task, kind, one, two in drawn
        if one or two
    ]


def series(history: list[Json], part: str, name: str) -> list[tuple[float, float]]:
    """(epoch, value) wherever the history has this value."""
    return [(float(e["epoch"]), float(e[part][name])) for e in history if e.get(part, {}).get(name) is not None]


def measures(evaluations: dict[str, Evaluation]) -> list[dict[str, Json]]:
    """A line per task and measure, with what each table gave for it."""
    found = dict.fromkeys((t, m) for e in evaluations.values() for t, r in e.tasks.items() for m in r.measures)
    order = list(dict.fromkeys(t for t, _ in found))
    lines = sorted(found, key=lambda line: order.index(line[0]))  # a table may lack some measures of a task
    return [
        {"task": t, "measure": m,
         "found": [e.tasks[t].measures.get(m) if t in e.tasks else None for e in evaluations.values()]}
        for t, m in lines
    ]  # fmt: skip


def bars(main: Evaluation, task: str) -> list[dict[str, Json]]:
    """`falls`, with the places of bar and whisker in per cent of the widest."""
    found = falls(main.tasks[task].measures, main.withheld, task)
    ends = [v for f in found for v in (f["fall"], f["low"], f["high"]) if v is not None]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    span = (high - low) or 1.0
    place = {id(f): {k: 100 * (f[k] - low) / span for k in ("fall", "low", "high") if f[k] is not None} for f in found}
    return [{**f, "zero": 100 * -low / span, "at": place[id(f)]} for f in found]


def by_itself(main: Evaluation, task: str) -> list[tuple[str, dict[str, Json], str]]:
    """Each input, and the task's first measure with nothing but this input."""
    name = next(iter(main.tasks[task].measures), "")
    each = [(one, tasks.get(task, {}).get(name), name) for one, tasks in main.alone.items()]
    return [(one, measured, name) for one, measured, name in each if measured is not None]


def chart(given: Json) -> dict[str, Json] | None:
    """A task's chart made ready for the page; None for a kind that is not known or has nothing to show."""
    kind = given.get("kind") if isinstance(given, dict) else None
    if kind == "confusion" and given.get("classes"):
        return confusion(given["classes"], given["counts"])
    if kind == "reliability" and given.get("bins"):
        before = given.get("before") or ()
        return {"kind": kind, "svg": plots.reliability(given["bins"], before), "before": bool(before)}
    if kind in ("coverage", "selective") and given.get("points"):
        return {"kind": kind, "svg": {"coverage": plots.coverage, "selective": plots.selective}[kind](given["points"])}
    if kind == "scatter" and given.get("truth"):
        return {"kind": kind, "svg": plots.scatter(given["truth"], given["predicted"], given.get("log", False))}
    if kind == "bars" and given.get("classes"):
        order = sorted(zip(given["classes"], given["counts"], given["values"], strict=True),
                       key=lambda c: (c[2] is None, c[2]))  # fmt: skip
        return {"kind": kind, "measure": given["measure"], "classes": order}
    return None


def confusion(classes: list[Json], counts: list[list[int]]) -> dict[str, Json]:
    """Counts, each row's shares, and the ten most frequent mistakes."""
    shares = [[n / max(1, sum(row)) for n in row] for row in counts]
    wrong = [(n, i, j) for i, row in enumerate(counts) for j, n in enumerate(row) if i != j and n]
    worst = sorted(wrong, key=lambda w: (-w[0], w[1:]))[:10]
    return {
        "kind": "confusion",
        "classes": classes,
        "rows": list(zip(classes, counts, shares, strict=True)),
        "numbered": len(classes) <= NUMBERED,
        "picture": None if len(classes) <= NUMBERED else plots.heatmap(shares),
        "worst": [{"truth": classes[i], "given": classes[j], "count": n} for n, i, j in worst],
        "recall": sorted(((shares[i][i], sum(counts[i]), c) for i, c in enumerate(classes) if sum(counts[i])),
                         key=lambda r: r[:2])[:10],
    }  # fmt: skip


def mistakes(main: Evaluation) -> dict[str, list[Example]]:
    """The examples by task, in the tasks' order."""
    return {name: found for name in main.tasks if (found := [e for e in main.examples if e.task == name])}


def data_uri(encoded: Json, kind: str) -> str | None:
    """Base64 of a picture or sound as a data URI, its type told from its first bytes; None when it is neither."""
    try:
        start = base64.b64decode(encoded, validate=True)[:4]
    except (binascii.Error, ValueError, TypeError):
        return None
    for magic, subtype in MEDIA[kind].items():
        if start.startswith(magic):
            return f"data:{kind}/{subtype};base64,{encoded}"
    return None


def plain(value: Json) -> str:
    """A cell or an answer as text: words as they are, numbers short, lists with commas, nothing as a dash."""
    if isinstance(value, list):
        return ", ".join(map(plain, value)) or "none"
    if isinstance(value, float):
        return f"{value:.5g}"
    return (
        "–" if value is None else str(value) if not isinstance(value, dict) else json.dumps(value, ensure_ascii=False)
    )


def markdown(value: Json) -> str:
    """Text in which nothing works as Markdown or HTML, on one line."""
    text = " ".join(plain(value).split())
    return "".join({"<": "&lt;", ">": "&gt;", "&": "&amp;"}.get(c, f"\\{c}" if c in "\\`*_[]|#!" else c) for c in text)


def read_text(path: Path) -> str:
    return path.read_text("utf-8", "replace") if path.is_file() else ""


def read_json(path: Path) -> dict[str, Json]:
    return json.loads(read_text(path) or "{}")


def read_lines(path: Path) -> list[Json]:
    return [json.loads(line) for line in read_text(path).split("\n") if line.strip()]
