"""Missing inputs as a contract: every attention with every fusion and decision of the catalogue, on every subset."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import reduce
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch

import polymodal
from polymodal import assemble
from polymodal.assemble import Assembly
from polymodal.core import catalog
from polymodal.core import spec as specs
from polymodal.core.seeds import generator
from polymodal.core.settings import Train
from polymodal.core.spec import Spec
from polymodal.core.streams import Batch
from polymodal.data.ledger import Ledger
from polymodal.data.loader import Loader
from polymodal.data.splits import Part
from polymodal.data.tables import open_table
from polymodal.model import withhold
from polymodal.work.collect import collect
from polymodal.work.runtime import Runtime

ROWS = 8
INPUTS = ("a", "b", "c")
SUBSETS = [gone for count in range(len(INPUTS) + 1) for gone in combinations(INPUTS, count)]
ATTENTIONS = [None, *catalog.PARTS["attention"]]
JOININGS = [*catalog.PARTS["fusion"], *catalog.PARTS.get("decision", {})]
CLOSE: dict[str, Any] = {"atol": 1e-6, "rtol": 1e-5}
Line = dict[str, Any]


def table(count: int = ROWS) -> list[Line]:
    """Complete rows: two numbers of each input, a class and a number that depend on all of them."""
    draw, made = generator("missing"), []
    for _ in range(count):
        values = draw.normal(size=6).round(3)
        row: Line = {f"{name}{k}": float(values[2 * i + k]) for i, name in enumerate(INPUTS) for k in (0, 1)}
        made.append({**row, "label": ["no", "yes", "maybe"][int(np.argmax(values[::2]))], "size": float(values.sum())})
    return made


def emptied(rows: Iterable[Line], gone: Iterable[str]) -> list[Line]:
    """The rows with empty cells in these inputs."""
    columns = {f"{name}{k}" for name in gone for k in (0, 1)}
    return [{n: None if n in columns else v for n, v in row.items()} for row in rows]


def plain(attention: str | None = None, fusion: str = "concat", **train: Any) -> Spec:
    """One input gives a token for each column, the others one; none has the common width but the last."""
    encoders = {"a": {"type": "ft_transformer", "width": 4, "layers": 1, "heads": 2}, "b": {"type": "mlp", "width": 6},
                "c": {"type": "mlp", "width": 8}}  # fmt: skip
    inputs = {n: {"type": "tabular", "columns": [f"{n}0", f"{n}1"], "numeric": [f"{n}0", f"{n}1"],
                  "encoder": encoders[n]} for n in INPUTS}  # fmt: skip
    return specs.parse({"inputs": inputs, "model": {"width": 8}, "attention": attention, "fusion": fusion,
                        "tasks": {"label": "classify", "size": "regress"},
                        "train": {"device": "cpu", "threads": 1, **train}})  # fmt: skip


@dataclass
class Fitted:
    """Readers that every model of this file shares, and what they read.

    `empty` are the rows once for each subset, with empty cells; `leaky` the same rows and subsets withheld by the
    index alone, with other content in the cells that no row shows; `mixed` one row of each subset.
    """

    assembly: Assembly
    runtime: Runtime
    batch: Batch
    empty: Batch
    leaky: Batch
    mixed: list[Batch]

    def learned(self, attention: str | None, fusion: str) -> Assembly:
        """A model after a few steps on complete rows; nothing was ever missing."""
        spec, known = specs.validate(plain(attention, fusion)), self.assembly
        model = assemble.make_model(spec, known.readers, known.targets, known.files, fresh=True).train()
        made = replace(known, spec=spec, model=model)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(3):
            optimizer.zero_grad()
            out = model(self.batch)
            torch.stack([loss.mean() for loss in (*out.losses.values(), *out.notes.losses.values())]).sum().backward()
            optimizer.step()
        model.eval()
        return made


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    rows = table()
    made = assemble.fit(plain(), Part(open_table(rows), np.arange(ROWS)), tmp_path_factory.mktemp("missing"))
    empty = whole(made, [row for gone in SUBSETS for row in emptied(rows, gone)])
    every = whole(made, rows * len(SUBSETS))
    mixed = [whole(made, emptied(rows[i : i + 1], gone)) for i, gone in enumerate(SUBSETS)]
    return Fitted(made, Runtime(Train(device="cpu", threads=1)), whole(made, rows), empty, _leaky(every), mixed)


def whole(assembly: Assembly, rows: list[Line]) -> Batch:
    """All these rows as one batch."""
    part = Part(open_table(rows), np.arange(len(rows)))
    batch, bad = assembly.dataset(part, Ledger(), targets=True).load(part.rows)
    assert batch is not None
    assert not bad
    return batch


def _leaky(batch: Batch) -> Batch:
    """Of rows that stand there once for each subset: a cell for each, other numbers in those that are withheld."""
    inputs = {}
    for name, cells in batch.inputs.items():
        hidden = torch.tensor([name in gone for gone in SUBSETS for _ in range(ROWS)])
        data = {k: v[cells.index[:, 0]] for k, v in cells.data.items()}
        data["numbers"] = torch.where(hidden[:, None], 1e3 - 7 * data["numbers"], data["numbers"])
        index = torch.arange(len(hidden))
        inputs[name] = cells._replace(data=data, index=torch.where(hidden, -1, index)[:, None], id=index)
    return batch._replace(inputs=inputs)


Answers = dict[str, torch.Tensor]


def answers(assembly: Assembly, batch: Batch) -> Answers:
    """Everything that the tasks say of the batch, by task and name."""
    with torch.no_grad():
        out = assembly.model(batch, respond=True)
    return {f"{task}.{n}": v for task, answer in out.answers.items() for n, v in answer.items()}


def assert_close(one: Answers, two: Answers, what: object) -> None:
    for name in two:
        torch.testing.assert_close(one[name], two[name], **CLOSE, msg=lambda m, n=name: f"{what}, {n}: {m}")


@pytest.mark.parametrize("fusion", JOININGS)
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_a_run_trained_on_complete_rows_answers_every_subset(
    attention: str | None, fusion: str, fitted: Fitted
) -> None:
    made = fitted.learned(attention, fusion)
    held = [answers(made, reduce(withhold, gone, fitted.batch)) for gone in SUBSETS]
    together = {name: torch.cat([one[name] for one in held]) for name in held[0]}
    assert all(bool(v.isfinite().all()) for v in together.values())
    assert_close(answers(made, fitted.empty), together, "empty cells")
    assert_close(answers(made, fitted.leaky), together, "other content in what is withheld")
    for i, row in enumerate(fitted.mixed):
        expected = {name: v[i : i + 1] for name, v in held[i].items()}
        assert_close(answers(made, row), expected, f"a row alone, without {SUBSETS[i]}")


@pytest.mark.parametrize("fusion", JOININGS)
def test_what_is_there_matters(fusion: str, fitted: Fitted) -> None:
    """What is withheld changes the answer, and so does what stands in a cell: the test above could fail."""
    made = fitted.learned(None, fusion)
    full = answers(made, fitted.batch)
    for name in INPUTS:
        cells = fitted.batch.inputs[name]
        other = cells._replace(data={**cells.data, "numbers": 3 - cells.data["numbers"]})
        for changed in (withhold(fitted.batch, name),
                        fitted.batch._replace(inputs={**fitted.batch.inputs, name: other})):  # fmt: skip
            found = answers(made, changed)
            assert any(not torch.allclose(found[k], full[k], atol=1e-4) for k in full), name


@pytest.mark.parametrize("fusion", JOININGS)
def test_withheld_in_evaluation_is_missing_in_the_table(fusion: str, fitted: Fitted) -> None:
    """The records of `evaluate` with inputs withheld are those of a table in which their cells are empty."""
    made = fitted.learned("bidirectional", fusion)

    def scan(rows: list[Line], withheld: Any = ()) -> Any:
        part = Part(open_table(rows), np.arange(len(rows)))
        dataset = made.dataset(part, Ledger(), targets=True)
        loader = Loader(dataset, batch=5, seed=0, shuffle=False, augment=False, buckets=False, workers=0)
        return collect(made.model, loader, fitted.runtime, withheld=withheld)

    some = [gone for gone in SUBSETS if gone]
    _, blind = scan(table(), some)
    empty, _ = scan([row for gone in some for row in emptied(table(), gone)])
    for task, records in empty.records.items():
        for name, column in records.items():
            held = np.concatenate([blind[gone].records[task][name] for gone in some])
            np.testing.assert_allclose(held, column, **CLOSE, err_msg=f"{task} {name}")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> polymodal.Run:
    rows = table(120)
    given = plain("bidirectional", "gated", epochs=2, batch=16).json()
    return polymodal.train(rows, spec=given, out=tmp_path_factory.mktemp("missing") / "run", quiet=True)


def test_evaluate_and_predict_of_a_stored_run_agree(run: polymodal.Run) -> None:
    again, rows = polymodal.load(run.folder), table(24)
    found = again.evaluate(rows)
    for name in INPUTS:
        empty = again.evaluate(emptied(rows, [name]), withheld=False)
        for task, measures in found.withheld[name].items():
            for measure, value in measures.items():
                told = empty.tasks[task].measures[measure]["value"]
                np.testing.assert_allclose(value["value"], told, **CLOSE, err_msg=f"{name} {task}.{measure}")
    for gone in SUBSETS:
        lines: Any = again.predict(emptied(rows, gone))
        assert [line["error"] for line in lines] == [None] * len(rows)
        assert all(np.isfinite(line["size"]) and 0 <= line["label.confidence"] <= 1 for line in lines)


def _dropped(batch: Batch) -> np.ndarray:
    """[rows, inputs]: what is missing, by row number."""
    order = np.argsort([row.number for row in batch.rows])
    return np.stack([(batch.inputs[n].index < 0).all(1).numpy() for n in INPUTS], 1)[order]


def _loads(assembly: Assembly, rows: list[Line], drop: float) -> Callable[..., np.ndarray]:
    part = Part(open_table(rows), np.arange(len(rows)))
    dataset = assembly.dataset(part, Ledger(), targets=True, drop=drop)

    def load(order: Any, **options: Any) -> np.ndarray:
        batch, _ = dataset.load(np.asarray(order), **options)
        assert batch is not None
        return _dropped(batch)

    return load


def test_dropped_inputs_are_a_function_of_seed_epoch_and_row(fitted: Fitted) -> None:
    load = _loads(fitted.assembly, table(400), 0.3)
    once = load(range(400), seed=1, epoch=2)
    assert np.array_equal(load(generator("order").permutation(400), seed=1, epoch=2), once), "whatever the order"
    parts = [load(range(start, start + 50), seed=1, epoch=2) for start in range(0, 400, 50)]
    assert np.array_equal(np.concatenate(parts), once), "whatever the batch"
    assert not np.array_equal(load(range(400), seed=1, epoch=3), once)
    assert not np.array_equal(load(range(400), seed=2, epoch=2), once)
    assert not once.all(1).any(), "something is always left"
    assert np.abs(once.mean(0) - (0.3 - 0.3**3 / 3)).max() < 0.07, "a third of 0.3 cubed is spared"


def test_what_is_dropped_or_missing_never_enters_a_batch(fitted: Fitted) -> None:
    """Cells that no row shows are not among those that are encoded."""
    rows = table(50)
    for row in rows[:25]:
        row["a0"] = row["a1"] = None
    part = Part(open_table(rows), np.arange(50))
    batch, _ = fitted.assembly.dataset(part, Ledger(), targets=True, drop=0.4).load(part.rows, seed=3)
    assert batch is not None
    gone = _dropped(batch)
    assert gone[:25, 0].all()
    assert not gone.all(1).any(), "the last input that is there is never dropped"
    for i, name in enumerate(INPUTS):
        cells = batch.inputs[name]
        assert len(cells.id) == (~gone[:, i]).sum(), "one cell for each row that shows it"
