"""What clients send, as pydantic models: those of rows are made for the run, so that OpenAPI tells its columns."""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model

from polymodal.core.errors import shorten
from polymodal.serve.http.columns import Slot
from polymodal.serve.http.problems import Problem
from polymodal.serve.http.settings import ServeSettings

BASE64 = "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
FILE = 'send the file itself: {"base64": "..."}, or as a part of multipart/form-data; nothing is opened or fetched'
CHOICES = ("constrained-", "list[", "dict[", "function-", "nullable")  # how pydantic names them
HELD = {"file": "a file", "series": "a file, or lists of numbers", "numbers": "numbers, as text or lists",
        "text": "a text", "value": "a number, a text, true or false"}  # fmt: skip
Cells = dict[str, Any]  # column -> cell, files as bytes
Number = Annotated[float, Field(allow_inf_nan=False)] | None
Whole = Annotated[int, Field(ge=-(2**63), lt=2**63)]
INTEGRAL = BeforeValidator(lambda given: int(given) if isinstance(given, float) and given.is_integer() else given)
Short = Annotated[str, Field(max_length=4096)]


class Strict(BaseModel):
    """Unknown names are mistakes; numbers are not made of text."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)


class File(Strict):
    """A file's bytes."""

    base64: str = Field(json_schema_extra={"pattern": BASE64, "contentEncoding": "base64"}, examples=["SGVsbG8="])
    name: Short | None = Field(None, description="Its name, for people; it is not opened.", examples=["a.png"])

    def content(self, where: str) -> bytes:
        """Raises Problem."""
        try:
            return binascii.a2b_base64(self.base64.encode("ascii"), strict_mode=True)
        except (binascii.Error, UnicodeEncodeError) as error:
            raise Problem(422, f"{where}.base64", f"is no base64: {error}", given=self.base64) from None


def cell(slot: Slot, settings: ServeSettings) -> Any:
    """The type of a column's cells."""
    text = Annotated[str, Field(max_length=settings.text)]
    lists = list[Number] | list[list[Number]]
    kinds: dict[str, Any] = {
        "file": File | None,
        "series": File | lists | dict[str, list[Number]] | None,
        "numbers": text | lists | dict[str, list[Number]] | None,
        "text": text | Whole | float | bool | None,
        "value": text | Whole | float | bool | None,
    }
    return kinds[slot.holds]


class Rows:
    """The model of a row, and how what it holds becomes cells."""

    def __init__(self, slots: Mapping[str, Slot], settings: ServeSettings) -> None:
        self.slots = dict(slots)
        self.names = {f"c{at}": name for at, name in enumerate(self.slots)}
        made: dict[str, Any] = {
            field: (cell(self.slots[name], settings), Field(None, alias=name, description=_about(self.slots[name])))
            for field, name in self.names.items()
        }
        self.Row = create_model("Row", __base__=Strict, __doc__="A row: what is left out is missing.", **made)
        example = {name: _example(slot) for name, slot in self.slots.items()}
        self.Row.model_config["json_schema_extra"] = {"examples": [example]}
        self.example = example

    def cells(self, row: BaseModel, where: str) -> Cells:
        """A row as the run's readers take it. Raises Problem."""
        found: Cells = {}
        for field, name in self.names.items():
            value = getattr(row, field)
            if value is not None:
                found[name] = value.content(f"{where}.{name}") if isinstance(value, File) else value
        return found


def _about(slot: Slot) -> str:
    return f"input {slot.input}, {slot.type}: {HELD[slot.holds]}"


def _example(slot: Slot) -> Any:
    if slot.holds == "file":
        return {"base64": "SGVsbG8="}
    return (
        [0.5, 1.5, 2.0] if slot.holds in ("series", "numbers") else "a dog on the beach" if slot.holds == "text" else 3
    )


def asking(settings: ServeSettings, rows: Rows, *, most: int, draws: bool, sets: bool, abstains: bool) -> type[Strict]:
    """The body of `predict`; what the run cannot do is not in it."""
    made: dict[str, Any] = {"rows": (Annotated[list[rows.Row], Field(min_length=1, max_length=most)], ...)}  # type: ignore[name-defined]
    if draws:
        made["respond"] = (respond(settings) | None, None)
        made["seed"] = (Annotated[int, Field(ge=0, lt=2**63), INTEGRAL], Field(0, description="Of drawing by lot."))
    level = Annotated[float, Field(ge=1e-6, le=1 - 1e-6)] | None
    if sets:
        made["sets"] = (level, Field(None, description="Also sets that hold the truth in this share of rows."))
    if abstains:
        made["abstain"] = (level, Field(None, description="The accuracy wanted of the rows that are answered."))
    made["reason"] = (bool, Field(False, description="Also why each row was answered so."))
    model = create_model("Predict" if most > 1 else "Stream", __base__=Strict, **made)
    model.model_config["json_schema_extra"] = {"examples": [{"rows": [rows.example]}]}
    return model


