"""The layers of modules of every make, from the bottom up, and what of a module is held."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from examples import Hub, encoder
from polymodal.core.layers import Hold, layers_of, resting
from polymodal.core.transformer import TransformerStack


def names(module: nn.Module) -> list[set[str]]:
    """The groups by the first words of their parameters' names."""
    known = {id(p): n for n, p in module.named_parameters()}
    groups = layers_of(module)
    flat = [id(p) for group in groups for p in group]
    assert len(flat) == len(set(flat)), "a parameter stands twice"
    assert set(flat) == set(known), "a parameter is lost"
    return [{known[id(p)] for p in group} for group in groups]


def begins(group: set[str], *starts: str) -> bool:
    return all(name.startswith(starts) for name in group)


def made(kind: str, name: str, hub: Any, files: Path, **more: Any) -> nn.Module:
    make, _ = encoder(name, kind, files, hub)
    return make()


def test_a_stack_of_layers_with_embeddings_and_head() -> None:
    module = nn.Module()
    module.words = nn.Embedding(1000, 8)  # more parameters than all layers together
    module.stack = TransformerStack(width=8, layers=3, heads=2)
    module.head = nn.Linear(8, 2)
    groups = names(module)
    assert len(groups) == 5
    assert groups[0] == {"words.weight"}
    for at in range(3):
        assert groups[1 + at] - {"stack.norm.weight", "stack.norm.bias"} == {
            n for n, _ in module.named_parameters() if n.startswith(f"stack.layers.{at}.")
        }
    assert groups[4] == {"stack.norm.weight", "stack.norm.bias", "head.weight", "head.bias"}


def test_norms_go_with_what_stands_before_them() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2))
    assert names(module) == [{"0.weight", "0.bias", "1.weight", "1.bias"}, {"3.weight", "3.bias", "4.weight", "4.bias"}]


def test_lists_beside_each_other_are_one_layer_each_or_follow_each_other() -> None:
    both = nn.Module()
    both.ahead = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
    both.back = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
    assert [sorted({n.split(".")[0] for n in group}) for group in names(both)] == [["ahead", "back"]] * 3
    stages = nn.Module()
    stages.stem = nn.Conv2d(1, 4, 3)
    stages.layer1 = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    stages.layer2 = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    assert [sorted(g)[0].rpartition(".")[0] for g in names(stages)] == [
        "stem", "layer1.0", "layer1.1", "layer2.0", "layer2.1"
    ]  # fmt: skip


def test_one_layer_and_none_at_all() -> None:
    assert len(names(TransformerStack(width=8, layers=1, heads=2))) == 1
    assert names(nn.Linear(2, 2)) == [{"weight", "bias"}]
    assert names(nn.Linear(2, 2, bias=False)) == [{"weight"}]
    assert layers_of(nn.Identity()) == []


def test_a_tied_weight_stands_once_and_below() -> None:
    module = nn.Module()
    module.words, module.layers = nn.Embedding(5, 4), nn.ModuleList(nn.Linear(4, 4) for _ in range(2))
    module.head = nn.Linear(4, 5, bias=False)
    module.head.weight = module.words.weight
    assert names(module) == [{"words.weight"}, {"layers.0.weight", "layers.0.bias"},
                             {"layers.1.weight", "layers.1.bias"}]  # fmt: skip


def test_vit_and_text_transformer(hub: Hub, tmp_path: Path) -> None:
    for kind, name in (("encoder.image", "vit"), ("encoder.text", "transformer")):
        groups = names(made(kind, name, hub, tmp_path / name))
        assert len(groups) == 3, name  # embeddings, two layers; the last norm with the second
        assert not any("layers" in n for n in groups[0]), name
        assert begins(groups[1], "stack.layers.0.")
        assert begins(groups[2], "stack.layers.1.", "stack.norm.")


def test_resnet_by_its_blocks(hub: Hub, tmp_path: Path) -> None:
    groups = names(made("encoder.image", "resnet", hub, tmp_path))
    assert begins(groups[0], "stem.")
    expected = [f"stages.{stage}.{block}." for stage in range(4) for block in range(2)]
    assert len(groups) == 9
    assert all(begins(group, start) for group, start in zip(groups[1:], expected, strict=True))


def test_bert_as_transformers_makes_it(hub: Hub, tmp_path: Path) -> None:
    groups = names(made("encoder.text", "hf", hub, tmp_path))
    assert len(groups) == 3
    assert begins(groups[0], "model.embeddings.")
    assert [begins(groups[1 + i], f"model.encoder.layer.{i}.") for i in (0, 1)] == [True, True]


def test_gpt2_with_its_tied_head() -> None:
    transformers = pytest.importorskip("transformers")
    shape = transformers.GPT2Config(vocab_size=50, n_embd=8, n_layer=3, n_head=2, n_positions=16)
    groups = names(transformers.GPT2LMHeadModel(shape))
    assert groups[0] == {"transformer.wte.weight", "transformer.wpe.weight"}
    assert [begins(groups[1 + i], f"transformer.h.{i}.", "transformer.ln_f.") for i in range(3)] == [True] * 3
    assert len(groups) == 4


def test_a_hold_lets_go_by_the_epoch() -> None:
    module = nn.Sequential(*(nn.Linear(2, 2, bias=False) for _ in range(4)))
    groups = layers_of(module)

    def learning(hold: Hold, epoch: int) -> list[bool]:
        hold.apply(epoch)
        return [p.requires_grad for p in module.parameters()]

    assert learning(Hold(module, groups), 99) == [False] * 4
    assert [sum(learning(Hold(module, groups, 2), e)) for e in range(4)] == [0, 0, 4, 4]
    gradual = Hold(module, groups, 1, 2)
    assert learning(gradual, 0) == [False] * 4
    assert learning(gradual, 1) == [False, False, True, True]
    assert learning(gradual, 2) == learning(gradual, 9) == [True] * 4
    assert learning(gradual, 0) == [False] * 4  # a function of the epoch alone


def test_what_rests_are_the_largest_parts_that_do_not_learn() -> None:
    inner = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    module = nn.Sequential(inner, nn.Dropout(0.5), nn.Linear(2, 2))
    assert resting(module) == []
    inner.requires_grad_(False)
    assert resting(module) == [inner]
    module.requires_grad_(False)
    assert resting(module) == [module]
    assert resting(nn.Dropout(0.5)) == []
