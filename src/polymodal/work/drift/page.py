"""The page about drift: one HTML file that needs no network and runs nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from polymodal.core.errors import saving
from polymodal.work import folder as folders
from polymodal.work.drift.judge import figures, percent
from polymodal.work.report import templates

if TYPE_CHECKING:
    from polymodal.work.drift.drift import Drift


def write_page(found: Drift, folder: Path) -> Path:
    """Write `drift.json` and `report.html` and return the page's path."""
    made = templates()
    made.filters |= {"percent": percent, "figures": figures}
    page = made.get_template("drift.html").render(found=found, title=folder.resolve().name)
    with saving(folder):
        folder.mkdir(parents=True, exist_ok=True)
        folders.write_json(folder / "drift.json", found.json())
        folders.write_bytes(folder / "report.html", page.encode("utf-8", "replace"))
    return folder / "report.html"