def respond(settings: ServeSettings) -> type[Strict]:
    """How sentences are said this time; see docs/decoding.md."""
    made: dict[str, Any] = {
        "search": Literal["greedy", "beam", "sample"],
        "beams": Annotated[int, Field(ge=1, le=settings.beams), INTEGRAL],
        "length_penalty": Annotated[float, Field(ge=-100, le=100)],
        "temperature": Annotated[float, Field(gt=0, le=100)],
        "top_p": Annotated[float, Field(gt=0, le=1)],
        "top_k": Annotated[int, Field(ge=0, le=1_000_000), INTEGRAL],
        "max_tokens": Annotated[int, Field(ge=1, le=settings.tokens), INTEGRAL],
    }
    optional: dict[str, Any] = {name: (kind | None, None) for name, kind in made.items()}
    return create_model("Respond", __base__=Strict, **optional)


def embedding(settings: ServeSettings, rows: Rows) -> type[Strict]:
    """The body of `embed`."""
    rows_of = Annotated[list[rows.Row], Field(min_length=1, max_length=settings.rows)]  # type: ignore[name-defined]
    model = create_model("Embed", __base__=Strict, rows=(rows_of, ...))
    model.model_config["json_schema_extra"] = {"examples": [{"rows": [rows.example]}]}
    return model


def searching(settings: ServeSettings, slots: Mapping[str, Slot]) -> type[Strict]:
    """The body of `search`."""
    shown = next((s for s in slots.values() if s.holds == "text"), next(iter(slots.values())))
    text = Annotated[str, Field(max_length=settings.text)]
    few = Annotated[list[Short], Field(max_length=100)]
    asked: dict[str, Any] = {
        "input": (Short, Field(description="An input or column.", examples=[shown.input])),
        "value": (File | text | Whole | float, Field(examples=[_example(shown)])),
        "weight": (Annotated[float, Field(ge=-1000, le=1000)], 1.0),
    }
    query: Any = create_model("Query", __base__=Strict, **asked)
    made: dict[str, Any] = {
        "queries": (Annotated[list[query], Field(max_length=16)], []),
        "k": (Annotated[int, Field(ge=1, le=settings.hits), INTEGRAL], 10),
        "where": (Short | None, Field(None, description="Such as price < 50 and brand = 'Acme'.")),
        "words": (Short | None, Field(None, description="Rows that hold these words.")),
        "like": (few, Field([], description="ids of rows to come near to.")),
        "unlike": (few, Field([], description="ids of rows to keep away from.")),
        "offset": (Annotated[int, Field(ge=0, le=10_000), INTEGRAL], 0),
        "space": (Short | None, Field(None, description="What of the rows is compared; the index's first when null.")),
        "exact": (bool, Field(False, description="Compare with every row.")),
    }
    return create_model("Search", __base__=Strict, **made)


def read(model: type[BaseModel], data: bytes, slots: Mapping[str, Slot]) -> Any:
    """The body of a request. Raises Problem."""
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        raise _told(error, slots) from None


def checked(model: type[BaseModel], plain: Any, slots: Mapping[str, Slot]) -> Any:
    """As `read`, of what was parsed already."""
    try:
        return model.model_validate(plain)
    except ValidationError as error:
        raise _told(error, slots) from None


def _told(error: ValidationError, slots: Mapping[str, Slot]) -> Problem:
    """The first thing that is wrong."""
    listed = error.errors(include_url=False, include_context=False)
    first = listed[0]
    place = [str(step) for step in first["loc"] if not _is_choice(step)]
    where = ".".join(place) or "body"
    problem = first["msg"][0].lower() + first["msg"][1:]
    if first["type"] == "json_invalid":
        return Problem(400, "body", problem, advice="one JSON object")
    given = first.get("input")
    slot = next((slots[step] for step in reversed(place) if step in slots), None)
    if first["type"] == "extra_forbidden":
        return Problem(422, where, "no column or option of this name", given=place[-1],
                       advice=f"columns: {shorten(list(slots), 300)}")  # fmt: skip
    if slot is not None and slot.file and place[-1] == slot.name:
        return Problem(422, where, f"is a file of input {slot.input!r}, not {type(given).__name__}", given=given,
                       advice=FILE)  # fmt: skip
    if slot is not None and place[-1] == slot.name and len(listed) > 1:
        problem = f"must be {HELD[slot.holds]}"
    return Problem(422, where, problem, given=None if isinstance(given, dict | list) else given)


def _is_choice(step: int | str) -> bool:
    """Whether a step of a place only names one of several types."""
    return isinstance(step, str) and (step in ("str", "int", "float", "bool", "File") or step.startswith(CHOICES))
