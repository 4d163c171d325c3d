"""The hard cases of the design, each carried by the contracts as they are: toy parts in `carried_parts`, real rooms."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

import polymodal
from carried_parts import LENGTH, Cross
from examples import assembled, load, picture
from polymodal.core.checks import check_attention, streams_like
from polymodal.core.streams import Batch, Outputs, Target
from polymodal.model import Model

PHOTO = {"type": "image", "size": [9, 13], "encoder": {"type": "cnn", "channels": [4, 8], "norm": "none"}}
TITLE = {"type": "text", "min_count": 1, "tokenizer": "char", "encoder": {"type": "gru", "width": 8, "dropout": 0.0}}
NUMBERS = {"type": "tabular", "columns": ["u", "v"], "numeric": ["u", "v"], "encoder": {"type": "mlp", "width": 8}}
PICTURES = [picture(13, 9) for _ in range(6)]
TITLES = ["abba", "cab", "back", "dab", "bad", "add"]
U, V = [0.1, -2.0, 0.7, 1.5, -0.3, 0.9], [1.0, 0.0, 3.0, -1.0, 2.0, 0.5]
LABELS = ["p", "q", "p", "r", "q", "p"]


def spec(inputs: dict, tasks: dict, **more: object) -> dict:
    return {"inputs": inputs, "tasks": tasks, "fusion": "concat", **more}


def own(name: str, **settings: object) -> dict:
    return {"type": f"carried_parts:{name}", **settings}


def total(model: Model, batch: Batch, out: Outputs) -> torch.Tensor:
    """The loss of a step, up to its scale."""
    return sum((out.losses[n] * t.weight(batch.targets[n])).sum() for n, t in model.tasks.items())


def gradients(model: Model, batch: Batch, **options: object) -> dict[str, torch.Tensor]:
    model.zero_grad()
    total(model, batch, model(batch, **options)).backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def close(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> None:
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(one[name], two[name], atol=1e-5, rtol=1e-4, msg=lambda m, name=name: f"{name}: {m}")


def test_several_pictures_in_a_row(tmp_path: Path) -> None:
    plain = spec({"photo": {**PHOTO, "columns": ["front", "back"]}}, {"y": "classify"})
    table = {"front": PICTURES[:4], "back": [PICTURES[4], None, PICTURES[2], PICTURES[0]], "y": LABELS[:4]}
    assembly, rows = assembled(plain, table, tmp_path)
    model, batch = assembly.model.eval(), load(rows)
    assert len(batch.inputs["photo"].id) == 5, "a picture that stands in two cells is one cell"
    out = model(batch)
    stream, half = out.attended["photo"], out.attended["photo"].tokens.shape[1] // 2
    marks = model.entries["photo"].column.weight
    torch.testing.assert_close(stream.tokens[2, :half] - marks[0], stream.tokens[2, half:] - marks[1])
    torch.testing.assert_close(stream.tokens[0, :half] - marks[0], stream.tokens[3, half:] - marks[1])
    assert stream.mask[1].tolist() == [True] * half + [False] * half
    for row in range(4):
        alone = model(load(rows, [row])).answers["y"]["logits"][0]
        torch.testing.assert_close(alone, out.answers["y"]["logits"][row], atol=1e-5, rtol=1e-5)


def test_five_captions_of_one_picture(tmp_path: Path) -> None:
    plain = spec({"photo": PHOTO, "title": TITLE}, {"y": "classify"})
    table = {"photo": PICTURES[:1] * 5 + PICTURES[1:2], "title": TITLES, "y": LABELS}
    assembly, rows = assembled(plain, table, tmp_path)
    model, batch, seen = assembly.model.eval(), load(rows), []
    model.encoders["photo"].register_forward_hook(lambda m, given, out: seen.append(len(out.tokens)))
    together = gradients(model, batch)
    assert seen == [2], "every picture is encoded once"
    assert batch.inputs["photo"].index[:, 0].tolist() == [0, 0, 0, 0, 0, 1]
    alone = [gradients(model, load(rows, [row])) for row in range(6)]
    close(together, {n: sum(one[n] for one in alone) for n in together})


def test_targets_missing_in_some_rows(tmp_path: Path) -> None:
    plain = spec({"numbers": NUMBERS}, {"y": "classify", "z": "regress"})
    half = {"u": U, "v": V, "y": [*LABELS[:3], None, None, None], "z": [None, None, *U[2:5], None]}
    assembly, rows = assembled(plain, half, tmp_path)
    model, batch = assembly.model.eval(), load(rows)
    assert [batch.targets[n].present.tolist() for n in ("y", "z")] == [[True] * 3 + [False] * 3,
                                                                      [False] * 2 + [True] * 3 + [False]]  # fmt: skip
    assert torch.isfinite(total(model, batch, model(batch)))
    found, known = gradients(model, batch), [gradients(model, load(rows, [row])) for row in range(5)]
    close(found, {n: sum(one[n] for one in known) for n in found})
    spoilt = {n: Target({k: torch.where(t.present, v, 1) for k, v in t.data.items()}, t.present)
              for n, t in batch.targets.items()}  # fmt: skip
    close(found, gradients(model, batch._replace(targets=spoilt)))


def test_no_class_is_not_an_unknown_class(tmp_path: Path) -> None:
    plain = spec({"numbers": NUMBERS}, {"tags": {"type": "classify", "multi": True}})
    assembly, rows = assembled(plain, {"u": U, "v": V, "tags": [["a"], [], None, ["a", "b"], ["b"], []]}, tmp_path)
    target = load(rows).targets["tags"]
    assert target.present.tolist() == [True, True, False, True, True, True]
    assert not target.data["classes"][1].any()
    assert assembly.model.tasks["tags"].weight(target).tolist() == [1, 1, 0, 1, 1, 1]


def test_attention_of_a_third_party(tmp_path: Path) -> None:
    check_attention(lambda: Cross(inputs=("a", "b"), width=6), streams_like(("a", "b"), 6))
    table = {"photo": [*PICTURES[:5], None], "title": [None, *TITLES[1:5], None], "y": LABELS}
    inputs = {"photo": PHOTO, "title": TITLE}
    assembly, rows = assembled(spec(inputs, {"y": "classify"}, attention=own("Cross", heads=4)), table, tmp_path)
    model = assembly.model.eval()
    assert isinstance(model.attention, Cross)
    together = model(load(rows)).answers["y"]["logits"]
    assert torch.isfinite(together).all()
    for row in range(6):
        alone = model(load(rows, [row])).answers["y"]["logits"][0]
        torch.testing.assert_close(alone, together[row], atol=1e-5, rtol=1e-5)
    assert all(name in gradients(model, load(rows)) for name, _ in model.named_parameters())
    assert [p.type for p in assembly.spec.dotted()] == ["carried_parts:Cross"]


@pytest.mark.parametrize(("task", "noisy"), [(own("UNet", channels=[4, 8]), False), (own("DnCNN"), True)])
def test_pictures_from_maps_at_odd_sizes(task: dict, noisy: bool, tmp_path: Path) -> None:
    clean = np.random.default_rng(1).integers(0, 256, (6, 9, 13, 3), dtype=np.uint8)
    table = {"photo": list(clean), "clean": [*clean[:5], None], "y": LABELS}
    photo = {**PHOTO, "normalize": "none"}
    plain = spec({"photo": photo}, {"clean": {**task, "column": "clean"}, "y": "classify"})
    assembly, rows = assembled(plain, table, tmp_path)
    model, batch = assembly.model, load(rows)
    out = model(batch)
    assert out.answers["clean"]["picture"].shape == (6, 3, 9, 13)
    assert [m.shape[2:] for m in out.attended["photo"].maps] == [(9, 13), (5, 7), (3, 4)]
    read = model(batch, respond=True).attended["photo"].maps[0]
    torch.testing.assert_close(read[:5], batch.targets["clean"].data["pixels"][:5])
    assert torch.equal(out.attended["photo"].maps[0], read) != noisy
    optimizer, losses = torch.optim.Adam(model.parameters(), 0.02), []
    for _ in range(60):
        optimizer.zero_grad()
        out = model(batch)
        total(model, batch, out).backward()
        optimizer.step()
        losses.append(out.losses["clean"][:5].mean().item())
    assert losses[-1] < losses[0] / 2
    answers = model.eval()(batch, respond=True).answers["clean"]["picture"]
    for row in range(6):
        alone = model(load(rows, [row]), respond=True).answers["clean"]["picture"][0]
        torch.testing.assert_close(alone, answers[row], atol=1e-5, rtol=1e-5)


def test_maps_are_built_only_where_a_task_reads_them(tmp_path: Path) -> None:
    assembly, rows = assembled(spec({"photo": PHOTO}, {"y": "classify"}), {"photo": PICTURES, "y": LABELS}, tmp_path)
    assert not assembly.model(load(rows)).attended["photo"].maps


def test_a_decoder_with_teacher_forcing(tmp_path: Path) -> None:
    plain = spec({"numbers": NUMBERS}, {"word": own("Spell", column="title")})
    assembly, rows = assembled(plain, {"u": U, "v": V, "title": [*TITLES[:5], None]}, tmp_path)
    model, batch = assembly.model.eval(), load(rows)
    forced = model(batch).answers["word"]["logits"]
    ids = batch.targets["word"].data["ids"].clone()
    ids[:, 1] = (ids[:, 1] + 1) % 3
    other = batch._replace(targets={"word": Target({"ids": ids}, batch.targets["word"].present)})
    changed = model(other).answers["word"]["logits"]
    torch.testing.assert_close(changed[:, :2], forced[:, :2])
    assert (changed[:, 2:] - forced[:, 2:]).abs().amax((1, 2)).min() > 1e-4, "later letters follow the true ones before"
    said, taught = model(batch, respond=True), model(batch)
    torch.testing.assert_close(said.losses["word"], taught.losses["word"], msg="the loss is that of the true letters")
    logits = said.answers["word"]["logits"]
    assert torch.equal(model(other, respond=True).answers["word"]["logits"], logits), "an answer knows no target"
    own_words = Target({"ids": logits.argmax(2)}, torch.ones(6, dtype=torch.bool))
    again = model(batch._replace(targets={"word": own_words})).answers["word"]["logits"]
    torch.testing.assert_close(again, logits)
    assert logits.shape[1] == LENGTH


def masked(tmp_path: Path, tasks: dict) -> tuple[Model, Batch]:
    assembly, rows = assembled(spec({"title": TITLE, "numbers": NUMBERS}, tasks),
                               {"title": TITLES, "u": U, "v": V, "y": LABELS}, tmp_path)  # fmt: skip
    return assembly.model.eval(), load(rows)


@pytest.mark.parametrize("first", [True, False])
def test_one_task_sees_masked_words_and_the_other_clean_ones(first: bool, tmp_path: Path) -> None:
    tasks = {"guess": own("Masked", column="title"), "y": "classify"}
    model, batch = masked(tmp_path, tasks if first else dict(reversed(tasks.items())))
    clean = model(batch, respond=True).answers
    out = model(batch).answers
    assert torch.equal(out["y"]["logits"], clean["y"]["logits"])
    assert not torch.allclose(out["guess"]["seen"], clean["guess"]["seen"], atol=1e-4)
    assert torch.equal(model(batch).answers["guess"]["seen"], out["guess"]["seen"]), "a function of the rows' keys"
    before = copy.deepcopy(batch.inputs)
    gradients(model, batch)
    assert all(torch.equal(v, before[n].data[k]) for n, c in batch.inputs.items() for k, v in c.data.items())


def test_every_task_sees_what_it_has_prepared_itself(tmp_path: Path) -> None:
    names = [f"task {i}" for i in range(8)]
    tasks = {n: own("Masked", column="title", seed=i, share=i / 8) for i, n in enumerate(names)}
    model, batch = masked(tmp_path, tasks)
    expected = {}
    for name in names:
        prepared, _ = model.tasks[name].prepare(batch.inputs, None, batch.key)
        expected[name] = model.join(model.encode(prepared), prepared)[1].tokens[:, 0]
    for _ in range(10):
        together = model(batch).answers
        for name in names:
            torch.testing.assert_close(together[name]["seen"], expected[name])


PAIRS = {"u": U, "v": V, "title": TITLES, "pair": ["1", "2", "3", "4", "5", "6"]}
MATCH = spec({"numbers": NUMBERS, "title": TITLE}, {"pair": own("Match")})


def test_contrastive_loss_over_the_global_batch(tmp_path: Path) -> None:
    assembly, rows = assembled(MATCH, PAIRS, tmp_path)
    model, batch = assembly.model.eval(), load(rows)
    out = model(batch)
    one, two = out.answers["pair"].values()
    logits, truth = one @ two.T / 0.1, torch.arange(6)
    expected = F.cross_entropy(logits, truth, reduction="none") + F.cross_entropy(logits.T, truth, reduction="none")
    torch.testing.assert_close(out.losses["pair"], expected / 2)
    torch.testing.assert_close(model(batch, gather=lambda x: x).losses["pair"], expected / 2)
    halves = [[0, 1, 2], [3, 4, 5]]
    batches = [load(rows, half) for half in halves]
    answers = [model(b).answers["pair"] for b in batches]
    everyone = [torch.cat(x) for x in zip(*(a.values() for a in answers), strict=True)]
    everyone.append(torch.cat([b.targets["pair"].data["class"] for b in batches]))
    for half, own_rows in zip(
        halves, batches, strict=True
    ):  # as two processes have it: `gather` gives the rows of both
        gathered = iter(everyone)
        losses = model(own_rows, gather=lambda x, gathered=gathered: next(gathered)).losses["pair"]
        torch.testing.assert_close(losses, expected[half] / 2)


def test_rows_of_one_pair_are_no_negatives(tmp_path: Path) -> None:
    assembly, rows = assembled(MATCH, {**PAIRS, "pair": ["1"] * 6}, tmp_path)
    torch.testing.assert_close(assembly.model(load(rows)).losses["pair"], torch.zeros(6), atol=1e-6, rtol=0)


def test_contrastive_gradients_through_a_cache(tmp_path: Path) -> None:
    """Gao et al. 2021: encode without a graph, take the loss's gradient at the features, then encode part by part."""
    assembly, rows = assembled(MATCH, PAIRS, tmp_path)
    model, batch = assembly.model.eval(), load(rows)
    whole = gradients(model, batch)
    model.zero_grad()
    with torch.no_grad():
        features = model.encode(batch.inputs)
    kept = {n: s._replace(tokens=s.tokens.requires_grad_()) for n, s in features.items()}
    total(model, batch, model(batch, encoded=kept)).backward()
    for name, cells in batch.inputs.items():
        for at in torch.arange(len(cells.id)).split(2):
            part = cells._replace(data={k: v[at] for k, v in cells.data.items()})
            model.encoders[name](part.data).tokens.backward(kept[name].tokens.grad[at])
    close({n: p.grad for n, p in model.named_parameters() if p.grad is not None}, whole)


