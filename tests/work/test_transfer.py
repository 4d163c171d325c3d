"""Parts that start from another run: weights, fitted readers and files come along, once; what does not fit is told."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import polymodal
from endtoend import Shell
from polymodal.assemble_extras import _add_lora
from polymodal.core.errors import RunError, SpecError
from polymodal.core.settings import Lora
from polymodal.core.spec_parts import PartSpec
from polymodal.tasks.sentences import Sentences
from polymodal.work import step as steps
from polymodal.work.transfer import FILE, merged, starts_of

TRAIN = {"epochs": 1, "batch": 16, "lr": 1e-2, "seed": 3, "device": "cpu", "threads": 1}
Weights = dict[str, Tensor]


def table(rows: int = 48, words: tuple[str, ...] = ("red", "blue", "green"), seed: int = 0) -> dict[str, list]:
    g = np.random.default_rng(seed)
    color = g.choice(words, rows)
    size = g.normal(size=rows)
    label = np.where(size > 0, "big", "small")
    return {"color": [f"a {c} thing" for c in color], "size": (100 * size + 7).tolist(), "label": label.tolist(),
            "said": [f"{a} and {b}" for a, b in zip(label, color, strict=True)]}  # fmt: skip


def plan() -> dict[str, Any]:
    """Texts and numbers, a class and a sentence."""
    return {
        "data": {"valid": 0.25},
        "inputs": {
            "color": {"type": "text", "min_count": 1, "encoder": {"type": "gru", "width": 8, "dropout": 0.0}},
            "size": {"type": "tabular", "encoder": {"type": "mlp", "width": 8}},
        },
        "attention": {"type": "bidirectional", "heads": 2},
        "fusion": "gated",
        "tasks": {
            "label": "classify",
            "said": {"type": "caption", "min_count": 1, "decoder": {"type": "transformer", "layers": 2, "heads": 2}},
        },
        "model": {"width": 12},
        "train": dict(TRAIN),
    }  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "base"
    polymodal.train(table(), spec=plan(), out=folder, quiet=True)
    return folder


def begun(spec: dict[str, Any], folder: Path, data: dict[str, list] | None = None) -> polymodal.Run:
    """The run after an epoch in which nothing was learned."""
    spec = copy.deepcopy(spec)
    spec["train"] |= {"lr": 1e-30, "weight_decay": 0.0}
    return polymodal.train(data or table(40, ("black", "white", "red"), 1), spec=spec, out=folder, quiet=True)


def part(weights: Weights, prefix: str) -> Weights:
    found = {n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)}
    assert found
    return found


def same(one: Weights, two: Weights) -> bool:
    return one.keys() == two.keys() and all(torch.allclose(one[n], two[n], atol=1e-7) for n in one)


def weights(folder: Path) -> Weights:
    return polymodal.load(folder).assembly.model.state_dict()


def test_an_encoder_brings_its_weights_and_its_vocabulary(base: Path, tmp_path: Path) -> None:
    spec = plan()
    fresh = begun(spec, tmp_path / "fresh")
    spec["inputs"]["color"]["encoder"]["from"] = str(base)
    run = begun(spec, tmp_path / "run")
    theirs, ours = weights(base), run.assembly.model.state_dict()
    assert same(part(ours, "encoders.parts._color."), part(theirs, "encoders.parts._color."))
    assert not same(part(ours, "encoders.parts._size."), part(theirs, "encoders.parts._size."))
    fields = [json.loads((folder / "readers.json").read_text()) for folder in (base, run.folder, fresh.folder)]
    assert fields[1]["inputs"]["color"] == fields[0]["inputs"]["color"] != fields[2]["inputs"]["color"]
    assert fields[1]["inputs"]["size"] == fields[2]["inputs"]["size"] != fields[0]["inputs"]["size"]
    assert fields[1]["targets"] == fields[2]["targets"]
    rest = {n: w for n, w in ours.items() if not n.startswith("encoders.parts._color.")}
    others = fresh.assembly.model.state_dict()
    assert same(rest, {n: others[n] for n in rest})  # all else begins as it would have


def test_numbers_are_scaled_as_they_were_there(base: Path, tmp_path: Path) -> None:
    """What an encoder says of a cell is the same number for number."""
    spec = plan()
    spec["inputs"]["size"]["encoder"] |= {"from": {"run": str(base)}, "freeze": True}
    far = table(40, seed=2)
    far["size"] = [x * 1000 for x in far["size"]]
    run = begun(spec, tmp_path / "run", far)
    rows = {"color": ["a red thing"] * 3, "size": [1.0, 50.0, None]}
    found = []
    for one in (polymodal.load(base), run):
        reader, encoder = one.assembly.readers["size"], one.assembly.model.encoders["size"].eval()
        cells = [reader({"size": x}) for x in rows["size"]]
        data = {k: torch.from_numpy(np.stack([c[k] for c in cells])) for k in cells[0]}
        with torch.no_grad():
            found.append(encoder(data).tokens)
    assert torch.equal(*found)


def test_a_decoder_brings_its_words(base: Path, tmp_path: Path) -> None:
    spec = plan()
    spec["tasks"]["said"]["decoder"]["from"] = str(base)
    run = begun(spec, tmp_path / "run")
    theirs = weights(base)
    assert same(part(run.assembly.model.state_dict(), "tasks.parts._said.decoder."),
                part(theirs, "tasks.parts._said.decoder."))  # fmt: skip
    fields = [json.loads((f / "readers.json").read_text())["targets"]["said"] for f in (base, run.folder)]
    for name in ("tokenizer", "kind", "size", "end", "languages"):
        assert fields[0][name] == fields[1][name]
    assert "black" not in fields[1]["tokenizer"]
    assert fields[1]["rows"] == 30  # but what is counted is counted in its own rows
    assert not same(part(run.assembly.model.state_dict(), "encoders."), part(theirs, "encoders."))


def test_another_name_another_task_and_rewards(base: Path, tmp_path: Path) -> None:
    """An input may be called otherwise; training on CIDEr needs the new rows' n-grams, and may begin from a run."""
    spec = plan()
    spec["inputs"] = {"words": spec["inputs"]["color"] | {"column": "color"}, "size": spec["inputs"]["size"]}
    spec["inputs"]["words"]["encoder"]["from"] = {"run": str(base), "input": "color"}
    spec["tasks"] = {"line": spec["tasks"]["said"] | {"column": "said", "self_critical": 0.5}}
    spec["tasks"]["line"]["decoder"]["from"] = {"run": str(base), "task": "said"}
    run = begun(spec, tmp_path / "run")
    ours, theirs = run.assembly.model.state_dict(), weights(base)
    assert same(part(ours, "encoders.parts._words."), part(theirs, "encoders.parts._color."))
    assert same(part(ours, "tasks.parts._line.decoder."), part(theirs, "tasks.parts._said.decoder."))
    assert run.assembly.targets["line"].field["document_frequencies"]
    for where, wrong in (("inputs.words", "words"), ("inputs.words", "size")):
        spec["inputs"]["words"]["encoder"]["from"] = {"run": str(base), "input": wrong}
        with pytest.raises(SpecError, match=where):
            starts_of(polymodal.api._as_spec(spec))


