"""How fast sentences are said: `python benchmarks/decoding.py`. Writes decoding.md and decoding.json.

The decoder `transformer` with and without its cache, and with beams for all rows at once and for one row at a time; the
decoder `lm`, a GPT-2, beside `generate` of transformers on the same model. What is compared takes turns in every round.
Ends with 1 when a ratio is smaller than claimed, or when two ways do not say the same.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from torch import Tensor

from polymodal.core.search import Search, decode
from polymodal.core.streams import Stream
from polymodal.decoders.lm import LanguageModel
from polymodal.decoders.transformer import TransformerDecoder
from polymodal.work.memory import kept

WIDTH, LAYERS, HEADS, SIZE, TOKENS, BEAMS, END = 256, 6, 8, 8000, 50, 4, 1
CLAIMS = {"cache": 5.0, "batch": 3.0, "generate": 0.9}
Way = Callable[[], Tensor]  # -> ids [B, longest]


def search(way: Any, longest: int) -> Search:
    """Sentences of just so many tokens: no end before."""
    return Search(way, longest, beams=BEAMS, min_tokens=longest)


def spoken_of(rows: int) -> tuple[Stream, Tensor]:
    """Memories, each of its own length, and start tokens."""
    g = torch.Generator().manual_seed(0)
    mask = torch.arange(TOKENS) < torch.randint(TOKENS // 2, TOKENS + 1, (rows, 1), generator=g)
    return Stream(torch.randn(rows, TOKENS, WIDTH, generator=g) * mask[..., None], mask), torch.full((rows,), SIZE)


def own_ways(rows: int, longest: int) -> dict[str, Way]:
    """The decoder `transformer`: what the first two claims are about."""
    torch.manual_seed(0)
    decoder = TransformerDecoder(width=WIDTH, size=SIZE, starts=1, layers=LAYERS, heads=HEADS).eval()
    memory, start = spoken_of(rows)

    def say(way: str, cached: bool = True) -> Tensor:
        return decode(decoder, memory, start, end=END, search=search(way, longest), cached=cached).ids

    def one_by_one() -> Tensor:
        each = [Stream(*(x[row : row + 1] for x in memory[:2])) for row in range(rows)]
        said = [decode(decoder, one, start[:1], end=END, search=search("beam", longest)).ids for one in each]
        return torch.cat(said)

    return {
        "greedy, cache": lambda: say("greedy"),
        "greedy, no cache": lambda: say("greedy", cached=False),
        "beams, all rows": lambda: say("beam"),
        "beams, one row at a time": one_by_one,
    }


def lm_ways(rows: int, longest: int) -> dict[str, Way]:
    """The decoder `lm` and `generate` on its GPT-2, given the same prefix and start token as vectors."""
    shape = {"n_embd": WIDTH, "n_layer": LAYERS, "n_head": HEADS, "n_positions": 256}
    chosen: Any = {"name": "gpt2", "pretrained": False, "config": shape, "prefix": "linear"}
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        LanguageModel.wants(chosen, Path(folder))
        decoder = LanguageModel(width=WIDTH, size=SIZE, starts=1, files=Path(folder), **chosen).eval()
    memory, start = spoken_of(rows)

    def ours(way: str) -> Tensor:
        return decode(decoder, memory, start, end=END, search=search(way, longest)).ids

    def theirs(beams: int) -> Tensor:
        tokens, mask = decoder._teacher(memory, start[:, None])[:2]
        return decoder.core.generate(
            inputs_embeds=tokens, attention_mask=mask.long(), max_new_tokens=longest, min_new_tokens=longest,
            do_sample=False, num_beams=beams, eos_token_id=END, pad_token_id=END, use_cache=True,
        )  # fmt: skip

    return {
        "greedy, `lm`": lambda: ours("greedy"),
        "greedy, `generate`": lambda: theirs(1),
        "beams, `lm`": lambda: ours("beam"),
        "beams, `generate`": lambda: theirs(BEAMS),
    }


PAIRS = [  # claim, faster, slower
    ("cache", "greedy, cache", "greedy, no cache"),
    ("batch", "beams, all rows", "beams, one row at a time"),
    ("generate", "greedy, `lm`", "greedy, `generate`"),
    ("generate", "beams, `lm`", "beams, `generate`"),
]


@torch.inference_mode()
def measure(ways: dict[str, Way], rounds: int) -> tuple[dict[str, list[float]], dict[str, Tensor]]:
    """CPU seconds of every way in every round, after one that does not count; and what each said."""
    said = {name: way() for name, way in ways.items()}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds):
        names = list(ways) if turn % 2 else list(ways)[::-1]
        for name in names:
            began = time.process_time()
            ways[name]()
            times[name].append(time.process_time() - began)
            print(f"round {turn + 1}: {name}: {times[name][-1]:.2f} s", file=sys.stderr)
    return times, said


def compared(times: dict[str, list[float]], said: dict[str, Tensor]) -> list[dict[str, Any]]:
    """Each pair: the ratio of every round, and whether both said the same."""
    found = []
    for claim, fast, slow in PAIRS:
        ratios = [b / a for a, b in zip(times[fast], times[slow], strict=True)]
        found.append({"claim": claim, "fast": fast, "slow": slow, "ratio": statistics.median(ratios),
                      "least": min(ratios), "most": max(ratios), "needed": CLAIMS[claim],
                      "same": torch.equal(said[fast], said[slow])})  # fmt: skip
    return found


def failed(pairs: list[dict[str, Any]]) -> list[str]:
    short = [f"{p['fast']}: {p['ratio']:.2f}, claimed {p['needed']}" for p in pairs if p["ratio"] < p["needed"]]
    return short + [f"{p['fast']} and {p['slow']} say different things" for p in pairs if not p["same"]]


def page(times: dict[str, list[float]], pairs: list[dict[str, Any]], command: str, rows: int, longest: int) -> str:
    bad = failed(pairs)
    lines = ["# Decoding", "", f"    {command}", "", ABOUT.format(rows=rows, longest=longest), machine(), ""]
    lines += ["Every claim holds." if not bad else "Short of what is claimed: " + "; ".join(bad) + ".", ""]
    lines += ["| | beside | ratio of speeds (least to most) | claimed | same tokens |", "|" + " --- |" * 5]
    for p in pairs:
        spread = f"{p['ratio']:.2f} ({p['least']:.2f} to {p['most']:.2f})"
        same = "yes" if p["same"] else "no"
        lines.append(f"| {p['fast']} | {p['slow']} | {spread} | ≥ {p['needed']} | {same} |")
    lines += ["", "| | tokens per CPU second (least to most) |", "| --- | --- |"]
    for name, seconds in times.items():
        speeds = [rows * longest / s for s in seconds]
        lines.append(f"| {name} | {statistics.median(speeds):,.0f} ({min(speeds):,.0f} to {max(speeds):,.0f}) |")
    return "\n".join([*lines, ""])


ABOUT = f"""\
{LAYERS} layers, width {WIDTH}, {HEADS} heads, {SIZE:,} tokens that can be said, {{rows}} rows of {TOKENS // 2} to
{TOKENS} memory tokens, {{longest}} tokens each (no end before), {BEAMS} beams, random weights, fp32. The first four are
the decoder `transformer`: without the cache every step reads all that was said again. The last four are a GPT-2 that
reads the memory as a prefix: the decoder `lm`, and `generate` of transformers on the same model and prefix. What is
compared takes turns in every round, in an order that changes; ratios are of CPU seconds in the same round, medians over
rounds.
"""


def machine() -> str:
    import transformers

    load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    return (f"torch {torch.__version__}, transformers {transformers.__version__}, 1 thread of {os.cpu_count()} cores, "
            f"load {load} at the end: other work on the machine is in these numbers.")  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--longest", type=int, default=64)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with kept():
        times, said = measure(own_ways(args.rows, args.longest) | lm_ways(args.rows, args.longest), args.rounds)
    pairs = compared(times, said)
    command = " ".join(["python benchmarks/decoding.py", *(arguments if arguments is not None else sys.argv[1:])])
    args.out.write_text(page(times, pairs, command, args.rows, args.longest), encoding="utf-8")
    args.out.with_suffix(".json").write_text(json.dumps({"times": times, "pairs": pairs}, indent=1), encoding="utf-8")
    print(*failed(pairs), sep="\n", file=sys.stderr)
    return 1 if failed(pairs) else 0


if __name__ == "__main__":
    sys.exit(main())
