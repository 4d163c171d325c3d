"""The forward pass over small hand-made parts: missing cells, several columns, shared cells, frozen encoders."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from polymodal.core.contracts import Prediction
from polymodal.core.streams import Batch, Cells, Notes, Row, Stream, Streams, Target, check_stream, pool
from polymodal.model import Model, key, withhold


class Tokens(nn.Module):
    """Cells of 2 tokens x 3 numbers, through a linear layer and, if asked, batch normalisation."""

    channels: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()

    def __init__(self, width: int, norm: bool = False) -> None:
        super().__init__()
        self.width, self.linear = width, nn.Linear(3, width)
        self.norm = nn.BatchNorm1d(2) if norm else nn.Identity()
        self.runs = 0

    def forward(self, data: dict[str, Tensor]) -> Stream:
        self.runs += 1
        tokens = self.norm(self.linear(data["x"]))
        return Stream(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool))


class Mean(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, streams: Streams) -> tuple[Stream, Notes]:
        fused = torch.stack([pool(s.tokens, s.mask) for s in streams.values()]).sum(0)[:, None]
        return Stream(fused, torch.ones(fused.shape[:2], dtype=torch.bool)), Notes()


class Sum(nn.Module):
    reads = frozenset({"fused"})

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, 1)

    def prepare(self, inputs: Any, target: Any, key: Any) -> Any:
        return inputs, target

    def forward(self, streams: Streams, fused: Stream, target: Target | None) -> dict[str, Tensor]:
        return {"y": self.head(fused.tokens[:, 0])[:, 0]}

    def respond(self, streams: Streams, fused: Stream) -> dict[str, Tensor]:
        return self(streams, fused, None)

    def loss(self, answer: dict[str, Tensor], target: Target, gather: Any) -> Tensor:
        return (answer["y"] - target.data["y"]) ** 2

    def predict(self, answer: dict[str, Tensor], rows: Any) -> list[Prediction]:
        return [Prediction(float(y)) for y in answer["y"]]


def model(norm: bool = False, frozen: frozenset[str] = frozenset(), columns: int = 1) -> Model:
    torch.manual_seed(0)
    encoders = {"a.b": Tokens(4, norm), "items": Tokens(6)}
    return Model(encoders=encoders, columns={"a.b": columns, "items": 1}, width=6, tasks={"t": Sum(6)}, fusion=Mean(6),
                 frozen=frozen)  # fmt: skip


def batch(index: list[list[int]], cells: int, rows: int) -> Batch:
    g = torch.Generator().manual_seed(1)
    x, other = torch.randn(cells, 2, 3, generator=g), torch.randn(rows, 2, 3, generator=g)
    inputs = {
        "a.b": Cells({"x": x}, torch.tensor(index), torch.arange(cells)),
        "items": Cells({"x": other}, torch.arange(rows)[:, None], torch.arange(rows)),
    }
    target = Target({"y": torch.zeros(rows)}, torch.ones(rows, dtype=torch.bool))
    return Batch(inputs, {"t": target}, torch.arange(rows), tuple(Row(i) for i in range(rows)))


def test_free_names_become_keys() -> None:
    names = ["a.b", "keys", "", "图片", "a b", "_a", "a%2Eb", "train"]
    assert len({key(n) for n in names}) == len(names)
    nn.ModuleDict({key(n): nn.Identity() for n in names})


def test_rows_take_their_cells_and_nothing_else() -> None:
    m = model().eval()
    given = batch([[1], [0], [-1], [1]], cells=2, rows=4)
    out = m(given)
    stream = out.attended["a.b"]
    check_stream(stream, 4, 6)
    expected = m.entries["a.b"].project(m.encoders["a.b"].linear(given.inputs["a.b"].data["x"]))
    torch.testing.assert_close(stream.tokens[0], expected[1])
    torch.testing.assert_close(stream.tokens[1], expected[0])
    assert torch.equal(stream.tokens[0], stream.tokens[3])
    assert not stream.mask[2].any()
    assert not stream.tokens[2].any()


def test_several_columns_are_marked_and_lined_up() -> None:
    m = model(columns=3).eval()
    stream = m(batch([[0, 1, -1], [-1, -1, -1]], cells=2, rows=2)).attended["a.b"]
    check_stream(stream, 2, 6)
    assert stream.mask[0].tolist() == [True, True, True, True, False, False]
    marks = m.entries["a.b"].column.weight
    swapped = m(batch([[1, 0, -1], [-1, -1, -1]], cells=2, rows=2)).attended["a.b"]
    torch.testing.assert_close(stream.tokens[0, :2] - marks[0], swapped.tokens[0, 2:4] - marks[1])


def test_a_blank_cell_changes_neither_answers_nor_statistics_and_keeps_the_graph() -> None:
    m = model(norm=True).train()
    before = m.encoders["a.b"].norm.running_mean.clone()
    out = m(batch([[-1], [-1]], cells=1, rows=2))
    out.losses["t"].sum().backward()
    assert torch.equal(m.encoders["a.b"].norm.running_mean, before)
    assert m.encoders["a.b"].norm.training
    assert m.encoders["a.b"].linear.weight.grad is not None  # other processes may have cells: gradients must meet
    assert not m.encoders["a.b"].linear.weight.grad.any()
    m(batch([[0], [1]], cells=2, rows=2))
    assert not torch.equal(m.encoders["a.b"].norm.running_mean, before)


def test_a_row_with_nothing_at_all_is_finite() -> None:
    m = model().eval()
    given = withhold(withhold(batch([[0], [1]], cells=2, rows=2), "a.b"), "items")
    out = m(given)
    assert torch.isfinite(out.answers["t"]["y"]).all()
    assert torch.equal(out.answers["t"]["y"][0], out.answers["t"]["y"][1])


def test_frozen_encoders_stay_in_eval_without_gradients() -> None:
    m = model(norm=True, frozen=frozenset({"a.b"})).train()
    assert not m.encoders["a.b"].training
    assert m.encoders["items"].training
    m(batch([[0], [1]], cells=2, rows=2)).losses["t"].sum().backward()
    assert m.encoders["a.b"].linear.weight.grad is None
    assert m.entries["a.b"].project.weight.grad is not None


def test_encoded_streams_can_be_used_again() -> None:
    m = model().eval()
    given = batch([[0], [1]], cells=2, rows=2)
    whole = m(given)
    runs = m.encoders["a.b"].runs
    again = m(given, encoded=whole.encoded)
    assert m.encoders["a.b"].runs == runs
    assert torch.equal(whole.answers["t"]["y"], again.answers["t"]["y"])
