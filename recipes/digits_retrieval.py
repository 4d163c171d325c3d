"""The table of `audio_visual_digits`."""

from __future__ import annotations

from audio_visual_digits import prepare

__all__ = ["prepare"]
