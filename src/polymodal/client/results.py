"""What a server answers, and what it answers when it cannot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from polymodal.core.errors import UserError
from polymodal.core.schema import Json


class ServerError(UserError):
    """What a server answered instead of an answer, or that there is none (`status` 0). `id` is the request's."""

    def __init__(self, status: int, where: str, problem: str, *, given: object = None, advice: str = "",
                 id: str | None = None) -> None:  # fmt: skip
        self.status, self.id = status, id
        super().__init__(where, problem, given=given, advice=advice)


class Input(NamedTuple):
    """An input of the run: its type, its columns, whether they are files."""

    type: str
    columns: list[str]
    file: bool


class TaskInfo(NamedTuple):
    """A task of the run: its type, the columns of its answer, its classes if it has any, whether it says sentences."""

    type: str
    says: list[str]
    classes: list[Json] | None
    speaks: bool


@dataclass(frozen=True)
class About:
    """What a server serves. `space` are the names that can be embedded; `index` is there where it can be searched."""

    name: str
    version: str
    inputs: dict[str, Input]
    tasks: dict[str, TaskInfo]
    space: list[str]
    index: dict[str, Json] | None
    limits: dict[str, Json]


@dataclass(frozen=True)
class Answer:
    """The answer to one row, by column as a prediction file has them; `id` is that of its request."""

    row: int
    values: dict[str, Json]
    error: str | None
    reason: dict[str, Json]
    id: str

    def __getitem__(self, name: str) -> Json:
        """`answer["label"]`, `answer["label.confidence"]`."""
        return self.values[name]

    def confidence(self, task: str) -> float | None:
        return self.values.get(f"{task}.confidence")


class Piece(NamedTuple):
    """Some words of a sentence that is being said."""

    task: str
    text: str


class Vectors(NamedTuple):
    """By space, for every row, its vectors: none where it holds nothing; and what could not be read of each row."""

    spaces: dict[str, list[list[list[float]]]]
    errors: list[str | None]


class Query(NamedTuple):
    """Something to search for: `input` is an input or a column of the run."""

    input: str
    value: object
    weight: float = 1.0


class Hit(NamedTuple):
    """A row that was found; `pictures` are the columns that `preview` can show."""

    id: str
    score: float
    row: dict[str, Json]
    pictures: list[str]
