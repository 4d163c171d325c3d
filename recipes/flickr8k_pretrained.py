"""The table of `flickr8k`."""

from __future__ import annotations

from flickr8k import also, prepare

__all__ = ["also", "prepare"]