def test_what_joins_the_inputs_brings_the_projections_between(base: Path, tmp_path: Path) -> None:
    spec = plan()
    spec["attention"]["from"] = str(base)
    spec["fusion"] = {"type": "gated", "from": str(base)}
    spec["inputs"]["color"]["encoder"]["from"] = str(base)
    run = begun(spec, tmp_path / "run")
    ours, theirs = run.assembly.model.state_dict(), weights(base)
    for prefix in ("attention.", "fusion.", "entries.parts._color."):
        assert same(part(ours, prefix), part(theirs, prefix)), prefix
    assert not same(part(ours, "entries.parts._size."), part(theirs, "entries.parts._size."))
    assert set(json.loads((run.folder / FILE).read_text())) == {
        "inputs.color.encoder", "inputs.color", "attention", "fusion"
    }  # fmt: skip


WRONG: dict[str, tuple[str, Any, str, str]] = {
    "reader setting": ("inputs.color.max_tokens", 9, "inputs.color.max_tokens", "max_tokens: 128"),
    "reader default": ("inputs.color.min_count", 2, "inputs.color.min_count", "min_count: 1"),
    "encoder setting": ("inputs.color.encoder.width", 16, "inputs.color.encoder.width", "width: 8"),
    "encoder type": ("inputs.color.encoder.type", "lstm", "inputs.color.encoder.type", "type: 'gru'"),
    "modality": ("inputs.color", {"type": "tabular", "encoder": {"type": "mlp", "from": "BASE"}}, "inputs.color.type",
                 "type: 'text'"),
    "columns": ("inputs.size", {"type": "tabular", "column": "other", "encoder": {"type": "mlp", "width": 8,
                "from": "BASE"}}, "inputs.size.columns", "size"),
    "no run": ("inputs.color.encoder.from", "nowhere", "inputs.color.encoder.from", "no such run folder"),
    "no input": ("inputs.color.encoder.from", {"run": "BASE", "input": "colour"}, "inputs.color.encoder.from",
                 "'color'"),
    "no task": ("tasks.said.decoder.from", {"run": "BASE", "task": "sad"}, "tasks.said.decoder.from", "'said'"),
    "no decoder": ("tasks.said.decoder.from", {"run": "BASE", "task": "label"}, "tasks.said.decoder.from",
                   "has no decoder"),
    "decoder setting": ("tasks.said.decoder.layers", 3, "tasks.said.decoder.layers", "layers: 2"),
    "target setting": ("tasks.said.min_count", 3, "tasks.said.min_count", "min_count: 1"),
    "fusion type": ("fusion", {"type": "sum", "from": "BASE"}, "fusion.type", "type: 'gated'"),
    "fusion inputs": ("inputs.more", {"type": "text", "column": "color"}, "fusion.inputs", "inputs: ['color', 'size']"),
    "width": ("model.width", 24, "tasks.said.decoder.from", "model.width"),
}  # fmt: skip


