"""What a comparison of many fusions costs on frozen encoders, beside one training that encodes every batch.

    python benchmarks/frozen_compare.py SPEC --out OUT [--set a.b=c]

SPEC names its rows. First every input is trained alone; these trainings, which bring the encoders, are not counted.
Then twelve fusions are trained and measured on frozen encoders whose features are kept, and, in a comparison of its
own, concat with `features_mb: 0`, which encodes every batch anew: the same model, the same rows, the same epochs. A
training is counted from the building of the model to its sealed folder; measuring (contributions, noise) is counted
besides. Writes benchmarks/frozen_compare.json and .md, a line for each spec.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import polymodal
from polymodal.core import spec as specs
from polymodal.work.compare.result import Comparison
from polymodal.work.runtime import environment

HERE = Path(__file__).parent
TWELVE = ["concat", "sum", "max", "weighted", "transform", "gated", "film", "tensor", "low_rank", "bilinear",
          "attention_pool", "mixture"]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[])
    given = parser.parse_args()
    found = {"spec": given.spec.name, **measure(given.spec, given.set, given.out), "environment": environment()}
    page = HERE / "frozen_compare.json"
    lines = {one["spec"]: one for one in (json.loads(page.read_text()) if page.is_file() else [])}
    lines[found["spec"]] = found
    page.write_text(json.dumps(list(lines.values()), indent=1, ensure_ascii=False) + "\n")
    (HERE / "frozen_compare.md").write_text(told(list(lines.values())))
    print(json.dumps(found, indent=1))


def measure(spec: Path, changes: list[str], out: Path) -> dict[str, Any]:
    """CPU and wall seconds of twelve cached trainings, and of one that is not cached."""
    ways = {"frozen": True, "seeds": 1, "end_to_end": 0, "baselines": [], "quiet": True}
    kept = polymodal.compare(spec=specs.load(spec, changes), out=out / "kept", fusion=TWELVE, **ways)
    anew = polymodal.compare(spec=specs.load(spec, [*changes, "data.features_mb=0"]), out=out / "anew",
                             fusion=["concat"], **ways)  # fmt: skip
    one, twelve = joined(anew), joined(kept)
    epochs = specs.load(spec, changes).train.epochs
    return {
        "epochs": epochs,
        "failed": kept.found["failed"],
        "fusions": len(twelve),
        "kept": total(twelve),
        "anew": total(one),
    }


def joined(found: Comparison) -> list[dict[str, Any]]:
    return [t for t in found.found["trials"].values() if t["kind"] == "joined"]


def total(trials: list[dict[str, Any]]) -> dict[str, float]:
    names = ("seconds", "cpu_seconds", "measuring_seconds", "measuring_cpu_seconds")
    return {name: round(sum(t[name] for t in trials), 2) for name in names}


def told(lines: list[dict[str, Any]]) -> str:
    head = ["spec", "epochs", "twelve, features kept: CPU s (wall)", "one, encoded anew: CPU s (wall)", "CPU ratio",
            "with measuring"]  # fmt: skip
    text = ["# Many fusions on frozen encoders, beside one training that encodes every batch", "",
            "`python benchmarks/frozen_compare.py SPEC --out OUT` writes this page; it says what is counted.", "",
            f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]  # fmt: skip
    for one in lines:
        kept, anew = one["kept"], one["anew"]
        shown = [f"{v['cpu_seconds']:.1f} ({v['seconds']:.1f})" for v in (kept, anew)]
        ratio = kept["cpu_seconds"] / anew["cpu_seconds"]
        both = [sum(v[n] for n in ("cpu_seconds", "measuring_cpu_seconds")) for v in (kept, anew)]
        cells = [one["spec"], str(one["epochs"]), *shown, f"{ratio:.2f}", f"{both[0] / both[1]:.2f}"]
        text.append(f"| {' | '.join(cells)} |")
    return "\n".join(text) + "\n"


if __name__ == "__main__":
    main()
