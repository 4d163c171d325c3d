"""Every public checker lets a sound toy part pass and turns red for parts that are each broken in one way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from polymodal.core.checks import (
    check_attention,
    check_encoder,
    check_fusion,
    check_reader,
    check_target,
    check_task,
    streams_like,
)
from polymodal.core.contracts import Prediction
from polymodal.core.errors import BadCell
from polymodal.core.streams import Notes, Stream, Target, check_stream, pool

WIDTH = 4


def cells() -> dict[str, Tensor]:
    mask = torch.arange(5) < torch.tensor([5, 1, 3, 2])[:, None]
    x = torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(0))
    return {"x": x * mask[..., None], "x_mask": mask}


class Sound(nn.Module):
    """An encoder without fault: a linear layer, and the mean of the cell's own real tokens beside each."""

    channels: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        self.width, self.linear = WIDTH, nn.Linear(3, WIDTH)

    @staticmethod
    def wants(settings: Any, files: Any) -> Any:
        return {}

    def forward(self, data: dict[str, Tensor]) -> Stream:
        return self.stream(self.linear(data["x"]), data["x_mask"], data)

    def stream(self, tokens: Tensor, mask: Tensor, data: dict[str, Tensor]) -> Stream:
        return Stream((tokens + pool(tokens, mask)[:, None]) * mask[..., None], mask)


class LeaksPadding(Sound):
    def stream(self, tokens, mask, data):
        return Stream((tokens + tokens.mean(1, keepdim=True)) * mask[..., None], mask)


class SeesNeighbours(Sound):
    def stream(self, tokens, mask, data):
        return Stream((tokens - tokens.mean((0, 1))) * mask[..., None], mask)


class TurnsTheOrder(Sound):
    def stream(self, tokens, mask, data):
        return Stream((tokens * mask[..., None]).flip(0), mask.flip(0))


class DropsInEval(Sound):
    def stream(self, tokens, mask, data):
        return Stream(nn.functional.dropout(tokens, 0.5, training=True) * mask[..., None], mask)


class NotZeroWhereMasked(Sound):
    def stream(self, tokens, mask, data):
        return Stream(tokens, mask)


class NotFinite(Sound):
    def stream(self, tokens, mask, data):
        return Stream((tokens / 0) * mask[..., None], mask)


