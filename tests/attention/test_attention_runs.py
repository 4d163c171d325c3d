"""Every attention in a whole run: trained for an epoch, saved, loaded, asked about rows that lack an input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import polymodal
from polymodal import assemble
from polymodal.core import catalog
from polymodal.core.errors import SpecError

SETTINGS = {"bidirectional": {"layers": 1}, "hierarchical": {"window": 2}, "bottleneck": {"tokens": 2}}
CASES = [*({"type": n, **SETTINGS.get(n, {})} for n in catalog.PARTS["attention"]), {"type": "co", "form": "parallel"}]


def table(rows: int = 32) -> dict[str, list]:
    g = np.random.default_rng(0)
    x, y = g.normal(size=(2, rows)).tolist()
    words = [" ".join(g.choice(["up", "down", "left"], size=g.integers(1, 5))) for _ in range(rows)]
    return {"x": x, "y": y, "words": [*words[:-3], None, None, "up"], "label": [("a", "b")[v > 0] for v in x]}


def plan(attention: object) -> dict:
    return {
        "data": {"valid": 0.25},
        "inputs": {
            "the.numbers": {"type": "tabular", "columns": ["x", "y"],
                            "encoder": {"type": "ft_transformer", "width": 8, "heads": 2, "layers": 1}},
            "words": {"type": "text", "min_count": 1, "encoder": {"type": "gru", "width": 4}},
        },
        "attention": attention,
        "fusion": "concat",
        "tasks": {"label": "classify"},
        "train": {"epochs": 1, "batch": 8, "device": "cpu", "threads": 1, "warmup": 0},
    }  # fmt: skip


@pytest.mark.parametrize("attention", CASES, ids=lambda a: "-".join(map(str, a.values())))
def test_a_tiny_run(attention: dict, tmp_path: Path) -> None:
    run = polymodal.train(table(), spec=plan(attention), out=tmp_path / "run", quiet=True)
    assert 0 <= run.metrics["valid"]["tasks"]["label"]["accuracy"]["value"] <= 1
    built = run.assembly
    fresh = assemble.restore(built.spec, built.fields(), built.files, fresh=True).model.attention.state_dict()
    for name, value in built.model.attention.state_dict().items():
        if "affinity" not in name:  # among four tokens at the most some of them hardly move
            assert not torch.equal(value, fresh[name]), f"{name} has not learned"
    asked = {k: v[-6:] for k, v in table().items() if k != "label"}
    asked["x"][0] = asked["y"][0] = None
    answers = polymodal.load(tmp_path / "run").predict(asked)
    for row, answer in enumerate(answers):
        alone = run.predict({k: v[row : row + 1] for k, v in asked.items()})[0]
        assert answer["label"] == alone["label"]
        assert answer["label.confidence"] == pytest.approx(alone["label.confidence"], abs=1e-5)


def test_an_error_has_its_place_in_the_spec(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"must divide the width, 8") as caught:
        polymodal.train(table(), spec=plan({"type": "perceiver", "heads": 3}), out=tmp_path / "run", quiet=True)
    assert caught.value.where == "attention.heads"
