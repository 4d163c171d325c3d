"""The contracts between rooms. `polymodal.core.checks` holds one public checker for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np

from polymodal.core.schema import Json
from polymodal.core.seeds import Rng

if TYPE_CHECKING:  # readers import this file and stay free of torch
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

    from polymodal.core.streams import Answer, Cells, Embedded, Notes, Row, State, Stream, Streams, Target

Field = dict[str, Json]  # what fitting learned (vocabulary, statistics, classes, axes); plain JSON; shareable
Sample = dict[str, np.ndarray]  # one decoded cell: arrays by name
Gather = Callable[["Tensor"], "Tensor"]  # [B, ...] of this process -> [all B, ...] of the global batch
Records = dict[str, np.ndarray]  # columns over rows, each [n, ...]; how well every row was answered


class Prediction(NamedTuple):
    """One row's answer in the user's own terms."""

    value: Json
    confidence: float | None = None
    more: dict[str, Json] = {}  # noqa: RUF012  further columns, by their suffix after the task's name


class Archive(NamedTuple):
    """An array file whose items are an input's cells: a cell of the table is then the number of an item, from 0."""

    path: str  # of a .npy or .npz file; starts from the table's folder, as paths in cells do
    key: str | None = None  # the array's name in an .npz file; its only one when not given
    offsets: str | None = None  # another array of the .npz file: item i is array[offsets[i] : offsets[i + 1]]


@runtime_checkable
class Reader(Protocol):
    """One cell -> one sample; on CPU, in worker processes; fitted on training rows only; never imports torch.

    A cell is what the table holds: text, a number, the `bytes` of a file (when `files`; the data room opens files), an
    array, a PIL picture; or, when `record`, a dict from column name to cell. Missing cells never reach a reader.
    Calling is `finish(decode(cell), rng)`: `decode` is exact and may be cached, `finish` augments and normalises.

    Optional: `decode_all(cells)`, what `decode` gives for each of several cells, or the BadCell that it raises (as a
    value); it is used where it is there, and must be the same bit for bit.

    Optional: `archive`, an Archive when cells are numbers of items in one; the data room hands the reader the item.

    Optional: `folders`, True when text in a cell may name a folder; the reader is then handed the bytes of its files,
    a tuple in the natural order of their names.

    Optional: `corrupt(data, level, rng)`, collated cells [N, ...] as in `Cells.data`, with noise of a level from 0
    (unchanged) to 1 (next to nothing left); shapes, dtypes and masks stay.

    Optional: `stack_axis`, for every array of a sample the axis of its features (channels, bands, columns), and
    `stacked(readers)`, the field of what several fitted readers of the class read when it is joined along these axes;
    it raises SpecError where they do not go together. `blank` must then be zero after normalisation.

    Optional: `parts`, by name a reader and its columns, when a reader is made of others: a cell is then a dict from
    name to what that reader takes, None where it is missing.

    Optional: `incidental`, names of settings on which the meaning of a sample does not depend: how it is augmented,
    where the data lie. An encoder that starts from another run may be read with others than there.

    Optional: `fingerprints(cells, samples)`, some words of 64 bits for each decoded cell, and `alike`, how many of
    their bits may differ between cells that are nearly the same; see `core.fingerprints`.

    Optional: `traits(cells, samples)`, what a person could measure of each decoded cell, by name; see `core.traits`.
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
    ) -> Json: ...  # for a person: {"kind": "image" | "audio" | "text" | "table" | "several", "data": ...}
    def __call__(self, cell: object, rng: Rng | None = None) -> Sample: ...

    @property
    def augments(self) -> bool: ...  # False: finish(sample, rng) is finish(sample, None)


@runtime_checkable
class TargetReader(Protocol):
    """One target cell -> one sample of fixed shape; fitted on training rows only.

    Optional: `incidental`, as of a Reader; `adopt(cells, field)`, as `fit` where a decoder starts from another run: all
    on which its weights depend is taken from that run's field.
    """

    files: ClassVar[bool]
    field: Field | None

    def fit(self, cells: Iterable[object]) -> Field: ...
    def __call__(self, cell: object) -> Sample: ...  # raises BadCell(reason)
    def blank(self) -> Sample: ...


@runtime_checkable
class Encoder(Protocol):
    """N cells -> Stream of N rows, at the encoder's own width. An `nn.Module` called with `Cells.data`.

    Optional: `load_pretrained()` loads published weights before training; it is never called when a run is loaded.

    Optional: `covers`, how many steps of a cell (frames, words) after each other each token stands for, 0 where one
    token stands for all; 1 when it is not there.
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
class Decision(Protocol):
    """Late fusion: every input's own scores -> those of one answer. Built with `inputs`, `kind` and `size` wired.

    What scores are is the task's `kind`, see Joinable; `size` is K. It stands in a spec where a fusion may stand.
    """

    learns: bool  # has parameters, which learn from the joint answer's loss; said of the class and of the object

    def __call__(self, scores: Float[Tensor, "B N K"], present: Bool[Tensor, "B N"]) -> Float[Tensor, "B K"]: ...