def test_two_players_with_one_backward(tmp_path: Path) -> None:
    plain = spec({"numbers": NUMBERS}, {"made": own("Players", column="u")})
    assembly, rows = assembled(plain, {"u": U, "v": V}, tmp_path)
    model, batch = assembly.model, load(rows)
    found, players = gradients(model, batch), model.tasks["made"]
    made, real = model(batch).answers["made"]["made"], batch.targets["made"].data["value"][:, None]
    fooled = F.softplus(-players.critic(made)).sum()
    generator = torch.autograd.grad(fooled, players.generator.weight, retain_graph=True)[0]
    caught = (F.softplus(-players.critic(real)) + F.softplus(players.critic(made.detach()))).sum()
    critic = torch.autograd.grad(caught, list(players.critic.parameters()))
    torch.testing.assert_close(found["tasks.parts._made.generator.weight"], generator)
    for (name, _), expected in zip(players.critic.named_parameters(), critic, strict=True):
        torch.testing.assert_close(found[f"tasks.parts._made.critic.{name}"], expected)


def test_the_whole_model_is_exported(tmp_path: Path) -> None:
    plain = spec(
        {"photo": PHOTO, "title": TITLE, "numbers": NUMBERS}, {"y": "classify", "z": "regress"}, fusion="gated"
    )
    table = {"photo": [*PICTURES[:5], None], "title": TITLES, "u": U, "v": V, "y": LABELS, "z": V}
    assembly, rows = assembled(plain, table, tmp_path)
    model, batch = assembly.model.eval(), load(rows, [0, 1, 2])
    batch = batch._replace(targets={}, rows=())  # what is known of a row besides its inputs never enters the model
    program = torch.export.export(model, (batch,), {"respond": True}, strict=False).module()
    other = load(rows, [4, 2, 0])._replace(targets={}, rows=())
    for given in (batch, other):
        expected, found = model(given, respond=True), program(given, respond=True)
        for name in ("y", "z"):
            for key, value in expected.answers[name].items():
                torch.testing.assert_close(found.answers[name][key], value)


