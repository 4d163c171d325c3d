"""The table of `text_image_audio_to_text`."""

from __future__ import annotations

from text_image_audio_to_text import also, prepare

__all__ = ["also", "prepare"]
