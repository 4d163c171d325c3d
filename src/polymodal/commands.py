"""What each command of the command line does. Results go to standard output, everything else to standard error."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from typing import Any

from polymodal.core.errors import UserError
from polymodal.core.schema import Json, Parameter, describe, settable


def demo(options: Namespace) -> None:
    from polymodal.demo import run_demo

    run_demo(options.out, **({"rows": options.rows} if options.rows else {}))


def scenes(options: Namespace) -> None:
    from polymodal.api import make_scenes

    table = make_scenes(options.out, rows=options.rows, size=options.size, seed=options.seed, language=options.language)
    print(f"{table}: {options.rows} rows; look at them with `polymodal check {table}`", file=sys.stderr)


def check(options: Namespace) -> int:
    from polymodal.api import check as look

    if options.table is None and options.spec is None:
        raise UserError("check", "needs a table, a spec, or both", advice="polymodal check rows.csv --spec spec.yaml")
    found = look(options.table, spec=options.spec)
    print(_one_line(found.json()) if options.json else found)
    return 0


def train(options: Namespace) -> None:
    from pathlib import Path

    from polymodal import api
    from polymodal.core import spec as specs
    from polymodal.core.errors import SpecError

    stored = Path(options.out) / "spec.yaml"
    if options.spec is None and not (options.resume and stored.is_file()):
        raise SpecError("SPEC", "is needed", advice="polymodal train spec.yaml --out run")
    plan = specs.load(options.spec or stored, options.set)
    run = api.train(spec=plan, out=options.out, resume=options.resume, quiet=options.quiet)
    if not options.quiet and run.runtime.main:
        for name, found in run.metrics.items():
            print(f"{name}\n{measures(found)}", file=sys.stderr)
        print(f"report: {run.folder / 'report.html'}", file=sys.stderr)


def evaluate(options: Namespace) -> None:
    from pathlib import Path

    from polymodal.api import load

    found = load(options.run, trust=options.trust).evaluate(
        options.table, withheld=not options.no_withheld, quiet=options.quiet
    )
    if options.report:
        from polymodal.work.report import write_report

        Path(options.report).mkdir(parents=True, exist_ok=True)
        print(f"report: {write_report(Path(options.report), {'table': found})}", file=sys.stderr)
    plain = found.json()
    print(_one_line(plain) if options.json else measures(plain))


def predict(options: Namespace) -> None:
    from polymodal.api import load

    run = load(options.run, trust=options.trust)
    rows = run.predict(options.table, out=options.out, keep=options.keep, on_bad=options.on_bad, quiet=options.quiet)
    print(f"{options.out}: {rows} rows", file=sys.stderr)


def parts(options: Namespace) -> None:
    from polymodal.core import catalog

    kinds = catalog.kinds()
    if options.kind is not None and options.kind not in kinds:
        from polymodal.core.errors import suggest

        raise UserError("parts", "no parts of this kind", given=options.kind, advice=suggest(options.kind, kinds))
    found = {kind: _describe(kind) for kind in ([options.kind] if options.kind else kinds)}
    if options.json:
        print(_one_line(found))
        return
    for kind, listed in found.items():
        print(kind)
        for name, part in listed.items():
            print(f"  {name:<15} {part['about']}")
            for setting, form in part["settings"].items():
                default = "" if form["needed"] else f" = {form['default']}"
                print(f"      {setting}: {form['type']}{default}")


def _describe(kind: str) -> dict[str, Any]:
    """Every part of a kind: the first line of its docstring, and what can be set."""
    from polymodal.core import catalog

    found = {}
    for name in catalog.names(kind):
        try:
            cls = catalog.load(kind, name, kind)
        except UserError as error:
            found[name] = {"about": f"(not available: {str(error).splitlines()[0]})", "settings": {}}
            continue
        settings = {n: _form(p) for n, p in settable(cls).items()}
        found[name] = {"about": (cls.__doc__ or " ").strip().splitlines()[0], "settings": settings}
    return found


def _form(p: Parameter) -> dict[str, Any]:
    return {"type": describe(p.annotation), "needed": p.required, "default": None if p.required else repr(p.default)}


def _one_line(plain: Json) -> str:
    """JSON that standard output can take: letters as they are in UTF-8, as escapes elsewhere."""
    return json.dumps(plain, ensure_ascii=not (sys.stdout.encoding or "").lower().startswith("utf"), allow_nan=False)


def measures(plain: dict[str, Any]) -> str:
    """Measures as aligned text: value, 95 % interval, and each input withheld."""
    lines = [f"  {plain['rows']} rows"]
    for task, found in plain["tasks"].items():
        for name, m in found.items():
            blind = "".join(
                f"   without {i}: {_number(w['tasks'][task][name]['value'])}"
                for i, w in plain.get("withheld", {}).items()
            )
            low, high = m["ci95"] or (None, None)
            lines.append(f"  {task}.{name:<20} {_number(m['value'])}  [{_number(low)}, {_number(high)}]{blind}")
    if plain["ledger"]:
        lines.append(f"  ledger: {plain['ledger']}")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "   n/a" if value is None else f"{value:6.4g}" if abs(value) < 1000 else f"{value:,.0f}"
