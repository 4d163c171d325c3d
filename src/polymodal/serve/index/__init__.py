"""An index of rows that lasts: vectors, columns to filter by, small pictures and words, in one folder or in Qdrant."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from polymodal.serve.index.hits import Hit, Query

if TYPE_CHECKING:
    from polymodal.serve.index.index import Index, open_index
    from polymodal.serve.index.searcher import Searcher

__all__ = ["Hit", "Index", "Query", "Searcher", "open_index"]
_PLACES = {"Index": "index", "open_index": "index", "Searcher": "searcher"}


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(importlib.import_module(f"polymodal.serve.index.{_PLACES[name]}"), name)
    raise AttributeError(f"module 'polymodal.serve.index' has no attribute {name!r}")
