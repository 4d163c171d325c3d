"""The contracts between rooms. `polymodal.core.checks` holds one public checker for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np

from polymodal.core.schema import Json
from polymodal.core.seeds import Rng

if TYPE_CHECKING:  # readers import this file and stay free of torch
    from jaxtyping import Float
    from torch import Tensor

    from polymodal.core.streams import Answer, Cells, Notes, Row, Stream, Streams, Target

Field = dict[str, Json]  # what fitting learned (vocabulary, statistics, classes, axes); plain JSON; shareable
Sample = dict[str, np.ndarray]  # one decoded cell: arrays by name
Gather = Callable[["Tensor"], "Tensor"]  # [B, ...] of this process -> [all B, ...] of the global batch
Records = dict[str, np.ndarray]  # columns over rows, each [n, ...]; how well every row was answered


class Prediction(NamedTuple):
    """One row's answer in the user's own terms."""

    value: Json
    confidence: float | None = None
    more: dict[str, Json] = {}  # noqa: RUF012  further columns, by their suffix after the task's name


@runtime_checkable
class Reader(Protocol):
    """One cell -> one sample; on CPU, in worker processes; fitted on training rows only; never imports torch.

    A cell is what the table holds: text, a number, the `bytes` of a file (when `files`; the data room opens files), an
    array, a PIL picture; or, when `record`, a dict from column name to cell. Missing cells never reach a reader.
    Calling is `finish(decode(cell), rng)`: `decode` is exact and may be cached, `finish` augments and normalises.
    """

    files: ClassVar[bool]  # text in a cell is the path of a file
    record: ClassVar[bool]  # all columns of the input make one cell (tables), instead of one cell each
    ragged: ClassVar[frozenset[str]]  # the sample's arrays whose first axis varies from cell to cell
    field: Field | None  # set by fit, or from a run folder

    def fit(self, cells: Iterable[object]) -> Field: ...  # sets self.field; bad cells are passed over
    def cost(self, cell: object) -> int: ...  # length without decoding (bytes or path for files): buckets, limits
    def decode(self, cell: object) -> Sample: ...  # raises BadCell(reason)
    def finish(self, sample: Sample, rng: Rng | None) -> Sample: ...  # rng = augment
    def blank(self) -> Sample: ...  # a valid, small, empty sample of the same names, dtypes and fixed axes
    def show(
        self, cell: object
    ) -> Json: ...  # for a person: {"kind": "image" | "audio" | "text" | "table", "data": ...}
    def __call__(self, cell: object, rng: Rng | None = None) -> Sample: ...

    @property
    def augments(self) -> bool: ...  # False: finish(sample, rng) is finish(sample, None)


@runtime_checkable
class TargetReader(Protocol):
    """One target cell -> one sample of fixed shape; fitted on training rows only."""

    files: ClassVar[bool]
    field: Field | None

    def fit(self, cells: Iterable[object]) -> Field: ...
    def __call__(self, cell: object) -> Sample: ...  # raises BadCell(reason)
    def blank(self) -> Sample: ...


@runtime_checkable
class Encoder(Protocol):
    """N cells -> Stream of N rows, at the encoder's own width. An `nn.Module` called with `Cells.data`.

    Optional: `load_pretrained()` loads published weights before training; it is never called when a run is loaded.
    """

    width: int
    channels: tuple[int, ...]  # of maps[1:], fine to coarse; () when there are none
    strides: tuple[int, ...]  # of maps[1:], in pixels of maps[0]

    @staticmethod
    def wants(settings: Json, files: Path) -> Json: ...  # reader settings it needs; may put files of its own in `files`

    def __call__(self, data: dict[str, Tensor]) -> Stream: ...


@runtime_checkable
class Attention(Protocol):
    """Streams -> streams of the same names and D. Built with `inputs` and `width` wired."""

    def __call__(self, streams: Streams) -> tuple[Streams, Notes]: ...


@runtime_checkable
class Fusion(Protocol):
    """Streams -> one stream: T = 1 when it pools, else the tokens of all. Built with `inputs` and `width` wired."""

    width: int  # of the fused stream

    def __call__(self, streams: Streams) -> tuple[Stream, Notes]: ...


@runtime_checkable
class Task(Protocol):
    """Head, loss, prediction and metrics. Built with `field`, `width` and `inputs` wired."""

    reads: frozenset[str]  # of "tokens", "fused", "maps": nothing unread is built
    says: tuple[str, ...]  # what a prediction holds besides its value: "confidence", keys of `more`
    metric: str  # the measure that chooses the best epoch
    maximize: bool

    @staticmethod
    def target(settings: Json) -> tuple[str, Json]: ...  # the target reader and its settings

    def prepare(self, inputs: dict[str, Cells], target: Target | None, key: Tensor) -> dict[str, Cells]: ...
    def __call__(self, streams: Streams, fused: Stream, target: Target | None) -> Answer: ...
    def loss(self, answer: Answer, target: Target, gather: Gather | None) -> Float[Tensor, " B"]: ...
    def weight(self, target: Target) -> Float[Tensor, " B"]: ...  # how much each row counts in the loss; 0 = not at all
    def respond(self, streams: Streams, fused: Stream, **options: Json) -> Answer: ...
    def predict(self, answer: Answer, rows: Sequence[Row]) -> list[Prediction]: ...
    def score(
        self, answer: Answer, target: Target
    ) -> Records: ...  # rows where present; columns [n, ...], with "error"
    def measure(self, records: Records, weights: Float[np.ndarray, "W n"]) -> dict[str, Float[np.ndarray, " W"]]: ...
    def charts(self, records: Records) -> list[Json]: ...  # plain data for the report: {"kind": "confusion", ...}
