"""A trait of later rows beside that of training rows: a test, the size of the change, and both in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32

from polymodal.core.schema import Json
from polymodal.core.seeds import Rng
from polymodal.core.traits import Names, Numbers, Trait, Words
from polymodal.work.drift import statistics
from polymodal.work.drift.kept import Kept, KeptNames, KeptNumbers, KeptWords, short
from polymodal.work.drift.survey import STATES

FEWEST = 20  # values on either side below which nothing is tested
LARGE_PSI, LARGE_AREA = 0.1, 0.6  # from there on a change is called drift; two normals 0.32 deviations apart have both
BINS = 10
SHOWN = 3  # names and words in a sentence
REST = "\x00rest"


@dataclass(frozen=True)
class Finding:
    """One trait of one column. `effect` is a population stability index or, for vectors, an AUROC.

    `p` is that of the test, `q` corrected for the number of tests. `level` is `drift` where q is below the level asked
    for and the effect is large, `slight` where only q is, else `none`. `bars` are shares before and after.
    """

    where: str
    what: str
    measure: str  # "psi" or "auroc"
    effect: float
    p: float
    text: str
    ci95: tuple[float, float] | None = None
    q: float = 1.0
    level: str = "none"
    bars: tuple[tuple[str, float, float], ...] = ()

    @property
    def large(self) -> bool:
        return self.effect >= (LARGE_PSI if self.measure == "psi" else LARGE_AREA)

    @property
    def size(self) -> float:
        """The effect, comparable between measures: 1 is where it becomes large."""
        return self.effect / LARGE_PSI if self.measure == "psi" else (self.effect - 0.5) / (LARGE_AREA - 0.5)

    def json(self) -> dict[str, Json]:
        plain: dict[str, Json] = {"where": self.where, "what": self.what, "level": self.level, "text": self.text,
                                  self.measure: self.effect, "p": self.p, "q": self.q}  # fmt: skip
        return {**plain, **({"ci95": list(self.ci95)} if self.ci95 else {})}


@dataclass(frozen=True)
class Lots:
    """Where chance comes from: `rng`, and how many draws a test may take."""

    rng: Rng
    draws: int


def judged(findings: Iterable[Finding], level: float) -> list[Finding]:
    """Corrected for how many there are, the most changed first."""
    listed = list(findings)
    found = []
    for one, q in zip(listed, statistics.corrected([f.p for f in listed]), strict=True):
        kind = "none" if q >= level else "drift" if one.large else "slight"
        found.append(replace(one, q=q, level=kind))
    return sorted(found, key=lambda f: (("drift", "slight", "none").index(f.level), -f.size))


def of_states(where: str, before: dict[str, int], after: dict[str, int], lots: Lots) -> Finding | None:
    """Missing and bad cells."""
    one, two = (np.array([s[n] for n in STATES]) for s in (before, after))
    if min(one.sum(), two.sum()) < FEWEST or not (one[1:].any() or two[1:].any()):
        return None
    shares = [(n, one[at] / one.sum(), two[at] / two.sum()) for at, n in enumerate(STATES)]
    text = ", ".join(f"{percent(b)} {n}, was {percent(a)}" for n, a, b in shares[1:] if a or b)
    p = statistics.chi_square(one, two, lots.rng, lots.draws)
    return Finding(where, "cells", "psi", statistics.psi(one, two), p, text,
                   bars=tuple((n, float(a), float(b)) for n, a, b in shares))  # fmt: skip


def of_trait(where: str, what: str, before: Kept, after: Trait, lots: Lots) -> Finding | None:
    """None where there is too little on either side to be tested."""
    if isinstance(before, KeptNumbers) and isinstance(after, Numbers):
        return _numbers(where, what, before, after)
    if isinstance(before, KeptNames) and isinstance(after, Names):
        return _names(where, what, before, after, lots)
    if isinstance(before, KeptWords) and isinstance(after, Words):
        return _words(where, what, before, after)
    return None


def _numbers(where: str, what: str, before: KeptNumbers, after: Numbers) -> Finding | None:
    x = after.values[np.isfinite(after.values)]
    missing = len(after.values) - len(x)
    if min(before.count + before.missing, len(after.values)) < FEWEST or not (before.count and len(x)):
        return None
    marks = before.marks.astype(np.float64)
    x32 = x.astype(np.float32).astype(np.float64)  # as those that were kept
    _, p = statistics.ks(marks, before.count, x32)
    gaps = before.missing or missing
    if gaps:
        lost = statistics.fisher(before.missing, before.count + before.missing, missing, len(after.values))
        p = min(1.0, 2 * min(p, lost))
    edges = np.unique(np.quantile(marks, np.linspace(0, 1, BINS + 1)[1:-1], method="inverted_cdf"))
    places = (np.searchsorted(edges, v, side="left") for v in (marks, x32))
    one, two = (np.bincount(at, minlength=len(edges) + 1).astype(np.float64) for at in places)
    one *= before.count / len(marks)
    labels = [f"≤ {brief(e)}" for e in edges] + [f"> {brief(edges[-1])}"]
    if gaps:
        one, two, labels = np.append(one, before.missing), np.append(two, missing), [*labels, "missing"]
    bars = zip(labels, (one / one.sum()).tolist(), (two / two.sum()).tolist(), strict=True)
    text = _moved(marks, x32, before.unit)
    if gaps:
        was = before.missing / (before.count + before.missing)
        text += f"; {percent(missing / len(after.values))} missing, was {percent(was)}"
    return Finding(where, what, "psi", statistics.psi(one, two), p, text, bars=tuple(bars))


def _moved(before: np.ndarray, after: np.ndarray, unit: str) -> str:
    """`lower: 0.21 (0.15 to 0.3), was 0.48 (0.4 to 0.55)`: medians and middle halves."""
    (low, middle, high), (now_low, now, now_high) = (np.quantile(x, [0.25, 0.5, 0.75]) for x in (before, after))
    width, now_width = high - low, now_high - now_low
    if abs(now - middle) > 0.1 * width:
        word = "higher" if now > middle else "lower"
    elif abs(now_width - width) > 0.1 * width:
        word = "wider" if now_width > width else "narrower"
    else:
        word = "other values" if before.min() > after.min() or before.max() < after.max() else "other shape"
    unit = f" {unit}" if unit else ""
    return (f"{word}: {brief(now)}{unit} ({brief(now_low)} to {brief(now_high)}), "
            f"was {brief(middle)}{unit} ({brief(low)} to {brief(high)})")  # fmt: skip


def _names(where: str, what: str, before: KeptNames, after: Names, lots: Lots) -> Finding | None:
    names = [short(n) for n in after.values if n is not None]
    missing = len(after.values) - len(names)
    if min(before.count + before.missing, len(after.values)) < FEWEST:
        return None
    counts = Counter(n if n in before.counts or not before.rest else REST for n in names)
    listed = [*before.counts, *(n for n in counts if n not in before.counts and n != REST)]
    known = before.count + before.missing / 2  # names were counted on half of the rows, missing ones on all
    rows = [(n, before.counts.get(n, 0), counts[n]) for n in listed]
    rows += [("other names", before.rest, counts[REST])] if before.rest or counts[REST] else []
    rows += [("missing", round(before.missing / 2), missing)] if before.missing or missing else []
    one, two = (np.array([r[at] for r in rows]) for at in (1, 2))
    p = statistics.chi_square(one, two, lots.rng, lots.draws)
    shares = [(n, a / max(1.0, known), b / len(after.values)) for n, a, b in rows]
    moved = sorted(shares, key=lambda s: -_binary(s[1], s[2], known, len(after.values)))
    return Finding(where, what, "psi", statistics.psi(one, two), p, "; ".join(_told(moved)),
                   bars=tuple((n, float(a), float(b)) for n, a, b in moved[:BINS]))  # fmt: skip


def _words(where: str, what: str, before: KeptWords, after: Words) -> Finding | None:
    """Each frequent word by itself, corrected for their number: words of one text do not come by themselves.

    Words that are new are chosen on one half of the texts and counted on the other, as those that were kept.
    """
    halves = after.values[::2], after.values[1::2]
    count = len(halves[1])
    if min(before.count, count) < FEWEST:
        return None
    fresh = Counter(w for one in halves[0] for w in one if w not in before.counts)
    listed = list(before.counts) + sorted(fresh, key=lambda w: (-fresh[w], w))[: max(20, len(before.counts) // 4)]
    counts = Counter(w for one in halves[1] for w in one)
    rows = []
    for word in listed:
        was, now = before.counts.get(word, before.rare), counts[word]
        if word not in before.counts and now * before.count <= was * count:
            continue
        rows.append((word, was, now, statistics.fisher(was, before.count, now, count)))
    if not rows:
        return None
    shares = sorted(((w, a / before.count, b / count) for w, a, b, _ in rows),
                    key=lambda s: -_binary(s[1], s[2], before.count, count))  # fmt: skip
    effect = _binary(shares[0][1], shares[0][2], before.count, count)
    p = min(1.0, len(listed) * min(r[3] for r in rows))
    bars = [(w, a if w in before.counts else 0.0, b) for w, a, b in shares[:BINS]]
    return Finding(where, what, "psi", effect, p, "; ".join(_told(bars)), bars=tuple(bars))


def of_vectors(
    where: str, before: Float32[np.ndarray, "n d"], after: Float32[np.ndarray, "m d"], lots: Lots
) -> Finding | None:
    """How the model sees an input."""
    if min(len(before), len(after)) < FEWEST:
        return None
    scale = np.maximum(before.std(0), 1e-6)
    one, two = ((v - before.mean(0)) / scale for v in (before, after))
    p = statistics.energy(one, two, lots.rng, lots.draws)
    area, low, high = statistics.told_apart(one, two, lots.rng)
    text = f"told from the training's with AUROC {area:.2f} ({low:.2f} to {high:.2f}; 0.5: not at all)"
    return Finding(where, "as the model sees it", "auroc", area, p, text, (low, high))


def _binary(before: float, after: float, of_before: int | float, of_after: int | float) -> float:
    """The population stability index of having a name or not having it."""
    one, two = (np.array([s * n, (1 - s) * n]) for s, n in ((before, of_before), (after, of_after)))
    return statistics.psi(one, two)


def _told(shares: list[tuple[str, float, float]]) -> Iterator[str]:
    """`'teal' 12 %, was never seen`, the largest changes."""
    for name, before, after in shares[:SHOWN]:
        yield f"{name!r} {percent(after)}, was {percent(before) if before else 'not met'}"


def figures(finding: Finding) -> str:
    """`PSI 0.34, q < 0.001`."""
    size = f"PSI {finding.effect:.2f}" if finding.measure == "psi" else f"AUROC {finding.effect:.2f}"
    return f"{size}, {'q < 0.001' if finding.q < 0.001 else f'q = {finding.q:.2g}'}"


def percent(share: float) -> str:
    return "0 %" if not share else f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"


def brief(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
