"""How much finding improves with more pictures: what would close the gap to features of ImageNet.

    python benchmarks/retrieval_data.py --data DATA

Trains the recipes flickr8k_words and then flickr8k_retrieval on a half and a quarter of the training pictures (by lot,
with seed 0; validation and test rows are all there), for as many steps as on all of them: their numbers stand in
recipes/results/flickr8k_retrieval.json. The line through them, recall against the number of doublings, says how many
pictures DeViSE's recalls would need, as far as a line of three points can. Each training is done once; what is there
already is kept. Writes benchmarks/retrieval_data.json and retrieval_data.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc

import polymodal
from polymodal.core import yaml12
from polymodal.core.seeds import generator

HERE = Path(__file__)
RECIPES = HERE.parent.parent / "recipes"
sys.path.insert(0, str(RECIPES))
from flickr8k import prepare  # type: ignore[import-not-found]  # noqa: E402  of recipes/

ALL = 5500
SHARES = (0.25, 0.5)
WAYS = ("picture_to_caption", "caption_to_picture")
NAMES = [f"{way}_recall_{k}" for way in WAYS for k in (1, 5, 10)]
DEVISE = dict(zip(NAMES, (0.048, 0.165, 0.273, 0.059, 0.201, 0.296), strict=True))  # Frome et al. 2013, on these rows
Plain = dict[str, Any]


def some(table: pa.Table, share: float) -> pa.Table:
    """The table with so many of its training rows."""
    split = np.array(table["split"].to_pylist())
    rows = np.flatnonzero(split == "train")
    kept = generator(0, "retrieval_data").permutation(rows)[: round(share * len(rows))]
    return table.take(np.sort(np.concatenate([kept, np.flatnonzero(split != "train")])))


def recipe(name: str, table: Path, share: float) -> Plain:
    """The spec of a recipe for this table, with as many steps as it has for all pictures."""
    plain: Plain = yaml12.loads((RECIPES / f"{name}.yaml").read_text(encoding="utf-8"), name)
    train = {**plain["train"], "epochs": round(plain["train"]["epochs"] / share)}
    return {**plain, "data": {**plain["data"], "train": str(table)}, "train": train}


def trained(spec: Plain, folder: Path) -> polymodal.Run:
    return polymodal.load(folder) if (folder / "run.json").is_file() else polymodal.train(spec=spec, out=folder)


def measure(data: Path, folder: Path, share: float) -> Plain:
    """Both trainings on a share of the pictures; the test rows' recalls."""
    folder = folder / f"{share:g}"
    prepare(data, folder)
    table = folder / "some.csv"
    pc.write_csv(some(pc.read_csv(folder / "flickr8k" / "table.csv"), share), table)
    trained(recipe("flickr8k_words", table, share), folder / "words")
    spec = recipe("flickr8k_retrieval", table, share)
    spec["inputs"]["picture"]["encoder"]["from"] = str(folder / "words")
    run = trained(spec, folder / "retrieval")
    return {"pictures": round(share * ALL), **recalls(json.loads((run.folder / "metrics.json").read_text()))}


def recalls(metrics: Plain) -> Plain:
    found = metrics["test"]["tasks"]["find"]
    return {name: found[name] for name in ("mean_recall", *NAMES)}


def whole() -> Plain:
    found = json.loads((RECIPES / "results" / "flickr8k_retrieval.json").read_text(encoding="utf-8"))
    return {"pictures": ALL, **recalls(found["test"]["models"]["whole"]["0"])}


def needed(points: list[Plain], name: str, wanted: float) -> tuple[float, float]:
    """Gain with every doubling, and the number of pictures at which the line is at `wanted`."""
    doublings = np.log2([one["pictures"] / ALL for one in points])
    gain, here = np.polyfit(doublings, [one[name]["value"] for one in points], 1)
    return float(gain), float(ALL * 2 ** ((wanted - here) / gain))


def page(points: list[Plain]) -> str:
    wanted = {"mean_recall": float(np.mean(list(DEVISE.values()))), **DEVISE}
    lines = ["# Finding by pictures seen", "", "    python benchmarks/retrieval_data.py --data DATA", "",
             "`flickr8k_retrieval`, from random weights, by the number of training pictures; as many steps each. 1,000 "
             "test pictures, 5,000 captions, one seed. DeViSE (Frome et al. 2013) as published, with features of "
             "ImageNet's 1.2 million labelled pictures. The last columns: what a doubling of the pictures adds, by a "
             "line through these points, and where that line meets DeViSE's number.", ""]  # fmt: skip
    heads = [f"{one['pictures']:,}" for one in points]
    lines += ["| recall | " + " | ".join(heads) + " | DeViSE | a doubling | pictures needed |",
              "| --- " * (4 + len(points)) + "|"]  # fmt: skip
    for name, aim in wanted.items():
        gain, count = needed(points, name, aim)
        cells = [f"{100 * one[name]['value']:.1f}" for one in points]
        least = f"{count:,.0f}" if count > ALL else "reached"
        lines.append(f"| {name} | {' | '.join(cells)} | {100 * aim:.1f} | {100 * gain:+.1f} | {least} |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds the data sets")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "polymodal-retrieval-data")
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES)
    options = parser.parse_args()
    for share in options.shares:
        found = measure(options.data, options.folder, share)
        out = HERE.with_suffix(".json")
        kept = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {}
        kept[str(found["pictures"])] = found
        out.write_text(json.dumps(dict(sorted(kept.items(), key=lambda one: int(one[0]))), indent=1) + "\n")
        text = page([*json.loads(out.read_text(encoding="utf-8")).values(), whole()])
        HERE.with_suffix(".md").write_text(text, encoding="utf-8")
        print(text)


if __name__ == "__main__":
    main()
