"""Rows as requests: cells as JSON or as a form, files by their bytes."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from polymodal.core.errors import UserError
from polymodal.core.schema import Json

LARGE = 1 << 20  # bytes of files in a row from which on it goes as a form, a quarter less than base64
AT_ONCE, BYTES_AT_ONCE = 64, 8 << 20  # rows, and bytes of their files, that go together

Row = Mapping[str, object]


class Ask(NamedTuple):
    """A request that is to be sent: as JSON, or as a form of `fields` and `files`."""

    method: str
    path: str
    body: dict[str, Json] | None = None
    fields: dict[str, str] | None = None
    files: dict[str, tuple[str, bytes]] | None = None

    def options(self) -> dict[str, Any]:
        """As httpx takes it."""
        if self.files is not None:
            return {"data": self.fields, "files": self.files}
        return {} if self.body is None else {"json": self.body}


def cell(value: object) -> Json:
    """A cell as the API takes it: files as base64, numpy's numbers as Python's, NaN as missing. Raises UserError."""
    found = content(value)
    if found is not None:
        return {"base64": base64.b64encode(found[1]).decode("ascii"), "name": found[0]}
    if hasattr(value, "tolist"):  # numpy's arrays and scalars
        return cell(value.tolist())
    if isinstance(value, list | tuple):
        return [cell(one) for one in value]
    if isinstance(value, dict):
        return {name: cell(one) for name, one in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        if math.isnan(value):
            return None
        raise UserError("cell", "is infinite", given=value, advice="a number, or None")
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise UserError("cell", f"of type {type(value).__name__} cannot be sent",
                    advice="text, a number, a pathlib.Path, bytes or a PIL picture")  # fmt: skip


def content(value: object) -> tuple[str, bytes] | None:
    """Name and bytes of a file; None for what is none."""
    if isinstance(value, Path):
        try:
            return value.name, value.read_bytes()
        except OSError as error:
            raise UserError(str(value), f"cannot be read: {error.strerror or error}", advice="check the path") from None
    if isinstance(value, bytes | bytearray | memoryview):
        return "file", bytes(value)
    if hasattr(value, "save") and hasattr(value, "mode"):  # a PIL picture
        memory = io.BytesIO()
        value.save(memory, "PNG")
        return "picture.png", memory.getvalue()
    return None


def rows_ask(path: str, rows: Sequence[Row], options: dict[str, Json]) -> Ask:
    """A request about some rows: a single one with large files and else text as a form, others as JSON."""
    read = [{name: content(value) for name, value in row.items()} for row in rows]
    if len(rows) == 1 and sum(len(found[1]) for found in read[0].values() if found) >= LARGE:
        plain = {n: v for n, v in rows[0].items() if read[0][n] is None and v is not None}
        if all(isinstance(value, str) for value in plain.values()) and "options" not in rows[0]:
            files = {name: found for name, found in read[0].items() if found}
            return Ask("POST", path, fields={**plain, "options": json.dumps(options)}, files=files)  # type: ignore[dict-item]
    listed = [{n: cell(v if found[n] is None else found[n][1]) for n, v in row.items()}  # type: ignore[index]
              for row, found in zip(rows, read, strict=True)]  # fmt: skip
    return Ask("POST", path, {"rows": listed, **options})


def lots(rows: Iterable[Row], at_once: int = AT_ONCE) -> Iterator[list[Row]]:
    """Rows that go together: so many, and no more than so many bytes of files; files are looked at, not read."""
    lot: list[Row] = []
    size = 0
    for row in rows:
        own = sum(size_of(value) for value in row.values())
        if lot and (len(lot) >= at_once or size + own > BYTES_AT_ONCE):
            yield lot
            lot, size = [], 0
        lot.append(row)
        size += own
    if lot:
        yield lot


def size_of(value: object) -> int:
    if isinstance(value, Path):
        return value.stat().st_size if value.is_file() else 0
    if isinstance(value, bytes | bytearray | str):
        return len(value)
    size = getattr(value, "size", 0)  # of a PIL picture: width and height
    return 3 * size[0] * size[1] if isinstance(size, tuple) else 0


def given(**settings: Any) -> dict[str, Json]:
    return {name: value for name, value in settings.items() if value is not None}