@runtime_checkable
class Balance(Protocol):
    """How inputs are kept from starving each other while they learn. Built with `inputs`, `width`, `probes` wired.

    It sees streams at the common width, before attention, in training only: what it holds gives no answers. The streams
    that come out have the same values; their gradients may differ. `probes` are heads of the tasks for single inputs:
    `tasks.alone.Probes`.
    """

    def __call__(
        self, streams: Streams, targets: dict[str, Target], gather: Gather | None
    ) -> tuple[Streams, Notes]: ...


@runtime_checkable
class Paced(Protocol):
    """Optional for a balance: it weighs losses anew after some epochs, by how they fell."""

    def joint(self, loss: Float[Tensor, " B"]) -> Float[Tensor, " B"]: ...  # the value stays, the gradient is weighed
    def due(self, epochs: int) -> bool: ...  # whether it wants losses after so many epochs
    def learn(self, train: list[float], valid: list[float]) -> None: ...  # of each input by itself, of all together


@runtime_checkable
class Align(Protocol):
    """What brings inputs nearer to each other before they are joined. Built with `inputs` and `width_in` wired.

    It sees streams at the common width, before attention, and the cells they come from, in training only.
    """

    def __call__(self, streams: Streams, cells: dict[str, Cells], gather: Gather | None) -> Notes: ...


@runtime_checkable
class Weigh(Protocol):
    """How the losses of T tasks are weighed against each other. An `nn.Module` built with `tasks`, their names, wired.

    A task's fixed weight multiplies what it gives. What it learns lives in persistent buffers, which are the same in
    all processes: it is told mean losses over all rows. `known` says which tasks had a row with a target; the losses of
    the others are 0. A class with `together = True` needs the tasks in the same step.
    """

    def weights(self) -> Float[Tensor, " T"]: ...  # of the step that comes, without gradient
    def due(self, steps: int) -> bool: ...  # whether it wants norms of this step, which cost a backward pass a task
    def step(
        self, losses: Float[Tensor, " T"], norms: Float[Tensor, " T"] | None, known: Bool[Tensor, " T"]
    ) -> None: ...  # after it; norms of the gradients of the losses, not weighed, at the streams of the common width
    def epoch(self, losses: Float[Tensor, " T"], known: Bool[Tensor, " T"]) -> None: ...  # after it; means over steps


@runtime_checkable
class Decoder(Protocol):
    """Streams as one memory, and what was said so far -> scores of the next token. Built with `width`, `size`, `starts`
    wired, and `files` where it wants them.

    Tokens 0 ... size - 1 can be said; size ... size + starts - 1 begin a sentence, one for each language. `width` is
    the memory's. What stands after a row's end, and how much padding there is, changes nothing before it.

    Optional: `penalty(memory, ids, spoken)` [B], a term of the loss of each row; `spoken` [B L] says which steps count.
    Beside it, optional: `teach(memory, ids, spoken)`, the scores and the penalty from one pass.

    Optional: `wants(settings, files)`, a static method, as of an encoder: settings of the target reader `sentences`;
    `load_pretrained()`, as of an encoder.
    """

    def __call__(self, memory: Stream, ids: Int[Tensor, "B L"]) -> Float[Tensor, "B L V"]: ...  # what follows each
    def begin(self, memory: Stream, longest: int) -> State: ...  # nothing said yet; at most so many steps follow
    def step(self, state: State, ids: Int[Tensor, " B"]) -> tuple[Float[Tensor, "B V"], State]: ...
    def look(self, memory: Stream, ids: Int[Tensor, "B L"]) -> Float[Tensor, "B L S"] | None: ...  # where each looked


