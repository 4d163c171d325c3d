"""A new part is tested by being listed: every part of the catalogue under its public checker, and every encoder in a
whole model. What a part needs stands in `examples`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from examples import (
    CELLS,
    TARGETS,
    Hub,
    assembled,
    baseline,
    decoder,
    encoder,
    learning,
    load,
    probes,
    reading,
    settings,
    task,
)
from polymodal import assemble
from polymodal.assemble import Assembly, build
from polymodal.core import catalog
from polymodal.core.checks import (
    check_attention,
    check_encoder,
    check_fusion,
    check_reader,
    check_target,
    check_task,
    streams_like,
)
from polymodal.core.checks_baseline import check_baseline
from polymodal.core.checks_decision import check_align, check_balance, check_decision
from polymodal.core.checks_decoder import check_decoder
from polymodal.core.checks_embed import check_embeds
from polymodal.core.checks_weigh import check_weigh
from polymodal.core.errors import SpecError
from polymodal.core.spec import PartSpec
from polymodal.core.streams import Batch, Outputs, check_stream
from polymodal.data.dataset import Dataset
from polymodal.model import Model, withhold
from polymodal.work.folder import read_tensors, write_tensors

LISTED = [(kind, name) for kind, names in catalog.PARTS.items() for name in names]
ENCODERS = [(k, n) for k, n in LISTED if k.startswith("encoder.")]
each_part = pytest.mark.parametrize(("kind", "name"), LISTED, ids=[f"{k}.{n}" for k, n in LISTED])
each_encoder = pytest.mark.parametrize(("kind", "name"), ENCODERS, ids=[f"{k}.{n}" for k, n in ENCODERS])


@pytest.fixture(autouse=True)
def _beside_a_stand_in(request: pytest.FixtureRequest) -> None:
    if request.node.callspec.params["name"] == "timm":
        request.getfixturevalue("timm")


@each_part
def test_contract(kind: str, name: str, hub: Hub, tmp_path: Path) -> None:
    part = PartSpec(kind, name, settings(kind, name, hub), kind)
    joining = {"inputs": ("a", "b", "c.d"), "width": 6}
    match kind.partition(".")[0]:
        case "reader":
            check_reader(lambda: build(part), *CELLS[name])
        case "encoder":
            check_encoder(*encoder(name, kind, tmp_path, hub))
        case "attention":
            check_attention(lambda: build(part, **joining), streams_like(joining["inputs"], 6))
        case "fusion":
            check_fusion(lambda: build(part, **joining), streams_like(joining["inputs"], 6))
        case "decision":
            for scores, size in (("class", 3), ("classes", 4), ("value", 1)):
                check_decision(lambda s=scores, k=size: build(part, **joining, kind=s, size=k), scores, 3, size)
        case "decoder":
            check_decoder(*decoder(name, tmp_path, hub))
        case "balance":
            check_balance(lambda: build(part, **joining, probes=probes(joining["inputs"], 6)), *learning())
        case "weigh":
            check_weigh(lambda: build(part, tasks=("x", "y", "z")), 3)
        case "align":
            check_align(lambda: build(part, inputs=joining["inputs"], width_in=6), streams_like(joining["inputs"], 6))
        case "task":
            check_task(*task(name))
            if hasattr(catalog.load(kind, name, "task.type"), "embed"):
                make, streams, fused, *_ = task(name)
                check_embeds(make, streams, fused)
        case "target":
            check_target(lambda: build(part), *TARGETS[name])
        case "baseline":
            check_baseline(*baseline(name, tmp_path))
        case _:
            pytest.fail(f"no checker for {kind}: core.checks needs one for every contract")


def table(kind: str) -> dict[str, list]:
    """The four cells, with one missing and one twice; a number beside them; a class."""
    modality = kind.removeprefix("encoder.")
    cells = CELLS[modality][0]
    cells = [cells[0], None, *cells[1:], cells[0]]
    it = {n: [c and c[n] for c in cells] for n in ("n", "c")} if modality == "tabular" else {"it": cells}
    return {**it, "beside": [0.5, 1.0, None, 2.0, -1.0, 3.0], "y": ["p", "q", "p", "q", "r", None]}


def whole(kind: str, name: str, hub: Hub, files: Path, **extras: Any) -> tuple[Assembly, Dataset]:
    """A model with this encoder, made from a spec on the table; `extras` of the encoder."""
    modality = kind.removeprefix("encoder.")
    columns = ["n", "c"] if modality == "tabular" else ["it"]
    block = {"type": modality, "columns": columns, **reading(kind, name)}
    plain = {
        "inputs": {
            "an.input": {**block, "encoder": {"type": name, **settings(kind, name, hub), **extras}},
            "beside": {"type": "tabular", "numeric": ["beside"]},
        },
        "fusion": "transform",
        "tasks": {"y": "classify"},
        "train": {"lr": 0.01},
    }
    return assembled(plain, table(kind), files)


def answer(model: Model, batch: Batch) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(batch, respond=True).answers["y"]["logits"]


def learn(model: Model, batch: Batch) -> Outputs:
    """One backward pass in train mode, as a step of the training does it."""
    torch.manual_seed(0)
    out = model.train()(batch)
    (out.losses["y"] * model.tasks["y"].weight(batch.targets["y"])).sum().backward()
    return out


@each_encoder
def test_a_row_is_answered_alike_alone_and_among_others(kind: str, name: str, hub: Hub, tmp_path: Path) -> None:
    assembly, rows = whole(kind, name, hub, tmp_path)
    together = answer(assembly.model, load(rows))
    for entry, stream in assembly.model(load(rows)).attended.items():
        check_stream(stream, len(rows.rows), assembly.model.fusion.width, entry)
    for row in rows.rows.tolist():
        alone = answer(assembly.model, load(rows, [row]))[0]
        torch.testing.assert_close(alone, together[row], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(answer(assembly.model, load(rows, [4, 1, 2])), together[[4, 1, 2]], atol=1e-5,
                               rtol=1e-5)  # fmt: skip
    assert (together[0] - together[2]).abs().max() > 1e-4, "the input is not looked at"


@each_encoder
def test_a_missing_input_gives_finite_answers(kind: str, name: str, hub: Hub, tmp_path: Path) -> None:
    assembly, rows = whole(kind, name, hub, tmp_path)
    complete = load(rows)
    without = withhold(complete, "an.input")
    assert torch.isfinite(answer(assembly.model, without)).all()
    assert torch.isfinite(answer(assembly.model, withhold(without, "beside"))).all()
    torch.testing.assert_close(answer(assembly.model, without)[1], answer(assembly.model, complete)[1])
    learn(assembly.model, without)
    assert all(torch.isfinite(p.grad).all() for p in assembly.model.parameters() if p.grad is not None)


@each_encoder
def test_a_frozen_encoder_stays_as_it_is(kind: str, name: str, hub: Hub, tmp_path: Path) -> None:
    assembly, rows = whole(kind, name, hub, tmp_path, freeze=True)
    frozen, others = assembly.model.encoders["an.input"], assembly.model.entries["an.input"]
    before = {n: v.clone() for n, v in frozen.state_dict().items()}
    learn(assembly.model, load(rows))
    assert not any(m.training for m in frozen.modules())
    assert all(p.grad is None and not p.requires_grad for p in frozen.parameters())
    assert all(torch.equal(v, before[n]) for n, v in frozen.state_dict().items())
    assert all(p.grad is not None for p in [*others.parameters(), *assembly.model.fusion.parameters()])
    trained = {id(p) for group in assemble.parameter_groups(assembly.model, assembly.spec) for p in group["params"]}
    assert trained == {id(p) for p in assembly.model.parameters()} - {id(p) for p in frozen.parameters()}


@each_encoder
def test_low_rank_adapters_are_trained_and_kept(kind: str, name: str, hub: Hub, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    plain, rows = whole(kind, name, hub, tmp_path)
    linear = [m for m in plain.model.encoders["an.input"].modules() if isinstance(m, nn.Linear)]
    if not linear:
        with pytest.raises(SpecError, match=r"inputs\.an\.input\.encoder\.lora"):
            whole(kind, name, hub, tmp_path, lora=True)
        return
    assembly, _ = whole(kind, name, hub, tmp_path, lora=True)
    model, batch = assembly.model, load(rows)
    torch.testing.assert_close(answer(model, batch), answer(plain.model, batch))  # adapters begin as nothing
    trained = {n for n, p in model.encoders["an.input"].named_parameters() if p.requires_grad}
    assert all("lora_" in n for n in trained)
    assert len(trained) == 2 * len(linear)
    own = {id(p) for p in model.encoders["an.input"].parameters()}
    assert all(p.requires_grad for p in model.parameters() if id(p) not in own)
    optimizer = torch.optim.SGD(assemble.parameter_groups(model, assembly.spec), 0.1)
    for _ in range(2):
        learn(model, batch)
        optimizer.step()
        optimizer.zero_grad()
    assert (answer(model, batch) - answer(plain.model, batch)).abs().max() > 1e-4
    write_tensors(tmp_path / "weights.safetensors", model.state_dict())
    again = assemble.restore(assembly.spec, assembly.fields(), tmp_path)
    again.model.load_state_dict(read_tensors(tmp_path / "weights.safetensors"))
    assert torch.equal(answer(again.model, batch), answer(model, batch))


@each_encoder
def test_an_own_rate_is_a_group_of_its_own(kind: str, name: str, hub: Hub, tmp_path: Path) -> None:
    assembly, _ = whole(kind, name, hub, tmp_path, lr=1e-4)
    groups = assemble.parameter_groups(assembly.model, assembly.spec)
    own = [p for p in assembly.model.encoders["an.input"].parameters() if p.requires_grad]
    found = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert own
    assert {found[id(p)] for p in own} == {1e-4}
    assert {rate for p, rate in found.items() if p not in {id(p) for p in own}} == {0.01}
    assert all(p.ndim > 1 or group["weight_decay"] == 0 for group in groups for p in group["params"])
