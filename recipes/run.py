"""Run a recipe and write down what came out: `python recipes/run.py mnist_cnn --data DATA`.

A recipe is a spec, NAME.yaml, and what to do with it, its entry in plans.yaml: trainings with several seeds, leaving
out one group of rows after the other, variants, single inputs, simple baselines, a comparison of ways of joining the
inputs. Validation chooses the epoch; test rows are scored once per training. The numbers go to results/NAME.json after
every training, and from there to RESULTS.md; nothing is written by hand.

Run folders are kept in --out, by default under the system's folder for temporary files. A command that was broken off
goes on from there; delete the folder to begin again.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path

from page import write_page
from recipe import STEPS, Found, Plan, Recipe

from polymodal.core import yaml12
from polymodal.core.errors import Stopped, UserError
from polymodal.core.schema import check_settings
from polymodal.work import folder as folders

HERE = Path(__file__).parent


def run(recipe: Recipe, steps: Collection[str], report: Callable[[Found], None]) -> None:
    """The parts of these steps are run unless they were before; `report` is told all that is known after each."""
    parts = list(recipe.parts())
    found: Found = {"recipe": recipe.name, "measures": recipe.plan.measures, "machines": []}
    for way, wanted in (("test", recipe.plan.seeds), ("leave_out", recipe.plan.leave_out)):
        found |= {way: {"models": {}}} if wanted else {}
    if recipe.plan.leave_out:
        found["leave_out"]["column"] = recipe.plan.leave_out
    left = [part.name for part in parts]
    for part in parts:
        if part.done or part.step in steps:
            if not part.ready:
                raise UserError(part.name, "is compared with the whole recipe", advice="--steps seeds first, or all")
            told, where = part.found()
            _put(found, part.path, told)
            found["machines"] += [where] if where not in found["machines"] else []
            left.remove(part.name)
            report(found | {"missing": left})


def _put(found: Found, path: tuple[str, ...], value: Found) -> None:
    for step in path[:-1]:
        found = found.setdefault(step, {})
    found[path[-1]] = value


def main(arguments: list[str] | None = None, place: Path = HERE) -> int:
    """Exit codes as those of `polymodal`. `place` is the folder of plans.yaml and the specs."""
    plans = yaml12.loads((place / "plans.yaml").read_text(encoding="utf-8"), "plans.yaml")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", choices=sorted(plans))
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds the data sets")
    parser.add_argument("--seeds", type=int, nargs="*", help="instead of the plan's")
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "polymodal-recipes",
                        help="folder for the runs (default: %(default)s)")  # fmt: skip
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS, help="do only these of the plan's")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c", help="change the spec (repeatable)")
    parser.add_argument("--results", type=Path, default=place, help="where results/ and RESULTS.md are written")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes that train in a comparison (1)")
    parser.add_argument("--quiet", action="store_true")
    options = parser.parse_args(arguments)
    try:
        _main(options, plans, place)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except (Stopped, KeyboardInterrupt) as error:
        print(f"{error or 'stopped'}\nthe same command goes on from there", file=sys.stderr)
        return 130
    return 0


def _main(options: argparse.Namespace, plans: Found, place: Path) -> None:
    name, out = options.recipe, options.out / options.recipe
    plan = Plan(**check_settings(Plan, plans[name] or {}, f"plans.{name}"))
    plan.seeds = plan.seeds if options.seeds is None else options.seeds
    if plan.first:
        _main(argparse.Namespace(**(vars(options) | {"recipe": plan.first, "seeds": None, "set": []})), plans, place)
    print(f"the runs are kept in {out}", file=sys.stderr)
    data = importlib.import_module(name).prepare(options.data, out / "data") if plan.prepare else options.data
    command = [f"python recipes/run.py {name} --data DATA", *(f"--set '{change}'" for change in options.set)]
    if options.seeds is not None:
        command.insert(1, " ".join(["--seeds", *map(str, options.seeds)]))

    def report(found: Found) -> None:
        told = {"command": " ".join(command), "about": about(place / f"{name}.yaml")}
        folders.write_json(options.results / "results" / f"{name}.json", told | found)
        write_page(options.results)

    run(Recipe(name, plan, place, data, out, options.set, options.quiet, options.jobs), options.steps, report)
    print(f"{options.results / 'RESULTS.md'} has the results", file=sys.stderr)


def about(path: Path) -> str:
    """The comment that a recipe begins with."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
