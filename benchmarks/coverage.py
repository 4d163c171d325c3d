"""How often the intervals of `polymodal compare` hold the truth: `python benchmarks/coverage.py` (a minute).

Two candidates that are equally good, trained with S seeds and scored on the same rows, over and over. A row's score is
what the row is like (both candidates, all seeds), how it suits one candidate (all its seeds), luck of the seed (all
rows), and chance. The difference is 0; counted is how often the 95 % interval holds it, and how often p < 0.05. Beside
it the bootstrap over rows alone, of the mean over seeds: blind to seeds. Writes benchmarks/coverage.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from polymodal.core.contracts import Records
from polymodal.core.seeds import generator
from polymodal.work.compare.bootstrap import Draws, difference

ROWS, DRAWS = 200, 400
SUITS, CHANCE = 0.5, 0.5  # deviations of what suits a candidate, and of chance; a row's own is 1
SEEDS = (1, 2, 3, 5, 10)
LUCK = {"none": 0.0, "as much as rows": 0.05, "four times as much": 0.2}  # deviation over seeds
HEAD = """# Do the intervals of a comparison hold the truth?

`python benchmarks/coverage.py --trials {trials}` wrote this page: in each line {trials} comparisons of two equally
good candidates on {rows} rows, {draws} draws. The luck of a seed stands beside how far the rows move a difference.

| seeds | luck of seeds | interval holds 0 | p < 0.05 | rows alone: interval holds 0 |
| --- | --- | --- | --- | --- |
"""


def mean(records: Records, weights: np.ndarray) -> dict[str, np.ndarray]:
    return {"mean": weights @ records["error"] / weights.sum(1)}


def trial(number: int, seeds: int, luck: float) -> tuple[bool, bool, bool]:
    """Whether the interval holds 0, whether p < 0.05, and whether the interval over rows alone holds 0."""
    rng = generator("coverage", number, seeds, luck)
    rows, draws = rng.normal(0, 1, ROWS), Draws(ROWS, range(seeds), seed=number, draws=DRAWS)

    def candidate() -> dict[int, Records]:
        own = rows + rng.normal(0, SUITS, ROWS)
        return {s: {"error": own + rng.normal(0, luck) + rng.normal(0, CHANCE, ROWS)} for s in range(seeds)}

    one, two = candidate(), candidate()
    found = difference(draws.level(mean, one)["mean"], draws.level(mean, two)["mean"])
    of_rows = [{"error": np.mean([r["error"] for r in some.values()], 0)} for some in (one, two)]
    naive = difference(*(draws.fixed(mean, some)["mean"] for some in of_rows))
    return _holds(found["ci95"]), found["p"] < 0.05, _holds(naive["ci95"])


def _holds(limits: list[float]) -> bool:
    return limits[0] <= 0 <= limits[1]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--trials", type=int, default=1000)
    trials = options.parse_args().trials
    lines = []
    for name, luck in LUCK.items():
        for seeds in SEEDS:
            shares = np.mean([trial(number, seeds, luck) for number in range(trials)], axis=0)
            told = " | ".join(f"{100 * share:.1f} %" for share in shares)
            lines.append(f"| {seeds} | {name} | {told} |")
            print(lines[-1], flush=True)
    page = HEAD.format(trials=trials, rows=ROWS, draws=DRAWS) + "\n".join(lines) + "\n"
    (Path(__file__).with_suffix(".md")).write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
