"""Questions about scenes, in English and Chinese blocks in turn: the table of `scenes_captions`."""

from __future__ import annotations

from scenes_captions import prepare

__all__ = ["prepare"]
