"""A run as an HTTP service: `make_app` builds the application, `start` runs it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from polymodal.serve.http.settings import ServeSettings

if TYPE_CHECKING:
    from polymodal.serve.http.app import make_app
    from polymodal.serve.http.server import start

__all__ = ["ServeSettings", "make_app", "start"]
_PLACES = {"make_app": "polymodal.serve.http.app", "start": "polymodal.serve.http.server"}


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'polymodal.serve.http' has no attribute {name!r}")
