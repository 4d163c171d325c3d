"""Small readers of every kind, with results that a test can compute by itself."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from polymodal.core.errors import BadCell


class Common:
    """What the small readers share: `reads` counts decoded cells."""

    files: ClassVar[bool] = False
    record: ClassVar[bool] = False
    ragged: ClassVar[frozenset[str]] = frozenset()
    augments = False

    def __init__(self) -> None:
        self.field: dict[str, Any] | None = None
        self.reads = 0

    def fit(self, cells: Iterable[object]) -> dict[str, Any]:
        self.field = {"cells": sum(1 for _ in cells)}
        return self.field

    def cost(self, cell: Any) -> int:
        return len(cell)

    def finish(self, sample: dict, rng: np.random.Generator | None) -> dict:
        return sample

    def show(self, cell: Any) -> dict:
        return {"kind": "text", "data": str(cell)}

    def __call__(self, cell: Any, rng: np.random.Generator | None = None) -> dict:
        return self.finish(self.decode(cell), rng)

    def decode(self, cell: Any) -> dict:
        raise NotImplementedError


class Letters(Common):
    """Text -> its code points, of any length; a text with '!' is bad."""

    ragged: ClassVar[frozenset[str]] = frozenset({"ids"})

    def decode(self, cell: Any) -> dict:
        self.reads += 1
        if "!" in cell:
            raise BadCell("has a !")
        return {"ids": np.array([ord(c) for c in cell], np.int64), "length": np.array(len(cell), np.int64)}

    def blank(self) -> dict:
        return {"ids": np.zeros(1, np.int64), "length": np.array(0, np.int64)}


class Bytes(Common):
    """A file of any length -> its first four bytes as floats, halved when finished; augmenting adds a number."""

    files: ClassVar[bool] = True

    def __init__(self, augments: bool = False) -> None:
        super().__init__()
        self.augments = augments

    def cost(self, cell: Any) -> int:
        assert isinstance(cell, Path | bytes)
        return 1

    def decode(self, cell: Any) -> dict:
        self.reads += 1
        data = np.asarray(cell).tobytes() if isinstance(cell, np.ndarray) else cell
        if len(data) < 4:
            raise BadCell("is shorter than four bytes")
        return {"raw": np.frombuffer(data, np.uint8)}  # not of one shape before it is finished

    def finish(self, sample: dict, rng: np.random.Generator | None) -> dict:
        x = sample["raw"][:4].astype(np.float32) / 2
        return {"x": x + np.float32(rng.random()) if rng is not None and self.augments else x}

    def blank(self) -> dict:
        return {"x": np.zeros(4, np.float32)}


class Records(Common):
    """A record -> its numbers, NaN where missing."""

    record: ClassVar[bool] = True

    def decode(self, cell: Any) -> dict:
        self.reads += 1
        try:
            return {"n": np.array([np.nan if v is None else float(v) for v in cell.values()])}
        except ValueError as error:
            raise BadCell(str(error)) from None

    def blank(self) -> dict:
        return {"n": np.full(2, np.nan)}


class Number:
    """A target: a whole number."""

    files: ClassVar[bool] = False

    def __init__(self) -> None:
        self.field: dict[str, Any] | None = None

    def fit(self, cells: Iterable[object]) -> dict[str, Any]:
        self.field = {"sum": sum(int(c) for c in cells)}  # type: ignore[call-overload]
        return self.field

    def decode(self, index: int) -> str:
        raise AssertionError("no method of a target reader's own is called")

    def __call__(self, cell: Any) -> dict:
        try:
            return {"value": np.array(int(cell), np.int64)}
        except ValueError:
            raise BadCell("is no whole number") from None

    def blank(self) -> dict:
        return {"value": np.array(-7, np.int64)}


class Small:
    """The readers, for tests."""

    Letters, Bytes, Records, Number = Letters, Bytes, Records, Number


@pytest.fixture
def small() -> type[Small]:
    return Small