@runtime_checkable
class Task(Protocol):
    """Head, loss, prediction and metrics.

    Built with, where it wants them, `field`, `inputs`, `width` (of the fused stream), `width_in` (of the streams),
    `fields` (what the inputs' readers learned, by input, and the encoders' `covers`) and `files` (a folder for what
    pretrained parts need) wired.
    Of a target reader with a vocabulary also `size` and `starts`, see Decoder. `weight` is the same for a target as it
    was read and as `prepare` gives it back, unless the task `poses`: then only the latter counts.

    Optional: `forced`, True when its loss needs the target while answering (teacher forcing): where rows are measured,
    it is then called with the target for its loss, and `respond` gives what is scored.

    Optional: `poses`, True when it makes up its own questions: `prepare` is then used wherever it answers, without a
    target where none is known, and `respond` is given what it asked, `asked`.

    Optional: `mixes`, True when its questions join the cells of several rows: no single row can show its mistakes.

    Optional: `apart`, True when what it says of an input must not depend on the row's other inputs: no attention may
    join them before, and no fusion is needed.

    Optional: `alike`, True when the columns of an input mean the same: what a cell says is then the same in each.

    Optional: `whole`, True when the loss of a row depends on the other rows of a batch, and is a function of answer and
    target alone, without parameters: a batch can then be answered in pieces, see `work.cached`.

    Optional: `draws`, True when `respond` decodes: it is then given `key` [B], from which all chance must come, and
    the options that a user asks for.

    Optional, as for any module of a model: `progress(done)` is told before every step of the optimiser how much of the
    training is done, from 0 to 1.
    """

    reads: frozenset[str]  # of "tokens", "fused", "maps": nothing unread is built
    says: tuple[str, ...]  # what a prediction holds besides its value: "confidence", keys of `more`
    metric: str  # the measure that chooses the best epoch
    maximize: bool

    @staticmethod
    def target(settings: Json, files: Path) -> tuple[str, Json]: ...  # the target reader and its settings

    def prepare(
        self, inputs: dict[str, Cells], target: Target | None, key: Tensor
    ) -> tuple[dict[str, Cells], Target | None]: ...  # what is corrupted, and what is asked; before encoding
    def __call__(self, streams: Streams, fused: Stream, target: Target | None) -> Answer: ...
    def loss(self, answer: Answer, target: Target, gather: Gather | None) -> Float[Tensor, " B"]: ...
    def weight(self, target: Target) -> Float[Tensor, " B"]: ...  # how much each row counts in the loss; 0 = not at all
    def respond(self, streams: Streams, fused: Stream, **options: Any) -> Answer: ...  # decoding, sampling
    def predict(self, answer: Answer, rows: Sequence[Row]) -> list[Prediction]: ...
    def score(
        self, answer: Answer, target: Target
    ) -> Records: ...  # rows where present; columns [n, ...], with "error"
    def measure(self, records: Records, weights: Float[np.ndarray, "W n"]) -> dict[str, Float[np.ndarray, " W"]]: ...
    def charts(self, records: Records) -> list[Json]: ...  # plain data for the report: {"kind": "confusion", ...}


@runtime_checkable
class Calibrated(Protocol):
    """Optional for a task: its confidence is fitted once more, on validation rows, after the training.

    What is fitted lives in persistent buffers, is used in `predict` and `score`, and never changes an answer's value.
    """

    def calibrate(self, records: Records) -> Records: ...  # fits; the records as `score` gives them from now on
    def uncalibrated(self, records: Records) -> Records: ...  # as if it never had been
    def calibrated(self) -> dict[str, Json]: ...  # what was fitted: {"temperature": 1.3}
    def calibration(
        self, records: Records, weights: Float[np.ndarray, "W n"]
    ) -> dict[str, Float[np.ndarray, " W"]]: ...  # those measures that it moves


