"""The fingerprints of one input's cells, by the digest of their content: 48 bytes each, for millions of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt64

from polymodal.core.contracts import Sample
from polymodal.data.digests import Digests


class Prints:
    """Fingerprints of one length, added while cells are decoded."""

    def __init__(self) -> None:
        self._places = Digests()
        self._words = bytearray()
        self.width = 1  # words in each

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, digest: int) -> bool:
        return self._places.get(digest, -1) >= 0

    def take(self, reader: Any, cells: Mapping[int, Any], samples: Mapping[int, Sample]) -> None:
        """Keep the fingerprints of new samples, by digest; `cells` are what they were read from."""
        new = [digest for digest in samples if digest not in self]
        if new:
            words = reader.fingerprints([cells[d] for d in new], [samples[d] for d in new])
            self.width = words.shape[1]
            self._words += words.tobytes()
            for digest in new:
                self._places.add(digest, len(self))

    def of(self, digests: Int64[np.ndarray, " n"]) -> tuple[Int64[np.ndarray, " m"], UInt64[np.ndarray, "m words"]]:
        """Which of the digests are known, as places in what was given, and their fingerprints."""
        places = self._places.find(digests)
        known = np.flatnonzero(places >= 0)
        words = np.frombuffer(self._words, np.uint64).reshape(-1, self.width)
        return known, words[places[known]]
