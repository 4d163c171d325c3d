"""Captions across languages: the table and the judge of `scenes_captions`, whose two languages say the very same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scenes_captions import judged, prepare, shares, test_rows

from polymodal.core.schema import Json
from polymodal.work.intervals import intervals

__all__ = ["also", "prepare"]


def also(run: Any, data: Path) -> dict[str, Json]:
    """What the Chinese sentences of the test rows state."""
    test = test_rows(data / "scenes" / "table.csv")
    records = judged([str(line["chinese"]) for line in run.predict(test)], list(test["caption_zh"]))
    return intervals(shares, records, 0, clusters=np.unique(test["picture"], return_inverse=True)[1])
