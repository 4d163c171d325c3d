"""A little HTML for notebooks: everything is escaped, colours are the page's own, so that light and dark both fit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

FRAME = (
    "font:13px/1.5 system-ui,sans-serif;max-width:60em;overflow-x:auto;"
    "--ink-soft:#8a8f98;--line:#80808040;--c1:#4f74e5;--c2:#e0813a"  # the variables of `work.plots`
)
CELL = "text-align:{};padding:3px 14px 3px 0;border:0;border-bottom:1px solid #80808040;vertical-align:top"
SOFT = "opacity:.65"


def frame(*parts: str) -> str:
    """Parts that are HTML already, one below the other."""
    return f'<div style="{FRAME}">{"".join(parts)}</div>'


def title(text: str, beside: str = "") -> str:
    return f'<div style="margin:2px 0 6px"><b>{escape(text)}</b> <span style="{SOFT}">{escape(beside)}</span></div>'


def lines(texts: Iterable[str]) -> str:
    """Plain lines of text, not very loud."""
    return "".join(f'<div style="{SOFT}">{escape(text)}</div>' for text in texts)


def grid(head: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> str:
    """A table whose first `words` columns are words, on the left, and whose others are numbers, on the right."""

    def row(cells: Sequence[str], tag: str) -> str:
        sides = ("left" if at < words else "right" for at in range(len(cells)))
        return "".join(f'<{tag} style="{CELL.format(side)}">{escape(cell)}</{tag}>'
                       for cell, side in zip(cells, sides, strict=True))  # fmt: skip

    body = "".join(f'<tr style="background:none">{row(cells, "td")}</tr>' for cells in rows)
    own = "border-collapse:collapse;margin:4px 0;font-size:inherit;color:inherit"
    return (f'<table style="{own}"><thead><tr>{row(head, "th")}</tr></thead>'
            f"<tbody>{body}</tbody></table>")  # fmt: skip


def folded(summary: str, text: str) -> str:
    """A long text behind a word to click on."""
    return f'<details><summary style="cursor:pointer;{SOFT}">{escape(summary)}</summary>{source(text)}</details>'


def source(text: str) -> str:
    letters = "font:12px/1.5 ui-monospace,monospace;white-space:pre;overflow-x:auto"
    return f'<pre style="background:none;margin:4px 0;{letters}">{escape(text)}</pre>'


def pictures(*drawn: tuple[str, str]) -> str:
    """(caption, SVG) side by side; the SVG is taken as it is."""
    shown = (f'<figure style="margin:0;width:19em">'
             f'<figcaption style="{SOFT}">{escape(caption)}</figcaption>{svg}</figure>'
             for caption, svg in drawn)  # fmt: skip
    return f'<div style="display:flex;flex-wrap:wrap;gap:8px 24px;margin:6px 0">{"".join(shown)}</div>'


def bar(name: str, done: int, total: int) -> str:
    share = 100 * min(1.0, done / max(1, total))
    track = "display:inline-block;width:16em;height:8px;border-radius:4px;background:#80808040;vertical-align:middle"
    fill = f"display:block;width:{share:.0f}%;height:8px;border-radius:4px;background:var(--c1)"
    return f'<div>{escape(name)} <span style="{track}"><span style="{fill}"></span></span> {done:,} of {total:,}</div>'
