"""Tokens as they come -> pieces of text that can be shown at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator


def pieces(say: Callable[[list[int]], str], tokens: Iterable[int]) -> Iterator[str]:
    """What `say(tokens so far)` grows by, token by token; put together they are what it says of all of them.

    A character of which some bytes are still to come is waited for, and so are tokens after which the text that was
    shown would no longer be its beginning.
    """
    ids: list[int] = []
    shown = text = ""
    for token in tokens:
        ids.append(token)
        text = say(ids)
        if len(text) > len(shown) and text.startswith(shown) and not text.endswith("\ufffd"):
            yield text[len(shown) :]
            shown = text
    if text.startswith(shown) and text != shown:
        yield text[len(shown) :]