@pytest.mark.parametrize("training", [False, True])
def test_gradients_of_single_rows(training: bool, tmp_path: Path) -> None:
    """As DP-SGD takes them: vmap over rows, each a batch of its own; they add up to the gradient of the sum."""
    more = {**NUMBERS, "columns": ["v"], "numeric": ["v"]}
    plain = spec({"numbers": NUMBERS, "more": more}, {"y": "classify"}, fusion="gated")
    assembly, rows = assembled(plain, {"u": U, "v": V, "y": LABELS}, tmp_path)
    model, batch = assembly.model.train(training), load(rows)
    weights = dict(model.named_parameters())
    cells = {n: {k: v[c.index[:, 0]] for k, v in c.data.items()} for n, c in batch.inputs.items()}

    def loss(weights: dict, cells: dict, label: torch.Tensor) -> torch.Tensor:
        inputs = {n: batch.inputs[n]._replace(data={k: v[None] for k, v in one.items()}, id=torch.zeros(1).long(),
                                              index=torch.zeros(1, 1).long()) for n, one in cells.items()}  # fmt: skip
        target = Target({"class": label[None]}, torch.ones(1, dtype=torch.bool))
        return functional_call(model, weights, (Batch(inputs, {"y": target}, batch.key[:1], ()),)).losses["y"].sum()

    each = vmap(grad(loss), in_dims=(None, 0, 0))(weights, cells, batch.targets["y"].data["class"])
    found = gradients(model, batch)
    assert found.keys() <= each.keys()
    close({n: each[n].sum(0) for n in found}, found)
    alone = gradients(model, load(rows, [2]))
    close({n: each[n][2] for n in alone}, alone)


def test_the_task_says_whether_more_is_better(tmp_path: Path) -> None:
    plain = spec({"numbers": NUMBERS}, {"off": own("Off", column="z")},
                 train={"epochs": 6, "batch": 4, "lr": 0.05, "device": "cpu"})  # fmt: skip
    g = np.random.default_rng(0)
    u, v = g.normal(size=(2, 40)).tolist()
    table = {"u": u, "v": v, "z": [10 * a - b for a, b in zip(u, v, strict=True)]}
    run = polymodal.train(table, spec=plain, out=tmp_path / "run", quiet=True)
    scores = [entry["valid"]["off.off"] for entry in run.history]
    assert scores[-1] < scores[0]
    assert [entry["best"] for entry in run.history] == [s == min(scores[: i + 1]) for i, s in enumerate(scores)]
