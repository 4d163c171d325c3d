"""Free names, as of inputs and tasks, where not every name can stand."""

from __future__ import annotations

from urllib.parse import quote


def key(name: str) -> str:
    """A free name as a key of `nn.ModuleDict`, which allows neither dots nor the names of its own methods."""
    return "_" + quote(name, safe="").replace(".", "%2E")
