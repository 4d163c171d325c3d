"""The table of `flickr8k`."""

from __future__ import annotations

from flickr8k import prepare

__all__ = ["prepare"]
