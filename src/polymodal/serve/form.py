"""What a person can fill in for a run: one field for each column that it reads."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from polymodal.assemble import Assembly
from polymodal.core.schema import Json

CHOICES = 500  # categories that are told; of more, the most frequent ones
KINDS = {"image": "picture", "audio": "sound", "video": "video"}


def form(assembly: Assembly) -> list[dict[str, Json]]:
    """The fields in the order of the inputs, each with `column`, `input`, and `kind`:

    `picture`, `sound`, `video`, `file` (any other), `text`, `date`, `number` with `typical`, what it was in training on
    average, where that is known, or `choice` with `choices`, the categories of the training rows, the most frequent
    first, and `more`, whether there were others.
    """
    fields: dict[str, dict[str, Json]] = {}  # two inputs may read one column
    for name, one in assembly.spec.inputs.items():
        reader: Any = assembly.readers[name]
        for member, columns in getattr(reader, "parts", {name: (reader, one.columns)}).values():
            for column, kind in _kinds(one.reader.type, member, columns):
                fields.setdefault(column, {"column": column, "input": name, **kind})
    return list(fields.values())


def _kinds(type_: str, reader: Any, columns: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Json]]]:
    known = _columns(reader) if reader.record else {}
    for column in columns:
        usual = {"kind": KINDS.get(type_, "file") if reader.files else "text"}
        yield column, known.get(column, usual)


def _columns(reader: Any) -> dict[str, dict[str, Json]]:
    """The columns of a table's record by what was seen of them in training."""
    field = reader.field or {}
    found: dict[str, dict[str, Json]] = {}
    for one in field.get("numeric", []):
        found[one["column"]] = {"kind": "number", **_typical(one)}
    for one in field.get("categorical", []):
        listed = one["categories"]
        found[one["column"]] = {"kind": "choice", "choices": listed[:CHOICES], "more": len(listed) > CHOICES}
    return found | {name: {"kind": "date"} for name in getattr(reader, "dates", [])}


def _typical(one: dict[str, Any]) -> dict[str, Json]:
    if "quantiles" in one:
        middle = one["quantiles"][len(one["quantiles"]) // 2]
    elif "mean" in one:
        middle = one["mean"]
    else:
        return {}
    return {"typical": math.copysign(math.expm1(abs(middle)), middle) if one["log"] else middle}
