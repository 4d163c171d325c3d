"""What a comparison found, for people: sentences, a table, plain JSON, and a page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from polymodal.core import html
from polymodal.core.schema import Json
from polymodal.work import folder as folders
from polymodal.work.beside import limits, signed
from polymodal.work.words import interval, measure, written

PAGE = "compare.json"
COSTS = ["parameters", "operations", "rows/s", "ms/row"]


@dataclass(repr=False)
class Comparison:
    """`folder` holds all runs, `found` is what `compare.json` has; `best(task)` is the run folder to go on with."""

    folder: Path
    found: dict[str, Json]

    @classmethod
    def read(cls, folder: Path) -> Comparison:
        return cls(folder, folders.read_json(folder / PAGE))

    def json(self) -> dict[str, Json]:
        return self.found

    def best(self, task: str | None = None) -> Path:
        """The run folder, of the first seed, of the candidate that validation rows chose."""
        one = self.found["tasks"][task] if task else next(iter(self.found["tasks"].values()))
        trial = self.found["trials"][one["best"] or one["best_single"]]
        return self.folder / "trials" / (one["best"] or one["best_single"]) / f"seed-{trial['seeds'][0]}"

    def __repr__(self) -> str:
        return self.text()

    def text(self) -> str:
        """Per task what was found in words, then a line for each candidate, the best on validation rows first."""
        lines = []
        for name, one in self.found["tasks"].items():
            lines += [f"{name}: {self._head(one)}", *(f"  {s}" for s in sentences(one)), ""]
            head, rows = table(self.found, one)
            widths = [max(len(r[i]) for r in [head, *rows]) for i in range(len(head))]
            lines += ["  " + "  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip()
                      for r in [head, *rows]] + [""]  # fmt: skip
        lines += [f"failed: {name}: {why.splitlines()[0]}" for name, why in self.found["failed"].items()]
        return "\n".join(lines).rstrip()

    def _head(self, one: dict[str, Json]) -> str:
        rows = f"{one['rows']:,} rows of {self.found['split']}"
        rows += f" in {one['clusters']:,} clusters by {self.found['cluster']}" if self.found["cluster"] else ""
        return f"{measure(one['measure']).name} on {rows}, seeds {', '.join(map(str, self.found['seeds']))}"

    def _repr_html_(self) -> str:
        parts = []
        for name, one in self.found["tasks"].items():
            head, rows = table(self.found, one)
            parts += [html.title(name, self._head(one)), html.lines(sentences(one)), html.grid(head, rows)]
        return html.frame(*parts)


def ordered(one: dict[str, Json]) -> list[str]:
    """The candidates of a task, the best on validation rows first; simple models last, by their score."""
    sign = 1.0 if one["lower"] else -1.0

    def place(name: str) -> tuple[bool, float]:
        line = one["candidates"][name]
        value = line["valid"] if line["valid"] is not None else line["measures"][one["measure"]]["value"]
        return name in one["simple"], float("inf") if value is None else sign * value

    return sorted(one["candidates"], key=place)


def rivals(one: dict[str, Json]) -> dict[str, str]:
    """What every candidate is tested against, by the key of `against`."""
    return {key: one[name] for key, name in (("reference", "reference"), ("single", "best_single")) if one[name]}


def table(found: dict[str, Json], one: dict[str, Json]) -> tuple[list[str], list[list[str]]]:
    """Heads and cells of plain text: score, differences, costs."""
    main = one["measure"]
    head = ["", "valid", found["split"], "95 %"]
    for rival in rivals(one).values():
        head += [f"minus {rival}", "95 %", "p, Holm"]
    rows = []
    for name in ordered(one):
        line = one["candidates"][name]
        own = line["measures"][main]
        cells = [name, written(line["valid"], main), written(own["value"], main), interval(own, main)]
        for key in rivals(one):
            gap = line.get("against", {}).get(key)
            cells += ["", "", ""] if gap is None else [signed(gap["value"], main), limits(gap, main),
                                                       p_words(gap["holm"])]  # fmt: skip
        rows.append([*cells, *costs(found["trials"].get(name, {}))])
    return [*head, *COSTS], rows


def costs(trial: dict[str, Json]) -> list[str]:
    """What a candidate costs, as `COSTS` heads it; nothing for a simple model."""
    latency = trial.get("latency_ms")
    counted = [_count(trial.get(name)) for name in ("parameters", "operations", "rows_per_second")]
    return [*counted, "" if latency is None else f"{latency:.2f}"]


def sentences(one: dict[str, Json]) -> list[str]:
    """What was found, in words; where joining does not help, that is said."""
    main, best, single = one["measure"], one["best"], one["best_single"]
    told = []
    if best is not None:
        told.append(f"Of the ways of joining, validation rows chose {best}: {_score(one, best)}.")
    if best is not None and single is not None:
        gap = one["candidates"][best]["against"]["single"]
        told.append(f"The best input alone is {single.removeprefix('only ')}: {_score(one, single)}. "
                    f"{best} minus it: {signed(gap['value'], main)} ({limits(gap, main)}): "
                    f"{_verdict(gap, one['lower'])}.")  # fmt: skip
    if one["simple"]:
        top = next(n for n in ordered(one) if n in one["simple"])
        told.append(f"The best simple model is {top}: {_score(one, top)}.")
    if best is not None:
        told += _inputs(one, best)
    if one["end_to_end"] is not None:
        tau = one["end_to_end"]["kendall"]
        told.append(f"Trained end to end, {len(one['end_to_end']['pairs'])} of the candidates keep their frozen order "
                    f"with Kendall's tau {written(tau['value'])} ({limits(tau, '')}).")  # fmt: skip
    return told


def _score(one: dict[str, Json], name: str) -> str:
    found = one["candidates"][name]["measures"][one["measure"]]
    return f"{written(found['value'], one['measure'])} ({interval(found, one['measure'])})"


def _verdict(gap: dict[str, Json], lower: bool) -> str:
    low, high = gap["ci95"]
    if low is None or low <= 0 <= high:
        return "these rows and seeds do not tell the two apart, so joining may not help"
    return "joining helps" if (high < 0) == lower else "joining makes it worse"


def _inputs(one: dict[str, Json], best: str) -> list[str]:
    """What each input is worth to the best candidate, and each pair."""
    line, main = one["candidates"][best], one["measure"]
    sign = -1.0 if one["lower"] else 1.0
    parts = [f"{i} {signed(sign * v['shapley']['value'], main)}" for i, v in line["contribution"].items()
             if v["shapley"]["value"] is not None]  # fmt: skip
    told = [f"What the inputs contribute to {best} (Shapley values): {', '.join(parts)}."] if parts else []
    for pair in line["interaction"]:
        low, high = pair["ci95"]
        if low is not None and not low <= 0 <= high:
            more = "more together than one by one" if low > 0 else "in part the same"
            told.append(f"{' and '.join(pair['inputs'])} say {more}: {signed(sign * pair['value'], main)} "
                        f"({limits({**pair, 'ci95': sorted(sign * v for v in pair['ci95'])}, main)}).")  # fmt: skip
    return told


def p_words(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}" if value >= 0.001 else "<0.001"


def _count(value: int | float | None) -> str:
    if value is None:
        return ""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.0f}"
