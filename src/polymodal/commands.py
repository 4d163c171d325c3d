"""What each command of the command line does. Results go to standard output, everything else to standard error."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from typing import TYPE_CHECKING, Any

from polymodal.core.errors import UserError, shorten
from polymodal.core.schema import Json, Parameter, describe, settable

if TYPE_CHECKING:
    from pathlib import Path

    from polymodal.core.spec import Spec

BESIDE = 4  # inputs up to which what is left without each stands beside every measure
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".gz", "-ubyte")


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
    found = look(options.table, spec=options.spec, target=options.target)
    print(_one_line(found.json()) if options.json else found)
    if options.spec is None and not options.json:
        _show_guess(options)
    return 0


def _show_guess(options: Namespace) -> None:
    """The spec that `train` would guess for a target; without one, how to ask for it."""
    from polymodal.api import draft

    if options.target is None:
        print(f"\nnext: polymodal train {options.table} --target COLUMN --out run")
        return
    guessed = draft(options.table, options.target, preset=options.preset, ignore=options.ignore)
    print(f"\n# what `polymodal train` would make of it\n{guessed.text()}")


def train(options: Namespace) -> None:
    from pathlib import Path

    from polymodal import api
    from polymodal.core import spec as specs
    from polymodal.core.errors import SpecError

    stored, table = Path(options.out) / "spec.yaml", None
    if options.spec is None and not (options.resume and stored.is_file()):
        raise SpecError("SPEC", "is needed", advice="polymodal train spec.yaml --out run, or TABLE --target COLUMN")
    if options.spec is not None and (options.target or _is_table(Path(options.spec))):
        table, plan = options.spec, _guess(options)
    else:
        plan = specs.load(options.spec or stored, options.set + _preset(options))
    run = api.train(table, spec=plan, out=options.out, resume=options.resume, quiet=options.quiet,
                    baselines=options.baselines)  # fmt: skip
    if not options.quiet and run.runtime.main:
        for name, found in run.metrics.items():
            shown = _beside(run) if name == "baselines" else measures(found)
            print(f"{name}\n{shown}", file=sys.stderr)
            _warn(f"{name}: ", found)
        print(f"report: {run.folder / 'report.html'}", file=sys.stderr)


def _beside(run: Any) -> str:
    """The model's main measures and those of simple models."""
    from polymodal.work.beside import ranked, told

    mains = {name: task.metric for name, task in run.assembly.model.tasks.items()}
    return told(ranked(run.metrics, mains))


def _is_table(path: Path) -> bool:
    return path.is_dir() or path.name.lower().endswith(TABLES)


def _preset(options: Namespace) -> list[str]:
    return [f"preset={options.preset}"] if options.preset else []


def _guess(options: Namespace) -> Spec:
    """The spec for a table of which only the target is told."""
    from pathlib import Path

    from polymodal import api
    from polymodal.core.errors import SpecError
    from polymodal.data.tables import open_table
    from polymodal.work.job import refuse_used

    table = open_table(options.spec)
    if Path(options.spec).is_dir() or "-idx" in options.spec:
        options.target = options.target or ["label"]
    if not options.target:
        raise SpecError("--target", "is needed to train on a table", given=options.spec,
                        advice=f"one of its columns: {shorten(table.columns, 300)}")  # fmt: skip
    if not options.resume:
        refuse_used(Path(options.out))
    found = api.draft(table, options.target, preset=options.preset, changes=options.set, ignore=options.ignore)
    if not options.quiet:
        print(found.told(table.name), file=sys.stderr)
    return found.spec


def evaluate(options: Namespace) -> None:
    from pathlib import Path

    from polymodal.api import load

    if options.leave_out is not None:
        return _leave_out(options)
    for flag, given in (("--out", options.out), ("--folds", options.folds), ("--set", options.set)):
        if given:
            raise UserError(flag, "goes with --leave-out", given=given, advice="--leave-out COLUMN")
    if options.table is None:
        raise UserError("TABLE", "is needed", advice="polymodal evaluate run rows.csv")
    if options.cluster and not options.against:
        raise UserError("--cluster", "goes with --against", given=options.cluster, advice="--against RUN2")
    if options.zero_shot:
        return _zero_shot(options)
    rival = load(options.against, trust=options.trust) if options.against else None
    found = load(options.run, trust=options.trust).evaluate(
        options.table, withheld=not options.no_withheld, abstain=options.abstain, clip=options.clip,
        against=rival, cluster=options.cluster, quiet=options.quiet,
    )  # fmt: skip
    if options.report:
        from polymodal.work.report import write_report

        Path(options.report).mkdir(parents=True, exist_ok=True)
        print(f"report: {write_report(Path(options.report), {'table': found})}", file=sys.stderr)
    plain = found.json()
    print(_one_line(plain) if options.json else measures(plain))
    if found.compared is not None and not options.json:
        print(found.compared.text())
    _warn("", plain)