@runtime_checkable
class Bounded(Protocol):
    """Optional for a task: answers that hold the truth as often as wanted, by split conformal prediction.

    A row's region is every answer that is no stranger than a limit; `work.trust` finds the limit on validation rows.
    """

    bounds: tuple[str, ...]  # the columns of a region, by their suffix after the task's name: "set"; "low", "high"
    extent: str  # what its size is called among the measures: "set_size", "interval_width"

    def strangeness(self, records: Records) -> Float[np.ndarray, " n"]: ...  # of the truth, given the row
    def region(self, answer: Answer, limit: Float[np.ndarray, " B"]) -> list[dict[str, Json]]: ...  # by suffix
    def extents(self, records: Records, limit: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]: ...


@runtime_checkable
class Selective(Protocol):
    """Optional for a task: its answers are right or wrong, and `Prediction.confidence` says how sure they are."""

    def certainty(
        self, records: Records
    ) -> tuple[Float[np.ndarray, " n"], Bool[np.ndarray, " n"]]: ...  # the confidence; whether the answer is right


@runtime_checkable
class Embeds(Protocol):
    """Optional for a task: what rows hold is put into one space, where nearness can be searched.

    A vector depends on the cells it is made of, and on nothing else: not on the row's other inputs, nor on neighbours.

    Optional: `made_of(space, columns)`, the columns of a table that a space's vectors are made of, of all `columns` of
    each input; those of the input of that name when it is not there.
    """

    spaces: tuple[str, ...]  # what can be embedded, by name: inputs, or what the task makes of several ("user")
    dim: int  # E

    def embed(self, streams: Streams, fused: Stream | None) -> dict[str, Embedded]: ...  # by name, as in `spaces`


@runtime_checkable
class Joinable(Protocol):
    """Optional for a task: its answers can be turned into scores [B K] and back, so that several can be joined."""

    joins: Literal["class", "classes", "value"]  # log-probabilities of K classes; log-odds of each of K; K numbers
    size: int  # K

    def scores(self, answer: Answer) -> Float[Tensor, "B K"]: ...
    def joined(self, scores: Float[Tensor, "B K"]) -> Answer: ...  # log-probabilities need not be normalised
    def prior(self) -> Float[Tensor, " K"]: ...  # the scores of a row of which nothing is known
    def credit(self, answer: Answer, target: Target) -> Float[Tensor, " B"]: ...  # how near to the truth, 0 to 1


Answers = dict[str, np.ndarray]  # as `streams.Answer`, in numpy


class Given(NamedTuple):
    """One input of B rows as a baseline sees it: the table's cells, and what the input's own reader makes of them."""

    cells: list[list[object]]  # [B][K] as in the table, files as their paths; None = missing
    data: dict[str, np.ndarray]  # the distinct cells as read, each [N, ...]
    index: np.ndarray  # type: ignore[assignment]  # [B, K] (row, column) -> cell as read, -1 = missing


class Block(NamedTuple):
    """Some rows as a baseline sees them."""

    inputs: dict[str, Given]
    encode: Callable[[], Answers]  # by input, [B, W]: the encoders' tokens, frozen and pooled; zeros where missing
    rows: int


class Goal(NamedTuple):
    """What a baseline should learn to answer on n rows, all of which have a target."""

    kind: Literal["class", "classes", "value"]
    y: np.ndarray  # class: int64 [n], places in the task's classes; classes: bool [n, C]; value: float64 [n]
    classes: int  # C; 0 for a value
    score: Callable[[Answers, np.ndarray], float]  # of an answer for these of the n rows, by the task; larger = better


@runtime_checkable
class Baseline(Protocol):
    """A simple model beside which a trained one is measured.

    Built with `seed`, `types` (input -> the name of its reader: text, audio, ...) and `fields` (input -> what its
    reader learned) wired; libraries are imported when used. `features` is called block by block, `fit` with those of
    all training rows put together along the first axis. An answer is in the task's own terms: `logits` [n, C],
    log-probabilities for a class and log-odds for a set of classes, or `value` [n].
    """

    @staticmethod
    def takes(types: Sequence[str]) -> bool: ...  # whether it can be used on inputs of these types

    def features(self, block: Block) -> np.ndarray: ...  # [B, ...]; a row's own, whatever the other rows are
    def fit(self, features: np.ndarray, goal: Goal) -> Callable[[np.ndarray], Answers]: ...  # keeps nothing of it
