"""Charts as SVG that takes its colours from the page: only lines and numbers, all names stand in the HTML around."""

from __future__ import annotations

import base64
import hashlib
import io
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from polymodal.core.schema import Json

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {  # drawn as these, written as the page's own variables, so that light and dark both fit
    "#0a0b01": "var(--ink-soft)",
    "#0a0b02": "var(--line)",
    "#0a0b03": "var(--c1)",
    "#0a0b04": "var(--c2)",
}
SOFT, LINE, FIRST, SECOND = COLOURS
HEAT = (79, 116, 229)
DPI = 72
Points = Sequence[tuple[float, float]]


def curves(lines: Sequence[Points], best: int | None = None) -> str:
    """Up to two lines over epochs, each a list of (epoch, value); an upright line at the best epoch."""
    figure, axes = _axes()
    for points, colour in zip(lines, (FIRST, SECOND), strict=False):
        x, y = [p[0] for p in points], [p[1] for p in points]
        axes.plot(x, y, color=colour, linewidth=1.6, marker="o" if len(points) < 25 else "", markersize=2.6)
    if best is not None:
        axes.axvline(best, color=SOFT, linewidth=0.8, linestyle=(0, (2, 3)))
    _whole_numbers(axes)
    return _svg(figure)


def reliability(bins: Sequence[dict[str, Json]], before: Sequence[dict[str, Json]] = ()) -> str:
    """How often right against how sure, a point per bin, its area the share of answers; the diagonal is honest.

    `before` are the bins as they would be without scaling, a line of the second colour.
    """
    figure, axes = _axes(width=3.1)
    axes.plot([0, 1], [0, 1], color=SOFT, linewidth=0.8, linestyle=(0, (4, 3)))
    if before:
        axes.plot([b["confidence"] for b in before], [b["accuracy"] for b in before], color=SECOND, linewidth=1.0,
                  marker="o", markersize=2.6)  # fmt: skip
    sure, right = [b["confidence"] for b in bins], [b["accuracy"] for b in bins]
    most = max((b["count"] for b in bins), default=1)
    axes.plot(sure, right, color=FIRST, linewidth=1.0, alpha=0.6)
    axes.scatter(sure, right, s=[8 + 60 * b["count"] / most for b in bins], color=FIRST, linewidths=0)
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
    return _svg(figure)


def coverage(points: Sequence[dict[str, Json]]) -> str:
    """How often regions hold the truth against how often they should; the grey band is what was to be expected."""
    figure, axes = _axes(width=3.1)
    level = [p["level"] for p in points]
    low, high = [p["low"] for p in points], [p["high"] for p in points]
    axes.fill_between(level, low, high, color=SOFT, alpha=0.25, linewidth=0)
    axes.plot([0, 1], [0, 1], color=SOFT, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.plot(level, [p["coverage"] for p in points], color=FIRST, linewidth=1.2, marker="o", markersize=3)
    least = min([0.45, *(min(p["coverage"], p["low"]) - 0.05 for p in points)])
    axes.set(xlim=(0.45, 1.02), ylim=(least, 1.02))
    return _svg(figure)


def selective(points: Sequence[dict[str, Json]]) -> str:
    """Accuracy among the surest rows against their share of all."""
    figure, axes = _axes(width=3.1)
    axes.plot([p["answered"] for p in points], [p["accuracy"] for p in points], color=FIRST, linewidth=1.4)
    axes.set(xlim=(-0.02, 1.02))
    return _svg(figure)


def levels(lines: Sequence[Sequence[tuple[float, dict[str, Json]]]]) -> str:
    """Up to two lines of scores, each with its interval, over levels from 0 to 1."""
    figure, axes = _axes()
    for points, colour in zip(lines, (FIRST, SECOND), strict=False):
        known = [(x, s["value"], *s["ci95"]) for x, s in points if s["value"] is not None and s["ci95"][0] is not None]
        x, y, low, high = zip(*known, strict=True) if known else ((), (), (), ())
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(x, y, color=colour, linewidth=1.6, marker="o", markersize=2.6)
    axes.set(xlim=(-0.03, 1.03))
    return _svg(figure)


def scatter(truth: Sequence[float], predicted: Sequence[float], log: bool = False) -> str:
    """Prediction against truth, a point per row; the diagonal is right."""
    figure, axes = _axes(width=3.1)
    pairs = [(t, p) for t, p in zip(truth, predicted, strict=True) if _shown(t, log) and _shown(p, log)]
    if log and pairs:
        axes.set_xscale("log")
        axes.set_yscale("log")
    if pairs:
        low, high = (f(v for pair in pairs for v in pair) for f in (min, max))
        axes.plot([low, high], [low, high], color=SOFT, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.plot(*zip(*pairs, strict=True), color=FIRST, linestyle="", marker="o", markersize=2.6,
                  markeredgewidth=0, alpha=0.45)  # fmt: skip
    return _svg(figure)


def heatmap(shares: Sequence[Sequence[float]]) -> str:
    """A square of many cells as a PNG in a data URI, each as opaque as its share; one pixel per cell."""
    import numpy as np
    from PIL import Image

    cells = np.zeros((len(shares), len(shares), 4), np.uint8)
    cells[..., :3] = HEAT
    cells[..., 3] = np.rint(255 * np.sqrt(np.clip(np.array(shares, float), 0, 1)))
    file = io.BytesIO()
    Image.fromarray(cells).save(file, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _shown(value: float, log: bool) -> bool:
    return math.isfinite(value) and (value > 0 or not log)


def _axes(width: float = 3.8, height: float = 2.4) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    figure.patch.set_visible(False)
    axes.patch.set_visible(False)
    axes.grid(color=LINE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=SOFT, labelsize=9, length=0)
    axes.spines[:].set_visible(False)
    return figure, axes


def _whole_numbers(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5))


def _svg(figure: Figure) -> str:
    """The figure as an `<svg>` element. Text stays text; the same figure gives the same bytes."""
    import matplotlib

    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "polymodal"}):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' (?:width|height)="[\d.]+pt"', "", text, count=2)
    text = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", text)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    for drawn, shown in COLOURS.items():
        text = text.replace(drawn, shown)
    own = hashlib.sha256(text.encode()).hexdigest()[:8]  # ids are unlike those of other charts on the page
    return re.sub(r'(id="|#)([a-z][0-9a-f]{10})\b', rf"\1\2-{own}", text)
