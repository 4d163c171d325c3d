"""What the docstrings of attentions and fusions say they cost, as formulas that can be worked out.

What stands between « and » is quoted, word for word, from the docstring of the part; the rest says how the pieces are
put together. N inputs, T tokens of each, D features; `where` says what other letters of a docstring mean, in order.
`tests/test_cost.py` compares all of it with what torch counts, and the quotes with the docstrings.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

Letters = Mapping[str, float]


class Claim(NamedTuple):
    """A part with these settings: how many parameters, and how many operations for one row."""

    settings: dict[str, Any]
    parameters: str
    operations: str  # multiplications, and additions where the docstring counts them
    unseen: str = "0"  # how many of the operations are no products of matrices, which torch does not count
    where: Mapping[str, str] = {}
    summed: tuple[Mapping[str, str], ...] = ({},)  # the operations are added up over these further letters

    def letters(self, n: int, t: int, d: int) -> dict[str, float]:
        return _with({**self.settings, "N": n, "T": t, "D": d}, self.where)

    def count(self, formula: str, n: int, t: int, d: int) -> float:
        """One of the three formulas for n inputs of t tokens of d features."""
        letters = self.letters(n, t, d)
        each = self.summed if formula == "operations" else ({},)
        return sum(value(getattr(self, formula), _with(letters, more)) for more in each)

    def degree(self, formula: str, axis: str, n: int, t: int, d: int) -> float:
        """With which power of T or D the formula grows in the end."""
        far = 1 << 20
        sizes = [(far * k, d) if axis == "T" else (t, far * k) for k in (1, 2)]
        small, large = (self.count(formula, n, *size) for size in sizes)
        return math.log2(large / small) if small else 0.0

    def quotes(self) -> list[str]:
        texts = (self.parameters, self.operations, self.unseen, *self.where.values())
        return [quote for text in texts for quote in re.findall("«(.*?)»", text)]


def value(formula: str, letters: Letters) -> float:
    """A formula in the notation of the docstrings, worked out."""
    text = formula.translate(str.maketrans({"«": "(", "»": ")", "·": "*", "−": "-", "²": "**2", "^": "**"}))
    text = re.sub(r" (additions|comparisons|multiplications|parameters)( per row)?", "", text)
    text = re.sub(r"log (\w+)", r"log(\1)", re.sub(r"(\d)r\b", r"\1*r", text))
    return eval(text, {"__builtins__": {}, "log": math.log2}, dict(letters))


def _with(letters: Letters, where: Mapping[str, str]) -> dict[str, float]:
    found = dict(letters)
    for letter, formula in where.items():
        found[letter] = value(formula, found)
    return found


DEEP = {"layers": 2, "heads": 4, "ratio": 4}
ALL = {"T": "N·T"}  # where T are the tokens of all inputs
R = {"r": "ratio"}
LAYER = "«(4 + 2r)·D² + (9 + r)·D»"
LOOK = "«N·(N − 1)/2·D² + N·(D² + D) parameters»"
BILINEAR = "«N·D + (H + 1)·out»"
GRAPH = {**ALL, "M": "«N + T»", "E": "«(2·reach + 2)·T + N·M»"}
BARE = {**ALL, "M": "N", "E": "«N²»"}

ATTENTION = {
    "bidirectional": Claim(
        DEEP,
        "layers·(«N·(N − 1)·(4·D² + 4·D) parameters» + «2·N·D» + «N·((4 + 2r)·D² + (9 + r)·D)») + «2·N·D»",
        "layers·«N·(N − 1)·(4·T·D² + 2·T²·D) + N·((4 + 2r)·T·D² + 2·T²·D)»",
        where=R,
    ),
    "bidirectional-cross": Claim(
        {**DEEP, "share": True, "self_attention": False},
        "layers·(«4·D² + 4·D» + «2·N·D» + «N·(2r·D² + (3 + r)·D)») + «2·N·D»",
        "layers·(«N·(N − 1)·(4·T·D² + 2·T²·D) + N·((4 + 2r)·T·D² + 2·T²·D)» − N·(«4·T·D² + 2·T²·D»))",
        where=R,
    ),
    "co": Claim(
        DEEP,
        "layers·«N·((8 + 2r)·D² + (15 + r)·D) parameters» + «2·N·D»",
        "layers·(«N·((4 + 2r)·T·D² + 2·T²·D) + N·(2·N·T·D² + 2·(N − 1)·T²·D)»)",
        where=R,
    ),
    "co-parallel": Claim({"form": "parallel"}, LOOK, "«N·(N − 1)/2·(T·D² + 3·T²·D) + N·(T·D² + T·D) multiplications»"),
    "bottleneck": Claim(
        {**DEEP, "tokens": 4},
        "«K·D parameters» + layers·«N·((4 + 2r)·D² + (9 + r)·D)» + «2·N·D»",
        "layers·«N·((4 + 2r)·(T + K)·D² + 2·(T + K)²·D)»",
        where={**R, "K": "tokens"},
    ),
    "perceiver": Claim(
        {**DEEP, "latents": 16},
        f"«(K + N)·D parameters» + 2·(«(4 + 2r)·D² + (11 + r)·D») + layers·({LAYER}) + «2·D»",
        "«(4 + 2r)·(T + K)·D² + 4·K·T·D» + layers·(«(4 + 2r)·K·D² + 2·K²·D»)",
        where={**R, "K": "latents", **ALL},
    ),
    "hierarchical": Claim(
        {"levels": 3, "window": 4},
        f"(levels − 1)·{LOOK}",
        "«N·(N − 1)/2·(S·D² + 3·S²·D) + N·(S·D² + S·D)» + level·«N·T·S·(D + 1)»",
        summed=({"level": "0", "S": "T"}, {"level": "1", "S": "−(−T // window)"}),
    ),
    "none": Claim({}, "0", "0"),
}
FUSION = {
    "concat": Claim({}, "«N·D parameters»", "«N·T·D additions»"),
    "concat-out": Claim(
        {"out": 32}, "«N·D parameters» + «(N·D + 1)·out parameters»", "«N·T·D additions» + «N·D·out multiplications»"
    ),
    "sum": Claim({}, "0", "«N·T·D additions»"),
    "weighted": Claim({}, "«N parameters»", "«N·T·D additions» + «N·D multiplications»"),
    "transform": Claim(
        {},
        "«N·D + (N·D + 1)·hidden + (hidden + 1)·out»",
        "«N·T·D additions» + «N·D·hidden + hidden·out multiplications»",
        where={"hidden": "2·D", "out": "D"},
    ),
    "gated": Claim(
        {}, "«N·D + N·D·(N·D + 1) + N·D·(D + 1) parameters»", "«N·T·D additions» + «(N·D)² + N·D² multiplications»"
    ),
    "max": Claim({}, "0", "«N·T·D additions» + «N·D comparisons»", unseen="«N·D comparisons»"),
    "film": Claim(
        {},
        "«N·D + M·(C + 1)·2·D parameters»",
        "«N·T·D additions» + «M·C·2·D multiplications»",
        where={"M": "N", "C": "«(N − 1)·D»"},
    ),
    "tensor": Claim(
        {"hidden": 16},
        "«N·D + N·(D + 1)·hidden + (P + 1)·out parameters»",
        "«N·T·D additions» + «N·D·hidden + P·out multiplications» + «2·P»",
        unseen="«2·P»",
        where={"P": "«(hidden + 1)^N»", "out": "D"},
    ),
    "low_rank": Claim(
        {"rank": 4},
        "«N·D + N·(D + 1)·rank·out + rank + out parameters»",
        "«N·T·D additions» + «N·(D + 1)·rank·out multiplications»",
        unseen="(N − 1)·rank·out",
        where={"out": "D"},
    ),
    "bilinear-mlb": Claim(
        {"form": "mlb"},
        f"{BILINEAR} + «N·(D + 1)·H»",
        "«N·T·D additions» + «N·D·H + H·out multiplications»",
        where={"H": "D", "out": "D"},
    ),
    "bilinear": Claim(
        {"rank": 4},
        f"{BILINEAR} + «N·(D + 1)·H» + «N·rank·H²»",
        "«N·T·D additions» + «N·D·H + H·out multiplications» + «N·rank·H²»",
        where={"H": "D", "out": "D"},
    ),
    "bilinear-compact": Claim(
        {"form": "compact"},
        BILINEAR,
        "«N·T·D additions» + «N·D additions» + «N·H·log H» + «H·out»",
        unseen="«N·D additions» + «N·H·log H»",
        where={"H": "4·D", "out": "D"},
    ),
    "attention_pool": Claim(
        {"heads": 4}, "«4·D² + (N + 5)·D parameters»", "«2·(T + 1)·D² + 2·T·D multiplications»", where=ALL
    ),
    "transformer": Claim(
        DEEP,
        "layers·(«(4 + 2·ratio)·D² + (9 + ratio)·D parameters») + «2·D» + «(N + 1)·D»",
        "layers·(«(4 + 2·ratio)·T·D² + 2·T²·D multiplications»)",
        where={"T": "N·T + 1"},
    ),
    "mixture": Claim(
        {"experts": 4},
        "«N·D + E·((N·D + 1)·(hidden + 1) + (hidden + 1)·out) parameters»",
        "«N·T·D additions» + «E·(N·D + out)·(hidden + 1) multiplications» + «E»",
        unseen="«E»",
        where={"E": "experts", "hidden": "D", "out": "D"},
    ),
    "graph": Claim(
        {"layers": 2, "heads": 4, "reach": 1},
        "layers·(«2·D² + 5·D parameters») + «(N + 2)·D parameters»",
        "«(T + N)·D additions» + layers·(«2·M·D² + 2·E·D multiplications»)",
        unseen="layers·«2·E·D»",
        where=GRAPH,
    ),
    "graph-convolution": Claim(
        {"form": "convolution", "layers": 2, "reach": 1},
        "layers·(«D² + 3·D parameters») + «(N + 2)·D parameters»",
        "«(T + N)·D additions» + layers·(«M·D² + E·D multiplications»)",
        where=GRAPH,
    ),
    "graph-inputs": Claim(
        {"nodes": "inputs", "layers": 2, "heads": 4},
        "layers·(«2·D² + 5·D parameters») + «(N + 2)·D parameters»",
        "«(T + N)·D additions» + layers·(«2·M·D² + 2·E·D multiplications»)",
        unseen="layers·«2·E·D»",
        where=BARE,
    ),
}
SCORES = {"K": "D"}  # a decision joins K scores of each input; what D is for the others K is for it
DECISION = {
    "average": Claim({}, "0", "«N·K»", unseen="«N·K»", where=SCORES),
    "product": Claim({}, "0", "«N·K»", unseen="«N·K»", where=SCORES),
    "vote": Claim({}, "0", "«N·K»", unseen="«N·K»", where=SCORES),
    "stack": Claim({}, "«N·K² + (N + 1)·K parameters»", "«N·K² multiplications per row»", where=SCORES),
}
CLAIMS: dict[str, dict[str, Claim]] = {"attention": ATTENTION, "fusion": FUSION, "decision": DECISION}