def _zero_shot(options: Namespace) -> None:
    """`predict` or `evaluate` by classes that are named here."""
    from polymodal.api import load
    from polymodal.work.zero_shot import read_classes

    given = {"classes": read_classes(options.zero_shot), "templates": options.template or ["{}"],
             "input": options.input, "by": options.by, "quiet": options.quiet}  # fmt: skip
    run = load(options.run, trust=options.trust)
    if options.command == "predict":
        rows = run.zero_shot(options.table, out=options.out, keep=options.keep, **given)
        print(f"{options.out}: {rows} rows", file=sys.stderr)
        return
    if options.target is None:
        raise UserError("--target", "is needed: the column with the classes", advice="--target COLUMN")
    found: Any = run.zero_shot(options.table, target=options.target, **given)
    plain = found.json()
    print(_one_line(plain) if options.json else measures(plain))
    _warn("", plain)


def _warn(split: str, plain: dict[str, Any]) -> None:
    """What speaks against believing the measures, on standard error."""
    for warning in plain.get("warnings", []):
        print(f"warning: {split}{warning['text']}", file=sys.stderr)


def _leave_out(options: Namespace) -> None:
    from pathlib import Path

    from polymodal import api

    if options.out is None:
        raise UserError("--out", "is needed with --leave-out", advice="--out folder")
    spec = api.plan_of(options.run, options.set, trust=options.trust)
    found = api.leave_out(
        options.table, spec=spec, column=options.leave_out, out=options.out, folds=options.folds, quiet=options.quiet
    )
    print(_one_line(found.json()) if options.json else found.text().rstrip())
    print(f"report: {Path(options.out) / 'report.html'}", file=sys.stderr)


def drift(options: Namespace) -> int:
    from polymodal.api import load

    if not 0 < options.level < 1:
        raise UserError("--level", "must lie between 0 and 1", given=options.level, advice="0.05")
    if options.rows is not None and options.rows < 1:
        raise UserError("--rows", "must be 1 or more", given=options.rows, advice="leave it out")
    run = load(options.run, trust=options.trust)
    found = run.drift(options.table, against=options.against, rows=options.rows, level=options.level,
                      quiet=options.quiet)  # fmt: skip
    print(_one_line(found.json()) if options.json else found.text())
    if options.report:
        print(f"report: {found.write(options.report)}", file=sys.stderr)
    return 3 if options.fail_on_drift and found.drifted else 0


def predict(options: Namespace) -> None:
    from polymodal.api import load
    from polymodal.core import spec as specs

    if options.zero_shot:
        return _zero_shot(options)
    run = load(options.run, trust=options.trust)
    rows = run.predict(options.table, out=options.out, keep=options.keep, on_bad=options.on_bad, sets=options.sets,
                       abstain=options.abstain, respond=specs.override({}, options.respond), reasons=options.reasons,
                       quiet=options.quiet)  # fmt: skip
    print(f"{options.out}: {rows} rows", file=sys.stderr)


def histories(options: Namespace) -> None:
    from polymodal import api

    rows = api.histories(options.interactions, options.items, user=options.user, item=options.item, time=options.time,
                         keep=options.keep, least=options.least, valid=_begin(options.valid), test=_begin(options.test),
                         skip_unknown=options.skip_unknown, out=options.out)  # fmt: skip
    print(f"{options.out}: {rows} rows", file=sys.stderr)


def _begin(text: str) -> float | str:
    """A share as a number; a time as it is."""
    try:
        share = float(text)
    except ValueError:
        return text
    return share if 0 <= share < 1 else text


def recommend(options: Namespace) -> None:
    from polymodal.api import load

    run = load(options.run, trust=options.trust)
    found = run.recommend(options.history, options.items, index=options.index, k=options.k, user=options.user,
                          item=options.item, time=options.time, again=options.again, out=options.out,
                          quiet=options.quiet)  # fmt: skip
    if isinstance(found, int):
        print(f"{options.out}: {found} rows", file=sys.stderr)
    else:
        for line in found:
            print(_one_line(line) if options.json else f"{_who(line)}\t{line['item']}\t{line['score']:.4f}")


def _who(line: dict[str, Any]) -> str:
    return f"row {line['row']}" if line["user"] is None else str(line["user"])


