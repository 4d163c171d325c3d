"""Tasks that compare inputs: what must not join them before they are compared."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from polymodal.core import catalog
from polymodal.core.errors import SpecError, suggest
from polymodal.core.spec_parts import PartSpec


def check_apart(tasks: Iterable[Any], attention: PartSpec | None, fusion: PartSpec | None, inputs: int) -> None:
    """Raise SpecError where an attention joins inputs that a task compares, or a task lacks the fusion it needs."""
    for task in tasks:
        part: PartSpec = task.part
        apart = getattr(catalog.load(part.kind, part.type, f"{part.where}.type"), "apart", False)
        if apart and attention is not None and attention.type != "none":
            problem = f"joins the inputs that {part.where} ({part.type}) compares; none may depend on another"
            raise SpecError("attention.type", problem, given=attention.type, advice="attention: none, or another task")
        if not apart and fusion is None and inputs > 1:
            advice = f"fusion: concat, {suggest('', catalog.choices('fusion'))}"
            raise SpecError("fusion", f"{part.where} needs a way of joining the inputs", advice=advice)
