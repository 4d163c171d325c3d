"""Real readers over real tables: what comes out of a dataset is what the reader says of the cell alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polymodal.core import catalog
from polymodal.core.settings import Data
from polymodal.data.cache import Cache
from polymodal.data.dataset import Dataset, InputPlan, TargetPlan
from polymodal.data.ledger import Ledger
from polymodal.data.loader import Loader
from polymodal.data.splits import Part, make_splits
from polymodal.data.tables import open_table

TABLES = {
    "mvsa_single": ("label", {"image": ["image"], "text": ["text"], "tabular": ["text_label", "fold"]}),
    "houses": ("zipcode", {"image": ["frontal", "kitchen"], "tabular": ["area", "bedrooms"]}),
    "fsdd": ("label", {"audio": ["audio"], "tabular": ["speaker"]}),
}


@pytest.mark.data
@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("limit", [None, 0, 64])
def test_batches_of_real_tables(real_data: Path, name: str, limit: int | None) -> None:
    target, columns = TABLES[name]
    table = open_table(real_data / name / "table.csv")
    part = Part(table, np.random.default_rng(0).choice(len(table), 40, replace=False))
    readers: dict[str, Any] = {kind: catalog.load("reader", kind, "test")() for kind in columns}
    label: Any = catalog.load("target", "label", "test")()
    plans = {kind: InputPlan(readers[kind], tuple(names)) for kind, names in columns.items()}
    cache = None if limit is None else Cache(limit)
    dataset = Dataset(part, plans, {"y": TargetPlan(label, (target,))}, ledger=Ledger(), cache=cache)
    label.fit(dataset.target_cells("y"))
    for kind, reader in readers.items():
        reader.fit(dataset.cells(kind))
    dataset.scan()
    assert not len(dataset.ledger)
    assert len(dataset.rows) == 40
    for step in Loader(dataset, batch=16, seed=0, shuffle=True, augment=False).epoch(0):
        batch, entries = step[0]
        assert batch is not None
        assert not entries
        for i, row in enumerate(batch.rows):
            assert batch.targets["y"].data["class"][i] == label(table.cell(row.number, target))["class"]
            for kind, reader in readers.items():
                for k, column in enumerate(columns[kind]):
                    if reader.record and k:
                        break
                    raw = table.cell(row.number, column)
                    cell = {c: table.cell(row.number, c) for c in columns[kind]} if reader.record else raw
                    cell = (table.root / str(raw)).read_bytes() if reader.files and table.root else cell
                    at = batch.inputs[kind].index[i, k]
                    for array, value in reader(cell).items():
                        found = batch.inputs[kind].data[array][at].numpy()
                        if array in reader.ragged:
                            mask = batch.inputs[kind].data[f"{array}_mask"][at].numpy()
                            assert mask.sum() == len(value)
                            assert not found[~mask].any()
                            found = found[mask]
                        assert np.array_equal(found, value), (kind, array)


@pytest.mark.data
def test_the_split_of_flickr8k(real_data: Path) -> None:
    table = open_table(real_data / "flickr8k" / "captions.csv")
    parts = make_splits(table, Data(split="column", split_column="split"), None, 0)
    assert {n: len(p.rows) for n, p in parts.items()} == {"train": 30000, "valid": 5000}
    parts = make_splits(table, Data(split="grouped", split_column="image"), None, 0)
    pictures = {n: {table.cell(int(r), "image") for r in p.rows} for n, p in parts.items()}
    assert not pictures["train"] & pictures["valid"]
    assert len(parts["valid"].rows) == 3500
