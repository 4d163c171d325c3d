"""What attentions and fusions cost, T and D doubled four times: `python benchmarks/cost.py`. Writes cost.md, cost.json.

A forward and backward pass of every part of `cost_claims.py` in fp32 with one thread: CPU seconds, the peak of live
tensors, and how both grow, beside the growth that the docstring states. Ends with 1 when one grows faster than stated.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from cost_claims import CLAIMS, Claim
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from polymodal.core import catalog
from polymodal.core.streams import Stream
from polymodal.work.memory import kept

INPUTS, ROWS = 2, 8
LENGTHS = WIDTHS = (64, 128, 256, 512, 1024)
FIXED = {"T": 64, "D": 32}  # D while T grows, T while D grows
UPPER = 3  # so many of the sizes, the largest, say how a cost grows
NOISE = 0.25  # a time's exponent may be so much above the stated one
SAMPLE = 0.01  # CPU seconds that one measurement takes at least


def part_of(kind: str, name: str) -> type:
    return catalog.load(kind, name.partition("-")[0], kind)


def build(kind: str, name: str, inputs: int, width: int) -> nn.Module:
    """The part with the settings of its claim, ready to train."""
    wired = {"kind": "class", "size": width} if kind == "decision" else {"width": width}
    names = tuple(f"input {i}" for i in range(inputs))
    return part_of(kind, name)(inputs=names, **wired, **CLAIMS[kind][name].settings).train()


def given(kind: str, inputs: int, length: int, width: int, rows: int) -> list[Any]:
    """What the part is called with: noise in every place, and gradients wanted back to it."""
    g = torch.Generator().manual_seed(0)
    if kind == "decision":
        scores = torch.randn(rows, inputs, width, generator=g).log_softmax(2).requires_grad_()
        return [scores, torch.ones(rows, inputs, dtype=torch.bool)]
    mask = torch.ones(rows, length, dtype=torch.bool)
    return [{f"input {i}": Stream(torch.randn(rows, length, width, generator=g).requires_grad_(), mask)
             for i in range(inputs)}]  # fmt: skip


def step(part: nn.Module, args: list[Any]) -> None:
    """Forward, the sum of all that comes out, and backward; gradients are dropped."""
    leaves = [x for x in tree_leaves(part(*args)) if isinstance(x, Tensor) and x.requires_grad]
    torch.stack([x.sum() for x in leaves]).sum().backward()
    for x in (*part.parameters(), *tree_leaves(args)):
        x.grad = None


def multiplications(kind: str, name: str, inputs: int, length: int, width: int, rows: int) -> int:
    """Of a forward pass, those in products of matrices, as torch counts them (two operations for each)."""
    part, args = build(kind, name, inputs, width), given(kind, inputs, length, width, rows)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        part(*args)
    return counter.get_total_flops() // 2


class Live(TorchDispatchMode):
    """Bytes of the tensors that operations made and that are still alive, and the most there were at any moment.

    A storage counts from the operation that made it until nothing refers to it, neither Python nor the autograd graph;
    views add nothing, and what was there before (parameters, inputs) does not count.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        before = {id(x.untyped_storage()) for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        out = func(*args, **kwargs)
        for storage in (x.untyped_storage() for x in tree_leaves(out) if isinstance(x, Tensor)):
            if id(storage) not in before | self.known:
                self.known.add(id(storage))
                self.live += storage.nbytes()
                weakref.finalize(storage, self._gone, id(storage), storage.nbytes())
        self.peak = max(self.peak, self.live)
        return out

    def _gone(self, number: int, size: int) -> None:
        self.known.discard(number)
        self.live -= size


def peak(run: Callable[[], None]) -> int:
    """Bytes of tensors that live at the same time while it runs, at the most."""
    with Live() as mode:
        run()
    return mode.peak


def slope(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The exponent k of cost ~ size^k, by least squares over the logarithms."""
    x, y = [math.log(s) for s in sizes], [math.log(c) for c in costs]
    mean_x, mean_y = statistics.fmean(x), statistics.fmean(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)


def sizes_of(kind: str, axis: str, lengths: Sequence[int], widths: Sequence[int]) -> list[tuple[int, int]]:
    """(T, D) for one axis; a decision sees K scores, which stand in the place of D, and no tokens."""
    if axis == "T":
        return [] if kind == "decision" else [(t, FIXED["T"]) for t in lengths]
    return [(FIXED["D"], d) for d in widths]


def measure(kind: str, name: str, rounds: int, lengths: Sequence[int], widths: Sequence[int]) -> dict[str, Any]:
    """Costs of one part for all sizes; in every round each size has its turn, so that noise meets all of them."""
    axes = {axis: sizes_of(kind, axis, lengths, widths) for axis in "TD"}
    steps, repeats, peaks = {}, {}, {}
    for size in dict.fromkeys(size for sizes in axes.values() for size in sizes):
        part, args = build(kind, name, INPUTS, size[1]), given(kind, INPUTS, *size, ROWS)
        steps[size] = lambda part=part, args=args: step(part, args)
        steps[size]()  # the first time is not like the others
        peaks[size] = peak(steps[size])
        repeats[size] = max(1, math.ceil(SAMPLE / max(seconds(steps[size], 1), 1e-6)))
    times: dict[tuple[int, int], list[float]] = {size: [] for size in steps}
    for _ in range(rounds):
        for size, run in steps.items():
            times[size].append(seconds(run, repeats[size]))
    claim, found = CLAIMS[kind][name], {}
    for axis, sizes in axes.items():
        if sizes:
            found[axis] = growth(claim, axis, sizes, [times[s] for s in sizes], [peaks[s] for s in sizes])
    return {"kind": kind, "name": name, "settings": claim.settings, **found}


def seconds(run: Callable[[], None], repeats: int) -> float:
    """CPU seconds of one of `repeats` runs."""
    began = time.process_time()
    for _ in range(repeats):
        run()
    return (time.process_time() - began) / repeats


def growth(claim: Claim, axis: str, sizes: list[tuple[int, int]], times: list[list[float]], peaks: list[int]) -> dict:
    """Measured and stated exponents along one axis, and what they were taken from."""
    along = [t if axis == "T" else d for t, d in sizes]
    stated, parameters = (claim.degree(f, axis, INPUTS, *sizes[0]) for f in ("operations", "parameters"))
    per_round = [slope(along[-UPPER:], costs) for costs in zip(*times[-UPPER:], strict=True)]
    return {
        "sizes": along, "times_s": times, "peaks_bytes": peaks,
        "multiplications": [claim.count("operations", INPUTS, *s) for s in sizes],
        "parameters": [claim.count("parameters", INPUTS, *s) for s in sizes],
        "stated": stated, "time": statistics.median(per_round), "time_least": min(per_round),
        "time_most": max(per_round), "memory": slope(along[-UPPER:], peaks[-UPPER:]),
        "allowed_time": max(stated, 1.0), "allowed_memory": max(stated, parameters, 1.0),
    }  # fmt: skip


def worse(result: dict[str, Any]) -> list[str]:
    """What grows faster than stated."""
    found = []
    for axis in (a for a in "TD" if a in result):
        one = result[axis]
        for what, more in (("time", NOISE), ("memory", 0.05)):
            if one[what] > one[f"allowed_{what}"] + more:
                found.append(f"{result['name']}: {what} grows with {axis}^{one[what]:.2f}, stated {one['stated']:.2f}")
    return found


def table(results: list[dict[str, Any]], axis: str) -> list[str]:
    """One row for each part: stated and measured exponents, and the largest size beside `concat`."""
    plain = next((r[axis] for r in results if (r["kind"], r["name"]) == ("fusion", "concat")), None)
    size = f"{axis} = {max(r[axis]['sizes'][-1] for r in results)}"
    heads = ["part", "stated", "time", "memory", f"operations at {size}", "parameters", "time / `concat`",
             "memory / `concat`"]  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    for result in results:
        one = result[axis]
        beside = ["", ""]
        if plain is not None and result["kind"] != "decision":
            ratios = [a / b for a, b in zip(one["times_s"][-1], plain["times_s"][-1], strict=True)]
            beside = [f"{statistics.median(ratios):.1f}", f"{one['peaks_bytes'][-1] / plain['peaks_bytes'][-1]:.1f}"]
        name = f"{result['kind']} `{result['name']}`"
        spread = f"{one['time']:.2f} ({one['time_least']:.2f} to {one['time_most']:.2f})"
        counts = f"{one['multiplications'][-1]:,.0f} | {one['parameters'][-1]:,.0f}"
        lines.append(
            f"| {name} | {one['stated']:.2f} | {spread} | {one['memory']:.2f} | {counts} | {' | '.join(beside)} |"
        )
    return lines


def page(results: list[dict[str, Any]], skipped: list[str], command: str, about: str) -> str:
    """The page in Markdown."""
    bad = [line for result in results for line in worse(result)]
    lengths, widths = ([r for r in results if axis in r] for axis in "TD")
    said = "No part is worse than its docstring." if not bad else "Worse than stated: " + "; ".join(bad) + "."
    lines = ["# Cost of attentions and fusions", "", f"    {command}", "", said, about, "", NOTES]
    lines += [f"## T doubled, D = {FIXED['T']}", "", *table(lengths, "T"), ""] if lengths else []
    lines += [f"## D doubled, T = {FIXED['D']}", "", *table(widths, "D"), ""]
    lines += [f"Not measured, without a claim: {', '.join(skipped)}.", ""] if skipped else []
    return "\n".join(lines)


NOTES = f"""\
A forward and backward pass in fp32 of {ROWS} rows of {INPUTS} inputs, T tokens each, all real, of D features. For a
decision, which joins the inputs' own answers, D is the number K of scores. *Stated* is the power of T or D with which
the docstring's operations grow in the end; *time* (CPU seconds; median of the rounds, least to most) and *memory* are
the least-squares slopes in logarithms over the largest {UPPER} sizes. What a pass costs whatever the size makes slopes
smaller; noise and caches move those of time, which may be {NOISE} above what is stated. Summing the outputs and the
gradients to the inputs are measured with every part and are linear, so a slope of 1 is allowed to all; memory may also
grow as the parameters do, whose gradients it holds.

Memory is the peak of live bytes: a dispatch mode adds a storage when an operation makes it, and takes it off when the
last reference to it is gone, in Python or in the autograd graph; parameters, inputs, and what an operation takes and
frees inside itself do not count. Operations are those stated for one row and a forward pass; `tests/test_cost.py` finds
as many as torch counts. The last two columns are ratios to `concat` at the same size in this run.
"""


def machine() -> str:
    load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    return (f"torch {torch.__version__}, 1 thread of {os.cpu_count()} cores, load {load} at the end: other work on the "
            "machine is in these numbers.")  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", help="names of parts, such as graph or co-parallel")
    parser.add_argument("--doublings", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    lengths, widths = (sizes[: args.doublings + 1] for sizes in (LENGTHS, WIDTHS))
    claims = [(kind, name) for kind, parts in CLAIMS.items() for name in parts if not args.only or name in args.only]
    results = []
    with kept():
        for kind, name in claims:
            results.append(measure(kind, name, args.rounds, lengths, widths))
            print(kind, name, *(f"{a}^{results[-1][a]['time']:.2f}" for a in "TD" if a in results[-1]), file=sys.stderr)
    skipped = [f"{kind} `{n}`" for kind, parts in CLAIMS.items() for n in catalog.names(kind) if n not in parts]
    command = " ".join(["python benchmarks/cost.py", *(arguments if arguments is not None else sys.argv[1:])])
    args.out.write_text(page(results, [] if args.only else skipped, command, machine()), encoding="utf-8")
    lines = ",\n".join(json.dumps(result) for result in results)
    args.out.with_suffix(".json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    bad = [line for result in results for line in worse(result)]
    print(*bad, sep="\n", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
