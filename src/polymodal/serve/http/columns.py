"""What a run reads: its columns, and what a client may put into each."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from polymodal.assemble import Assembly
from polymodal.core.schema import Json

Holds = Literal["file", "series", "numbers", "text", "value"]
KNOWN = frozenset({"image", "text", "audio", "video", "tabular", "series"})


class Slot(NamedTuple):
    """A column. `holds`: a file; a series, as a file or as lists; numbers as text or lists; a text; a plain value."""

    name: str
    input: str
    type: str  # of the reader
    holds: Holds

    @property
    def file(self) -> bool:
        return self.holds in ("file", "series")


def slots(assembly: Assembly) -> dict[str, Slot]:
    """Every column that the run reads, by name. A column that any input takes for a file is one."""
    found: dict[str, Slot] = {}
    for name, one in assembly.spec.inputs.items():
        reader: Any = assembly.readers[name]
        for member, columns in getattr(reader, "parts", {name: (reader, one.columns)}).values():
            for column in columns:
                slot = Slot(column, name, one.reader.type, _holds(one.reader.type, member))
                if column not in found or (slot.file and not found[column].file):
                    found[column] = slot
    return found


def _holds(kind: str, reader: Any) -> Holds:
    if reader.files:
        return "series" if kind == "series" else "file"
    if kind == "series":
        return "numbers"
    return "text" if kind == "text" else "value"


def inputs(assembly: Assembly) -> dict[str, Json]:
    """What a person is told of the run's inputs."""
    known = slots(assembly)
    return {
        name: {
            "type": one.reader.type,
            "columns": list(one.columns),
            "file": any(known[column].file for column in one.columns),
            "label": name.replace("_", " "),
        }
        for name, one in assembly.spec.inputs.items()
    }


def tasks(assembly: Assembly, speaking: dict[str, bool]) -> dict[str, Json]:
    """What a person is told of the run's tasks."""
    found: dict[str, Json] = {}
    for name, task in assembly.model.tasks.items():
        classes = getattr(task, "classes", None)
        listed = list(classes) if isinstance(classes, list | tuple) else None
        found[name] = {
            "type": assembly.spec.tasks[name].part.type,
            "speaks": speaking[name],
            "says": [name, *(f"{name}.{suffix}" for suffix in task.says)],
            "classes": listed,
            "confidence": "confidence" in task.says,
        }
    return found
