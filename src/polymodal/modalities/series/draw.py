"""A series as a small picture of lines."""

from __future__ import annotations

import io

import numpy as np
from jaxtyping import Float64

WIDTH, HEIGHT, EDGE = 320, 120, 4  # pixels
MOST = 8  # channels that are drawn
COLOURS = ("#1f77b4", "#d95f02", "#1b9e77", "#7570b3", "#e7298a", "#66a61e", "#a6761d", "#444444")


def lines(values: Float64[np.ndarray, "T C"]) -> bytes:
    """The first channels as a PNG, each from its own lowest to its own highest value; gaps where values are missing."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (WIDTH, HEIGHT), "white")
    pen = ImageDraw.Draw(picture)
    steps = np.unique(np.linspace(0, len(values) - 1, min(len(values), 4 * WIDTH)).astype(int))
    across = EDGE + (WIDTH - 1 - 2 * EDGE) * (steps / max(1, len(values) - 1))
    for channel, colour in zip(values.T[:MOST], COLOURS, strict=False):
        known = channel[~np.isnan(channel)]
        if not len(known):
            continue
        low, high = known.min(), known.max()
        level = (channel[steps] - low) / (high - low) if high > low else np.where(np.isnan(channel[steps]), np.nan, 0.5)
        down = EDGE + (HEIGHT - 1 - 2 * EDGE) * (1 - level)
        for piece in np.split(np.arange(len(steps)), np.flatnonzero(np.isnan(down))):
            points = [(float(across[at]), float(down[at])) for at in piece if not np.isnan(down[at])]
            pen.line(points, fill=colour) if len(points) > 1 else pen.point(points, fill=colour)
    memory = io.BytesIO()
    picture.save(memory, "PNG")
    return memory.getvalue()
