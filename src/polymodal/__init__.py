"""Polymodal: from a table of pictures, sentences, sounds and numbers to a model that can be trusted.

The public face: `train`, `load`, `check`, `make_scenes`, `Run` and the errors. What is heavy is imported when used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "Run",
    "RunError",
    "SpecError",
    "TableError",
    "UserError",
    "__version__",
    "baselines",
    "chat",
    "check",
    "compare",
    "draft",
    "histories",
    "leave_out",
    "load",
    "log_table",
    "make_scenes",
    "open_index",
    "train",
]

if TYPE_CHECKING:
    from polymodal.api import (
        Run,
        baselines,
        chat,
        check,
        compare,
        draft,
        histories,
        leave_out,
        load,
        log_table,
        make_scenes,
        open_index,
        train,
    )
    from polymodal.core.errors import RunError, SpecError, TableError, UserError

_ERRORS = ("RunError", "SpecError", "TableError", "UserError")
_PLACES = dict.fromkeys(__all__, "polymodal.api") | dict.fromkeys(_ERRORS, "polymodal.core.errors")


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'polymodal' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
