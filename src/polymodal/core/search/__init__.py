"""Saying sentences with a decoder: greedily, with beams, by lot. All rows at once; knows no decoder by name."""

from polymodal.core.search.decode import decode, stream
from polymodal.core.search.plan import Said, Search

__all__ = ["Said", "Search", "decode", "stream"]