class WrongWidth(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.width = WIDTH + 1


class MaskOfNumbers(Sound):
    def stream(self, tokens, mask, data):
        return Stream(tokens * mask[..., None], mask.float())


class NoToken(Sound):
    def stream(self, tokens, mask, data):
        mask = mask & (mask.sum(1, keepdim=True) > 1)
        return Stream(tokens * mask[..., None], mask)


class LosesRows(Sound):
    def stream(self, tokens, mask, data):
        return Stream((tokens * mask[..., None])[1:], mask[1:])


class Unused(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.idle = nn.Linear(2, 2)


class InfiniteGradient(Sound):
    def stream(self, tokens, mask, data):
        return Stream((tokens + (tokens - tokens).abs().sqrt()) * mask[..., None], mask)


class NotSaved(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.secret = torch.rand(WIDTH)

    def stream(self, tokens, mask, data):
        return Stream((tokens + self.secret) * mask[..., None], mask)


class ChangesItsCells(Sound):
    def forward(self, data):
        stream = super().forward(data)
        data["x"].mul_(0.5)
        return stream


class LooksAtItsData(Sound):
    def stream(self, tokens, mask, data):
        return super().stream(tokens if data["x"].sum() > 1e9 else 2 * tokens, mask, data)


class WithoutWants(Sound):
    wants: Any = property()  # as if it had none


class NoModule:
    pass


class Maps(Sound):
    """An encoder of pictures [N 3 H W] with one level of stride 2."""

    channels, strides = (WIDTH,), (2,)

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.conv = None, nn.Conv2d(3, WIDTH, 3, 2, 1)

    def forward(self, data):
        x = self.conv(data["x"])
        tokens = x.flatten(2).transpose(1, 2)
        return Stream(tokens, torch.ones_like(tokens[..., 0], dtype=torch.bool), self.maps(data["x"], x))

    def maps(self, picture, x):
        return picture, x


class MapsOfAnotherSize(Maps):
    def maps(self, picture, x):
        return picture, x[..., :-1]


class MapsWithoutThePicture(Maps):
    def maps(self, picture, x):
        return (x,)


class MapsOfTheNeighbours(Maps):
    def maps(self, picture, x):
        return picture, x - x.mean(0)


class MoreStridesThanChannels(Maps):
    strides = (2, 4)


def test_sound_encoders_pass() -> None:
    check_encoder(Sound, cells())
    check_encoder(Maps, {"x": torch.randn(3, 3, 7, 9)})


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (LeaksPadding, "after more padding"),
        (SeesNeighbours, "cell 0 without the others"),
        (TurnsTheOrder, "after changing the order of the cells"),
        (DropsInEval, "after changing the order of the cells"),
        (NotZeroWhereMasked, "not zero where masked"),
        (NotFinite, "tokens are not finite"),
        (WrongWidth, "width 4, promised 5"),
        (MaskOfNumbers, r"mask is torch\.float32"),
        (NoToken, "a present cell has no token"),
        (LosesRows, "3 rows of tokens for 4 rows"),
        (Unused, r"parameter idle\.weight takes no part"),
        (InfiniteGradient, r"the gradient of linear\.weight is not finite"),
        (NotSaved, "after saving and loading"),
        (ChangesItsCells, "changed in place"),
        (LooksAtItsData, r"torch\.export"),
        (WithoutWants, "WithoutWants lacks wants"),
        (NoModule, r"NoModule is no nn\.Module"),
    ],
)
def test_broken_encoders(broken: type, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_encoder(broken, cells())


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (MapsOfAnotherSize, r"maps\[1\]: .*4, 4.*4, 5"),
        (MapsWithoutThePicture, "maps are not"),
        (MapsOfTheNeighbours, r"maps\[1\] of cell 0 without the others"),
        (MoreStridesThanChannels, "channels and strides differ"),
    ],
)
def test_broken_maps(broken: type, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_encoder(broken, {"x": torch.randn(3, 3, 7, 9)})


def test_too_few_cells_prove_nothing() -> None:
    with pytest.raises(AssertionError, match="at least three cells"):
        check_encoder(Sound, {k: v[:2] for k, v in cells().items()})


# fusion and attention

INPUTS = ("a", "b.c")


class Joins(nn.Module):
    """A fusion without fault."""

    def __init__(self) -> None:
        super().__init__()
        self.width, self.linear = WIDTH, nn.Linear(WIDTH, WIDTH)

    def forward(self, streams: dict[str, Stream]) -> tuple[Stream, Notes]:
        tokens = self.tokens(self.linear(self.joined(streams)), streams)
        return Stream(tokens[:, None], torch.ones(len(tokens), 1, dtype=torch.bool)), self.notes(streams)

    def joined(self, streams):
        return torch.stack([pool(s.tokens, s.mask) for s in streams.values()]).sum(0)

    def tokens(self, tokens, streams):
        return tokens

    def notes(self, streams):
        return Notes()


class CountsPadding(Joins):
    def joined(self, streams):
        return torch.stack([s.tokens.mean(1) for s in streams.values()]).sum(0)


class NormalisesTheBatch(Joins):
    def tokens(self, tokens, streams):
        return tokens - tokens.mean(0)


class SortsTheRows(Joins):
    def tokens(self, tokens, streams):
        return tokens.flip(0)


class DividesByNothing(Joins):
    def joined(self, streams):
        return torch.stack([s.tokens.sum(1) / s.mask.sum(1, keepdim=True) for s in streams.values()]).nansum(0) / (
            torch.stack([s.mask.any(1) for s in streams.values()]).any(0)[:, None].float()
        )


class Narrower(Joins):
    def tokens(self, tokens, streams):
        return tokens[:, 1:]


class OneLossForAll(Joins):
    def notes(self, streams):
        return Notes(losses={"balance": torch.zeros(())})


class IdleFusion(Joins):
    def __init__(self) -> None:
        super().__init__()
        self.idle = nn.Embedding(1, 2)


class ForgetfulFusion(Joins):
    def __init__(self) -> None:
        super().__init__()
        self.secret = torch.rand(WIDTH)

    def tokens(self, tokens, streams):
        return tokens + self.secret


class ChangesItsStreams(Joins):
    def joined(self, streams):
        joined = super().joined(streams)
        streams["a"].tokens.zero_()
        return joined


class BranchingFusion(Joins):
    def tokens(self, tokens, streams):
        return tokens if float(streams["a"].tokens.sum()) > 1e9 else 2 * tokens


class WithoutWidth(Joins):
    def __init__(self) -> None:
        super().__init__()
        del self.width


def test_a_sound_fusion_passes() -> None:
    check_fusion(Joins, streams_like(INPUTS, WIDTH))


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (CountsPadding, "after more padding"),
        (NormalisesTheBatch, "row 0 without the others"),
        (SortsTheRows, "after changing the order of the rows"),
        (DividesByNothing, "tokens are not finite"),
        (Narrower, "width 3, promised 4"),
        (OneLossForAll, "one number per row"),
        (IdleFusion, r"idle\.weight takes no part"),
        (ForgetfulFusion, "after saving and loading"),
        (ChangesItsStreams, "changed in place"),
        (BranchingFusion, r"torch\.export"),
        (WithoutWidth, "WithoutWidth lacks width"),
    ],
)
def test_broken_fusions(broken: type, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_fusion(broken, streams_like(INPUTS, WIDTH))


class Looks(nn.Module):
    """An attention without fault: the mean over all inputs beside every token."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, streams: dict[str, Stream]) -> tuple[dict[str, Stream], Notes]:
        mean = self.linear(torch.stack([pool(s.tokens, s.mask) for s in streams.values()]).sum(0))[:, None]
        return {n: self.one(s, mean) for n, s in streams.items()}, Notes()

    def one(self, s, mean):
        return Stream((s.tokens + mean) * s.mask[..., None], s.mask)


class Renames(Looks):
    def forward(self, streams):
        out, notes = super().forward(streams)
        return {f"{n}'": s for n, s in out.items()}, notes


class FillsWhatIsMissing(Looks):
    def one(self, s, mean):
        return Stream(s.tokens + mean, torch.ones_like(s.mask))


class Widens(Looks):
    def one(self, s, mean):
        return Stream(torch.cat([s.tokens, s.tokens], 2), s.mask)


class LeaksInLaterTokens(Looks):
    """The first two tokens are as they should be."""

    def one(self, s, mean):
        tokens = torch.cat([s.tokens[:, :2], s.tokens[:, 2:] - s.tokens[:, 2:].mean(0)], 1) + mean
        return Stream(tokens * s.mask[..., None], s.mask)


class CountsPaddingToo(Looks):
    def one(self, s, mean):
        return Stream((s.tokens + mean + s.tokens.mean(1, keepdim=True)) * s.mask[..., None], s.mask)


class BranchingAttention(Looks):
    def one(self, s, mean):
        return super().one(s, mean if s.tokens.sum() > 1e9 else 2 * mean)


def test_a_sound_attention_passes() -> None:
    check_attention(Looks, streams_like((*INPUTS, "d"), WIDTH))


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (Renames, "attention gives"),
        (FillsWhatIsMissing, "attention: a: the mask is not the one given"),
        (Widens, "width 8, promised 4"),
        (LeaksInLaterTokens, "row 0 without the others"),
        (CountsPaddingToo, "after more padding"),
        (BranchingAttention, r"torch\.export"),
    ],
)
def test_broken_attentions(broken: type, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_attention(broken, streams_like((*INPUTS, "d"), WIDTH))


# readers


class Numbers:
    """A reader without fault: numbers in a text, as shares of the largest one; augmenting adds noise."""

    files, record, ragged, augments = False, False, frozenset({"x"}), True

    def __init__(self) -> None:
        self.field: Any = None

    def fit(self, cells):
        self.field = {"most": self.most(cells)}
        return self.field

    def most(self, cells):
        found = []
        for cell in cells:
            try:
                found += self.parse(cell)
            except BadCell:
                continue
        return max(found)

    def parse(self, cell):
        try:
            return [float(word) for word in cell.split()]
        except (ValueError, AttributeError):
            raise BadCell(self.reason()) from None

    def reason(self):
        return "no numbers"

    def cost(self, cell):
        return len(cell)

    def decode(self, cell):
        return {"x": np.array(self.parse(cell), np.float32)}

    def finish(self, sample, rng):
        x = sample["x"] / self.field["most"]
        return {"x": (x if rng is None else x + rng.normal(size=len(x))).astype(np.float32)}

    def blank(self):
        return {"x": np.zeros(1, np.float32)}

    def show(self, cell):
        return {"kind": "text", "data": cell}

    def __call__(self, cell, rng=None):
        return self.finish(self.decode(cell), rng)


def broken_reader(**methods: Callable) -> type:
    """A reader with other methods, each given the reader and what the method is called with."""
    return type("Broken", (Numbers,), methods)


def fits(field: Callable[[float], Any], kept: bool = True) -> Callable:
    def fit(self, cells):
        found = field(self.most(cells))
        self.field = found if kept else None
        return found

    return fit


def remembering(self, cells):
    self.secret = 1.0
    return Numbers.fit(self, cells)


def in_place(self, sample, rng):
    sample["x"] /= self.field["most"]
    return {"x": sample["x"] if rng is None else (sample["x"] + rng.normal()).astype(np.float32)}


def of_the_machine(self, sample, rng):
    plain = Numbers.finish(self, sample, None)
    return plain if rng is None else {"x": (plain["x"] + np.random.default_rng().normal()).astype(np.float32)}


def only_here(self, sample, rng):
    return {"x": Numbers.finish(self, sample, rng)["x"] + np.float32(getattr(self, "secret", 0.0))}


GOOD, BAD = ["1 2 3", "4", "0.5 8"], ["one", None]
READERS = [
    ({"fit": fits(lambda most: {"most": np.float32(most)})}, "the field is not plain JSON: Object of type float32"),
    ({"fit": fits(lambda most: {"most": most, "pair": (1, 2)})}, "the field is not plain JSON"),
    ({"fit": fits(lambda most: {"most": most, "none": float("nan")})}, "the field is not plain JSON"),
    ({"fit": fits(lambda most: {"most": most}, kept=False)}, r"fit must set reader\.field"),
    ({"fit": remembering, "finish": only_here}, "cell 0 through a new reader with the same field: x differs"),
    ({"blank": lambda self: {"x": np.zeros(1)}}, "cell 0: .*float32.* blank: .*float64"),
    ({"blank": lambda self: {"y": np.zeros(1, np.float32)}}, "cell 0: .* blank: "),
    ({"ragged": frozenset()}, "cell 0: .* blank: "),
    ({"finish": in_place}, "cell 0.*(finish changed the decoded sample|augmented twice alike)"),
    ({"finish": of_the_machine}, "cell 0, augmented twice alike: x differs"),
    ({"augments": False}, "cell 0: augments is False: x differs"),
    ({"show": lambda self, cell: cell}, "show gives"),
    ({"show": lambda self, cell: {"kind": "text", "data": cell.encode()}}, "what show gives is not plain JSON"),
    ({"cost": lambda self, cell: 1.5}, "cost must be a whole number"),
    ({"cost": lambda self, cell: -1}, "cost must not be negative"),
    ({"decode": lambda self, cell: {"x": np.array(self.parse(cell)[1:], np.float32)}}, "cell 1: .* cell is empty"),
    ({"parse": lambda self, cell: [1.0]}, "bad cell 0 was read"),
    ({"reason": lambda self: ""}, "bad cell 0 was read, or refused without a reason"),
    ({"cost": property()}, "Broken lacks cost"),
]  # fmt: skip


def test_a_sound_reader_passes() -> None:
    check_reader(Numbers, GOOD, BAD)


@pytest.mark.parametrize(("methods", "message"), READERS)
def test_broken_readers(methods: dict, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_reader(lambda: broken_reader(**methods)(), GOOD, BAD)


class Share(Numbers):
    """A target reader without fault: the first number as a share of the largest one."""

    def __call__(self, cell, rng=None):
        return {"x": np.array(self.parse(cell)[0] / self.field["most"], np.float32)}

    def blank(self):
        return {"x": np.zeros((), np.float32)}

    ragged: Any = property()  # target readers have none


def ragged_target(self, cell):
    return {"x": np.array(self.parse(cell), np.float32)}


TARGETS = [
    ({"fit": fits(lambda most: {"most": np.float32(most)})}, "the field is not plain JSON"),
    ({"fit": fits(lambda most: {"most": most}, kept=False)}, r"fit must set reader\.field"),
    ({"__call__": ragged_target, "blank": lambda self: {"x": np.zeros(3, np.float32)}}, "cell 1: .* blank: "),
    ({"blank": lambda self: {"x": np.zeros((), np.int64)}}, "cell 0: .* blank: "),
    ({"fit": remembering, "__call__": lambda self, cell: {"x": np.array(getattr(self, "secret", 0), np.float32)}},
     "cell 0 through a new reader"),
    ({"parse": lambda self, cell: [1.0]}, "bad cell 0 was read"),
    ({"blank": property()}, "Broken lacks blank"),
]  # fmt: skip


def test_a_sound_target_reader_passes() -> None:
    check_target(Share, GOOD, BAD)


@pytest.mark.parametrize(("methods", "message"), TARGETS)
def test_broken_target_readers(methods: dict, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_target(lambda: type("Broken", (Share,), methods)(), GOOD, BAD)


# tasks


class Guess(nn.Module):
    """A task without fault: a number from the fused vector."""

    reads, says, metric, maximize = frozenset({"fused"}), (), "mae", False

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(WIDTH, 1)

    @staticmethod
    def target(settings, files):
        return "number", {}

    def prepare(self, inputs, target, key):
        return inputs, target

    def forward(self, streams, fused, target):
        return {"y": self.head(pool(fused.tokens, fused.mask))[:, 0]}

    def loss(self, answer, target, gather):
        return (answer["y"] - target.data["y"]) ** 2

    def weight(self, target):
        return target.present.float()

    def respond(self, streams, fused, **options):
        return self(streams, fused, None)

    def predict(self, answer, rows):
        return [Prediction(y) for y in answer["y"].tolist()]

    def score(self, answer, target):
        error = (answer["y"] - target.data["y"]).abs()[target.present]
        return {"error": error.double().numpy()}

    def measure(self, records, weights):
        return {"mae": (records["error"] * weights).sum(1) / weights.sum(1)}

    def charts(self, records):
        return []


def mean_of_all(self, records, weights):
    return {"mae": np.full(len(weights), records["error"].mean())}


def with_everybody(self, answer, target):
    return {"error": (answer["y"] - target.data["y"]).abs().double().numpy()}


def less_the_batch(self, streams, fused, target):
    answer = Guess.forward(self, streams, fused, target)
    return {"y": answer["y"] - answer["y"].mean()}


def with_padding(self, streams, fused, target):
    return {"y": self.head(fused.tokens.mean(1))[:, 0]}


def secretly(self, streams, fused, target):
    self.secret = getattr(self, "secret", None) or float(torch.rand(()))
    return {"y": Guess.forward(self, streams, fused, target)["y"] + self.secret}


def square_root(self, answer, target, gather):
    return (answer["y"] - answer["y"]).abs().sqrt() + answer["y"]


TASKS = [
    ({"reads": frozenset({"pictures"})}, "reads frozenset"),
    ({"forward": lambda self, s, fused, t: {"y": self.head(fused.tokens[1:, 0])[:, 0]}}, "one row per row"),
    ({"loss": lambda self, answer, t, g: Guess.loss(self, answer, t, g).mean()}, r"loss \(\) and weight \(5,\)"),
    ({"weight": lambda self, target: torch.ones(())}, r"loss \(5,\) and weight \(\)"),
    ({"loss": lambda self, answer, t, g: answer["y"] / 0}, "the loss is not finite"),
    ({"loss": square_root}, r"the gradient of head\.weight is not finite"),
    ({"weight": lambda self, target: torch.ones(len(target.present))}, "a row without a target counts"),
    ({"loss": lambda self, answer, t, g: t.data["y"]}, r"parameter head\.weight takes no part"),
    ({"predict": lambda self, answer, rows: [Prediction(0.0)]}, "1 predictions for 5 rows"),
    ({"predict": lambda self, answer, rows: answer["y"].tolist()}, "predictions must be Prediction"),
    ({"predict": lambda self, answer, rows: [Prediction(y) for y in answer["y"]]}, "a prediction is not plain JSON"),
    ({"predict": lambda self, answer, rows: [Prediction(float("nan"))] * 5}, "a prediction is not plain JSON"),
    ({"forward": less_the_batch}, "y of row 0 without the others"),
    ({"forward": with_padding}, "y after more padding"),
    ({"score": with_everybody}, "one record per row with a target"),
    ({"score": lambda self, answer, target: {"wrong": np.zeros(3)}}, "records lack the column 'error'"),
    ({"score": lambda self, answer, target: {"error": np.zeros((3, 2))}}, "not one number per row"),
    ({"metric": "accuracy"}, "measures lack 'accuracy'"),
    ({"measure": lambda self, records, weights: {"mae": float(records["error"].mean())}}, "one value per weighting"),
    ({"measure": mean_of_all}, "mae: a weight of 2 is not a row twice"),
    ({"charts": lambda self, records: [{"bars": records["error"]}]}, "charts is not plain JSON"),
    ({"forward": secretly}, "after saving and loading"),
    ({"charts": property()}, "Broken lacks charts"),
]


def asked() -> tuple[dict[str, Stream], Stream, Target]:
    streams = streams_like(INPUTS, WIDTH, rows=5)
    target = Target({"y": torch.arange(5.0)}, torch.tensor([True, False, True, True, False]))
    return streams, streams["b.c"], target


def test_a_sound_task_passes() -> None:
    check_task(Guess, *asked())


@pytest.mark.parametrize(("methods", "message"), TASKS)
def test_broken_tasks(methods: dict, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_task(lambda: type("Broken", (Guess,), methods)(), *asked())


@pytest.mark.parametrize(("present", "message"), [(True, "without a target"), (False, "with a target")])
def test_targets_that_prove_nothing(present: bool, message: str) -> None:
    streams, fused, target = asked()
    with pytest.raises(AssertionError, match=f"at least one row {message}"):
        check_task(Guess, streams, fused, target._replace(present=torch.full((5,), present)))


# streams

X, M = torch.zeros(2, 3, WIDTH), torch.ones(2, 3, dtype=torch.bool)


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (Stream(X[0], M), r"must be \[B T D\]"),
        (Stream(X.long(), M), r"tokens are torch\.int64"),
        (Stream(X, M[:, :2]), r"mask \(2, 2\) beside tokens \(2, 3, 4\)"),
        (Stream(X, M, (X,)), r"maps\[0\] must be \[B C H W\]"),
        (Stream(X, M, (torch.zeros(3, 1, 2, 2),)), r"maps\[0\] has 3 rows for 2"),
    ],
)
def test_broken_streams(stream: Stream, message: str) -> None:
    check_stream(Stream(X, M, (torch.zeros(2, 1, 2, 2),)), 2, WIDTH)
    with pytest.raises(AssertionError, match=message):
        check_stream(stream, 2, WIDTH)


def test_streams_for_checkers_have_what_they_promise() -> None:
    streams = streams_like(INPUTS, WIDTH, rows=4)
    assert [s.tokens.shape[1] for s in streams.values()] == [2, 3]
    assert all(s.mask[0].all() for s in streams.values())
    assert streams["a"].mask.any(1).tolist() == [True, False, True, True]
    for stream in streams.values():
        check_stream(stream, 4, WIDTH)