def baselines(options: Namespace) -> None:
    from polymodal import api
    from polymodal.core import spec as specs
    from polymodal.work.beside import text

    names = [name.strip() for name in options.only.split(",")] if options.only else None
    found = api.baselines(spec=specs.load(options.spec, options.set), names=names,
                          settings=specs.override({}, options.give), quiet=options.quiet)  # fmt: skip
    print(_one_line({"baselines": {n: e.json() for n, e in found.items()}}) if options.json else text(found))


def compare(options: Namespace) -> None:
    from pathlib import Path

    from polymodal import api
    from polymodal.core import spec as specs

    simple = None if options.baselines is None else _names([] if options.baselines == "none" else [options.baselines])
    found = api.compare(spec=specs.load(options.spec, options.set), out=options.out, fusion=_names(options.fusion),
                        attention=_names(options.attention), seeds=options.seeds, frozen=options.frozen,
                        jobs=options.jobs, tune=options.tune, cluster=options.cluster, noise=not options.no_noise,
                        baselines=simple, end_to_end=options.end_to_end, quiet=options.quiet)  # fmt: skip
    print(_one_line(found.json()) if options.json else found.text())
    print(f"report: {Path(options.out) / 'report.html'}", file=sys.stderr)


def chat(options: Namespace) -> None:
    from polymodal import api

    given = [*options.given, *options.attach]
    manner = {"temperature": options.temperature, "top_p": options.top_p, "max_tokens": options.max_tokens,
              "seed": options.seed}  # fmt: skip
    if options.model is not None:
        talk = api.chat(options.model, **manner)
        given = [*([options.run] if options.run else []), *given]
    elif options.run is None:
        raise UserError("chat", "needs a run or a model", advice="polymodal chat RUN, or --model NAME")
    else:
        talk = api.load(options.run, trust=options.trust).chat(**manner)
    for one in given:
        name, _, what = one.rpartition("=") if options.model is not None else one.partition("=")
        if options.model is None and not what:
            raise UserError("--attach", "needs NAME=WHAT", given=one, advice="photo=cat.jpg")
        talk.attach(what, name or None)
    talk.loop()


def log(options: Namespace) -> None:
    from polymodal.api import log_table

    told = log_table(options.folder, options.out, since=options.since, until=options.until)
    print(f"{options.out}: {told}", file=sys.stderr)


def index(options: Namespace) -> None:
    from polymodal import api
    from polymodal.serve.index import command

    done = command.index(options, lambda: api.load(options.run, trust=options.trust))
    if options.json:
        print(_one_line(done))


def search(options: Namespace) -> None:
    from polymodal import api
    from polymodal.serve.index import command

    found = command.search(options, lambda folder: api.load(folder, trust=options.trust))
    if options.json:
        print(_one_line(found))


def serve(options: Namespace) -> int:
    from polymodal.serve.http.command import serve as run_server

    return run_server(options, _served)


def _served(options: Namespace) -> tuple[Any, Any]:
    """The run, and the index where there is one."""
    from polymodal import api

    run = api.load(options.run, trust=options.trust)
    if options.index is None:
        return run, None
    return run, api.open_index(options.index)


def _names(given: list[str]) -> list[Json]:
    """`a,b` as two names, `{type: a, …}` as a block."""
    from polymodal.core import yaml12

    listed: list[Json] = []
    for text in given:
        block = text.lstrip().startswith("{")
        listed += [yaml12.loads(text, text)] if block else [name.strip() for name in text.split(",") if name.strip()]
    return listed


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
    """Measures as aligned text: value, 95 % interval, and each input withheld (many: for the first measure)."""
    lines = [f"  {plain['rows']} rows"]
    wide = max((len(f"{task}.{name}") for task, found in plain["tasks"].items() for name in found), default=0)
    for task, found in plain["tasks"].items():
        for name, m in found.items():
            blind = [f"without {i}: {_number(w['tasks'][task][name]['value'])}"
                     for i, w in plain.get("withheld", {}).items()]  # fmt: skip
            beside = "".join(f"   {b}" for b in blind) if len(blind) <= BESIDE else ""
            low, high = m["ci95"] or (None, None)
            lines.append(
                f"  {f'{task}.{name}':<{wide}} {_number(m['value'])}  [{_number(low)}, {_number(high)}]{beside}"
            )
            lines += [f"      {b}" for b in blind] if not beside and name == next(iter(found)) else []
    for task, fitted in plain.get("calibration", {}).items():
        if "temperature" in fitted:
            before, after = (_number(fitted[k]["calibration_error"]["value"]).strip() for k in ("before", "after"))
            lines.append(f"  {task}: temperature {fitted['temperature']:.3g}, calibration error {before} -> {after}")
    if plain["ledger"]:
        lines.append(f"  ledger: {plain['ledger']}")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "   n/a" if value is None else f"{value:6.4g}" if abs(value) < 1000 else f"{value:,.0f}"
