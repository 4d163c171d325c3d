"""A row as multipart/form-data: a part for each column, files as files, and `options` for the rest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from polymodal.serve.http import bodies
from polymodal.serve.http.bodies import FILE, Cells
from polymodal.serve.http.columns import Slot
from polymodal.serve.http.problems import Problem

PARTS = 1000
OPTIONS = "options"


def is_form(request: Request) -> bool:
    """Whether the body is a form; else it is JSON. Raises Problem for anything else."""
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return True
    if kind != "application/json":
        raise Problem(415, "content-type", "is not taken here", given=kind,
                      advice="application/json, or multipart/form-data")  # fmt: skip
    return False


async def parts(request: Request, most: int) -> FormData:
    """The parts of a form. Raises Problem."""
    try:
        return await request.form(max_files=PARTS, max_fields=PARTS, max_part_size=most)
    except HTTPException as error:
        raise Problem(400, "body", f"is no form: {error.detail}") from None


async def row(form: FormData, rows: bodies.Rows, model: type[BaseModel]) -> tuple[Any, list[Cells]]:
    """The options as a body of `model`, and the cells of the row. Raises Problem."""
    files, plain = await told_apart(form, rows.slots)
    options = plain.pop(OPTIONS, None) if OPTIONS not in rows.slots else None
    body = bodies.checked(model, {**parsed(options), "rows": [plain]}, rows.slots)
    return body, [rows.cells(body.rows[0], "rows.0") | files]


def parsed(options: str | None) -> dict[str, Any]:
    """The JSON of `options`. Raises Problem."""
    try:
        found = json.loads(options or "{}")
    except (ValueError, RecursionError):
        raise Problem(400, OPTIONS, "is not JSON", given=options, advice='{"reason": true}') from None
    if not isinstance(found, dict) or found.keys() & {"rows", "queries"}:
        raise Problem(422, OPTIONS, "is no JSON object of options", given=options, advice='{"reason": true}')
    return found


async def told_apart(form: FormData, slots: Mapping[str, Slot]) -> tuple[Cells, dict[str, Any]]:
    """Cells that are files, and texts by name; what is empty is missing."""
    files: Cells = {}
    plain: dict[str, Any] = {}
    for name, value in form.multi_items():
        if name in files or name in plain:
            raise Problem(422, name, "stands twice in the form", advice="one row in a form; several as JSON")
        slot = slots.get(name)
        if isinstance(value, UploadFile):
            if slot is None or not slot.file:
                raise Problem(422, name, "no column of files of this name", given=name,
                              advice=f"columns of files: {[n for n, s in slots.items() if s.file]}")  # fmt: skip
            content = await value.read()
            if content:
                files[name] = content
        elif slot is not None and slot.file and value:
            raise Problem(422, name, f"is a file of input {slot.input!r}, not text", given=value, advice=FILE)
        elif value:
            plain[name] = value
    return files, plain
