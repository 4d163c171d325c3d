"""Cleaning of text. Every way of cleaning is idempotent: cleaning what is clean changes nothing."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable
from typing import Literal

Clean = Literal["none", "basic", "html", "tweet"]

# Han, kana, and their punctuation: they follow a link or a name without a space.
_EAST_ASIAN = r"\u3000-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uff00-\uffef"
_SURROGATE = re.compile(r"[\ud800-\udfff]")  # half a character: cannot be written as UTF-8
_INVISIBLE = re.compile(
    r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]"
)
_TAG = re.compile(r"<[a-zA-Z/!][^<>]*>")
_LINK = re.compile(rf"(?:https?://|www\.)[^\s{_EAST_ASIAN}]+", re.IGNORECASE)
_MENTION = re.compile(rf"(?<![\w@])@[^\W{_EAST_ASIAN}]+")
_AMPERSANDS = re.compile(r"&(?:(?:amp|AMP|#38|#x26);)+")


def clean(text: str, how: Clean) -> str:
    """`text` after cleaning `how`.

    - none: only halves of characters (lone surrogates) are replaced, by U+FFFD.
    - basic: HTML entities are resolved, Unicode is composed (NFC), control and invisible characters are dropped,
      white space becomes single spaces.
    - html: tags are dropped too.
    - tweet: basic with compatibility forms (NFKC), links become `http` and @names become `@user`.
    """
    text = _SURROGATE.sub("\ufffd", text)
    while (cleaner := _STEPS[how](text)) != text:  # a dropped character may have hidden an entity
        text = cleaner
    return text


def _none(text: str) -> str:
    return text


def _basic(text: str, form: Literal["NFC", "NFKC"] = "NFC") -> str:
    if "&" in text:
        text = html.unescape(_AMPERSANDS.sub("&", text))
    text = _INVISIBLE.sub("", unicodedata.normalize(form, text))
    return " ".join(text.split())


def _html(text: str) -> str:
    return _basic(_TAG.sub(" ", text))


def _tweet(text: str) -> str:
    return _basic(_MENTION.sub("@user", _LINK.sub("http", text)), "NFKC")


_STEPS: dict[str, Callable[[str], str]] = {"none": _none, "basic": _basic, "html": _html, "tweet": _tweet}