@pytest.mark.parametrize(("path", "value", "where", "advice"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_told_before_anything_is_trained(
    base: Path, tmp_path: Path, path: str, value: Any, where: str, advice: str
) -> None:
    spec = plan()
    for block in (spec["inputs"]["color"]["encoder"], spec["tasks"]["said"]["decoder"]):
        block["from"] = str(base)
    if where.startswith("fusion"):
        spec["fusion"] = {"type": "gated", "from": str(base)}
    *outer, last = path.split(".")
    here = spec
    for step in outer:
        here = here[step]
    here[last] = json.loads(json.dumps(value).replace("BASE", str(base)))
    with pytest.raises(SpecError) as raised:
        polymodal.train(table(), spec=spec, out=tmp_path / "run", quiet=True)
    assert raised.value.where == where
    assert advice in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_what_only_trains_may_differ(base: Path, tmp_path: Path) -> None:
    spec = plan()
    spec["inputs"]["color"]["encoder"] |= {"from": str(base), "dropout": 0.3, "lr": 1e-4}
    assert begun(spec, tmp_path / "run").assembly.model.encoders["color"].dropout.p == 0.3


def test_a_damaged_run_is_refused(base: Path, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "spoilt")
    spoilt = tmp_path / "spoilt" / "weights.safetensors"
    data = bytearray(spoilt.read_bytes())
    data[-1] ^= 1
    spoilt.write_bytes(data)
    spec = plan()
    spec["inputs"]["color"]["encoder"]["from"] = str(tmp_path / "spoilt")
    with pytest.raises(RunError, match="sha256"):
        begun(spec, tmp_path / "run")


def test_the_run_stands_alone_and_says_where_it_comes_from(base: Path, tmp_path: Path) -> None:
    """The other run is gone; the folder loads, predicts, resumes as finished, and names run and hash."""
    source = tmp_path / "first"
    shutil.copytree(base, source)
    sha256 = json.loads((source / "run.json").read_text())["files"]["weights.safetensors"]
    spec = plan()
    spec["inputs"]["color"]["encoder"]["from"] = str(source)
    spec["tasks"]["said"]["decoder"]["from"] = str(source)
    run = polymodal.train(table(), spec=spec, out=tmp_path / "run", quiet=True)
    shutil.rmtree(source)
    again = polymodal.load(tmp_path / "run")
    assert again.spec.inputs["color"].encoder.extras == {"from": str(source)}
    assert again.predict(table()) == run.predict(table())
    origin = {"run": "first", "input": "color", "weights": sha256}
    assert json.loads((run.folder / FILE).read_text())["inputs.color.encoder"] == origin
    assert FILE in json.loads((run.folder / "run.json").read_text())["files"]
    told = json.loads((run.folder / "environment.json").read_text())
    assert told["tasks.said.decoder from"] == f"run first, weights {sha256}"
    for page in ("README.md", "report.html"):
        text = (run.folder / page).read_text()
        assert sha256 in text.replace("\\", ""), page
    assert "began with the weights of the run first" in (run.folder / "README.md").read_text()


def crash(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    finite, calls = steps._check_finite, [0]

    def fail(*args: object) -> None:
        calls[0] += 1
        if calls[0] == at:
            raise MemoryError("the power went")
        finite(*args)

    monkeypatch.setattr(steps, "_check_finite", fail)


def test_a_training_that_has_begun_never_opens_the_other_run_again(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "first"
    shutil.copytree(base, source)
    spec = plan()
    spec["inputs"]["color"]["encoder"]["from"] = str(source)
    spec["train"] |= {"epochs": 2, "checkpoint_steps": 1}
    whole = polymodal.train(table(), spec=spec, out=tmp_path / "whole", quiet=True)
    with monkeypatch.context() as patch:
        crash(patch, 3)
        with pytest.raises(MemoryError):
            polymodal.train(table(), spec=spec, out=tmp_path / "run", quiet=True)
    shutil.rmtree(source)
    run = polymodal.train(table(), spec=spec, out=tmp_path / "run", resume=True, quiet=True)
    assert same(run.assembly.model.state_dict(), whole.assembly.model.state_dict())
    told = [json.loads((r.folder / "environment.json").read_text())["inputs.color.encoder from"] for r in (run, whole)]
    assert told[0] == told[1]


def test_a_training_that_begins_again_begins_with_the_same_weights(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It broke off before its first checkpoint, and another run took the place of the one it started from."""
    source, spec = tmp_path / "first", plan()
    shutil.copytree(base, source)
    spec["inputs"]["color"]["encoder"]["from"] = str(source)
    with monkeypatch.context() as patch:
        crash(patch, 1)
        with pytest.raises(MemoryError):
            polymodal.train(table(), spec=spec, out=tmp_path / "run", quiet=True)
    shutil.rmtree(source)
    polymodal.train(table(), spec=plan() | {"train": TRAIN | {"seed": 4}}, out=source, quiet=True)
    with pytest.raises(RunError, match="began with other weights"):
        polymodal.train(table(), spec=spec, out=tmp_path / "run", resume=True, quiet=True)
    shutil.rmtree(source)
    shutil.copytree(base, source)
    run = polymodal.train(table(), spec=spec, out=tmp_path / "run", resume=True, quiet=True)
    whole = polymodal.train(table(), spec=spec, out=tmp_path / "whole", quiet=True)
    assert same(run.assembly.model.state_dict(), whole.assembly.model.state_dict())


def test_adapters_are_merged_as_peft_does() -> None:
    pytest.importorskip("peft")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3, bias=False))
    lora = Lora(rank=2, alpha=6.0)
    _add_lora(net, lora, PartSpec("encoder.text", "gru", {}, "x"))
    for name, p in net.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(p)
    given = torch.randn(7, 5)
    expected = net(given)
    plain = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3, bias=False))
    plain.load_state_dict(merged(net.state_dict(), lora, plain))
    torch.testing.assert_close(plain(given), expected)
    for layer in (net[0], net[2]):
        layer.merge()
    torch.testing.assert_close(plain[0].weight, net[0].get_base_layer().weight)


def test_adapters_of_gpt2_stand_beside_its_turned_matrices_and_not_on_its_head() -> None:
    pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    shape = transformers.GPT2Config(vocab_size=20, n_embd=8, n_layer=1, n_head=2, n_positions=16)
    net, plain = (transformers.GPT2LMHeadModel(shape).eval() for _ in range(2))
    lora = Lora(rank=2, alpha=6.0)
    _add_lora(net, lora, PartSpec("decoder", "lm", {}, "x"))
    beside = {n.rpartition(".lora_A")[0].rpartition(".")[2] for n, _ in net.named_parameters() if "lora_A" in n}
    assert beside == {"c_attn", "c_proj", "c_fc"}
    for name, p in net.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(p, std=0.1)
    ids = torch.arange(6)[None]
    plain.load_state_dict(merged(net.state_dict(), lora, plain))
    torch.testing.assert_close(plain(ids).logits, net(ids).logits, atol=1e-5, rtol=1e-5)


def test_lora_on_what_comes_from_a_run_and_from_a_run_with_lora(base: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    spec = plan()
    spec["inputs"]["size"]["encoder"] |= {"from": str(base), "lora": {"rank": 2, "alpha": 4.0}}
    spec["tasks"]["said"]["decoder"] |= {"from": str(base), "lora": {"rank": 2}}
    spec["train"]["lr"] = 0.05
    first = polymodal.train(table(), spec=spec, out=tmp_path / "first", quiet=True)
    theirs, ours = weights(base), first.assembly.model.state_dict()
    linear = [n for n in ours if ".base_layer.weight" in n]
    assert any(n.startswith("tasks.") for n in linear)
    assert not any(".said." in n or ".head." in n for n in linear)  # tied: an adapter of one would not be the other's
    for name in linear:  # the weights themselves are those of the run, and stay
        assert torch.equal(ours[name], theirs[name.replace(".base_layer.", ".")]), name
    assert any(w.abs().max() > 0 for n, w in ours.items() if "lora_B" in n)
    second = plan()
    second["inputs"]["size"]["encoder"]["from"] = str(first.folder)
    run = begun(second, tmp_path / "second", table())
    said = []
    for one in (first, run):
        encoder = one.assembly.model.encoders["size"].eval()
        reader = one.assembly.readers["size"]
        cell = {k: torch.from_numpy(v)[None] for k, v in reader({"size": 3.0}).items()}
        with torch.no_grad():
            said.append(encoder(cell).tokens)
    torch.testing.assert_close(*said)


def test_files_of_pretrained_parts_come_along(tmp_path: Path, hub: Any) -> None:
    """The folder that the first run took its model from is gone: configuration and tokenizer are those of the run."""
    published = tmp_path / "published"
    shutil.copytree(hub("text"), published)
    spec: dict[str, Any] = {
        "inputs": {"color": {"type": "text", "encoder": {"type": "hf", "name": str(published)}}},
        "tasks": {"label": "classify"},
        "train": dict(TRAIN),
    }
    first = polymodal.train(table(), spec=spec, out=tmp_path / "first", quiet=True)
    shutil.rmtree(published)
    spec["inputs"]["color"]["encoder"]["from"] = str(first.folder)
    run = begun(spec, tmp_path / "run")
    assert same(part(run.assembly.model.state_dict(), "encoders."), part(weights(first.folder), "encoders."))
    shutil.rmtree(first.folder)
    assert polymodal.load(run.folder).predict(table())


def test_a_language_model_comes_along_with_its_tokenizer(tmp_path: Path) -> None:
    """Trained with adapters there, merged here; the published model is gone."""
    pytest.importorskip("peft")
    pytest.importorskip("transformers")
    from published import publish_lm

    published = tmp_path / "published"
    publish_lm("gpt2", published)
    spec = plan()
    spec["tasks"] = {"said": {"type": "caption", "decoder": {"type": "lm", "name": str(published), "prefix": "linear"}}}
    data = table() | {"said": ["a dog runs", "a cat sleeps"] * 24}
    first = copy.deepcopy(spec)
    first["tasks"]["said"]["decoder"]["lora"] = {"rank": 2}
    base = polymodal.train(data, spec=first, out=tmp_path / "first", quiet=True)
    shutil.rmtree(published)
    spec["tasks"]["said"]["decoder"] |= {"from": str(base.folder), "freeze": True}
    run = begun(spec, tmp_path / "run", data)
    ids = torch.arange(5)[None]
    cores = [r.assembly.model.tasks["said"].decoder.core.eval() for r in (base, run)]
    with torch.no_grad():
        torch.testing.assert_close(*(core(ids).logits for core in cores), atol=1e-5, rtol=1e-5)
    shutil.rmtree(base.folder)
    assert polymodal.load(run.folder).predict(data)


def test_sentences_are_counted_anew_in_known_languages() -> None:
    there = Sentences(languages=True, min_count=1).fit([{"en": "a dog", "zh": "狗"}])
    reader = Sentences(languages=True, min_count=1, document_frequencies=True)
    field = reader.adopt([{"zh": "狗 狗"}, {"zh": "猫"}], there)
    assert {n: field[n] for n in ("tokenizer", "size", "languages")} == {
        n: there[n] for n in ("tokenizer", "size", "languages")
    }
    assert (field["rows"], field["documents"]) == (2, 2)
    with pytest.raises(SpecError, match="not trained on this language"):
        reader.adopt([{"fr": "chien"}], there)


def test_the_command_line_takes_it(base: Path, tmp_path: Path, shell: Shell) -> None:
    from endtoend import write_spec, write_table

    data = table()
    rows = write_table(
        tmp_path / "rows.csv", [dict(zip(data, row, strict=True)) for row in zip(*data.values(), strict=True)]
    )
    spec = write_spec(tmp_path / "spec.yaml", plan() | {"data": {"train": str(rows), "valid": 0.25}})
    shell.works("train", spec, "--out", tmp_path / "run", "--quiet", "--set", f"inputs.color.encoder.from={base}",
                "--set", "train.lr=1e-30")  # fmt: skip
    assert same(
        part(weights(tmp_path / "run"), "encoders.parts._color."), part(weights(base), "encoders.parts._color.")
    )
    message = shell.fails("train", spec, "--out", tmp_path / "other", "--set", f"inputs.color.encoder.from={base}",
                          "--set", "inputs.color.encoder.width=16")  # fmt: skip
    assert "inputs.color.encoder.width: is not as in the run base" in message
