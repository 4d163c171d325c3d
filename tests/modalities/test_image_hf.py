from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    CLIPConfig,
    ConvNextConfig,
    Dinov2Config,
    ResNetConfig,
    SwinConfig,
    ViTConfig,
)

from polymodal.core.checks import check_encoder
from polymodal.core.errors import SpecError
from polymodal.modalities.image.hf import HFImage
from polymodal.modalities.image.read import ImageReader
from published import publish_image

TINY = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 32,
        "patch_size": 8}  # fmt: skip
PYRAMID = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}
BACKBONES = {
    "vit": (ViTConfig(**TINY), (32, 32)),
    "resnet": (ResNetConfig(embedding_size=8, layer_type="basic", **PYRAMID), (33, 47)),
    "convnext": (ConvNextConfig(**PYRAMID), (64, 64)),
    "dinov2": (Dinov2Config(**TINY), (24, 40)),
    "swin": (
        SwinConfig(image_size=32, patch_size=2, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4),
        (32, 32),
    ),
    "clip": (CLIPConfig(vision_config=TINY), (32, 32)),
}


def field(height: int, width: int) -> dict:
    return {"size": [height, width], "channels": 3, "mean": [0.5] * 3, "std": [0.25] * 3}


def cells(height: int, width: int) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(0)
    return {"pixels": torch.randint(0, 256, (3, 3, height, width), dtype=torch.uint8, generator=g)}


@pytest.mark.parametrize("kind", sorted(BACKBONES))
def test_contract(kind: str, tmp_path: Path) -> None:
    config, size = BACKBONES[kind]
    publish_image(config, tmp_path / "hub")
    HFImage.wants({"name": str(tmp_path / "hub")}, tmp_path / "files")
    check_encoder(lambda: HFImage(field=field(*size), files=tmp_path / "files", name="gone"), cells(*size))


@pytest.mark.parametrize("kind", sorted(BACKBONES))
def test_published_weights_give_the_published_answer(kind: str, tmp_path: Path) -> None:
    config, size = BACKBONES[kind]
    model = publish_image(config, tmp_path / "hub")
    HFImage.wants({"name": str(tmp_path / "hub")}, tmp_path / "files")
    encoder = HFImage(field=field(*size), files=tmp_path / "files", name=str(tmp_path / "hub")).eval()
    encoder.load_pretrained()
    data = cells(*size)
    with torch.no_grad():
        stream = encoder(data)
        network = getattr(model, "vision_model", model)
        answer = network(pixel_values=(data["pixels"] / 255 - 0.5) / 0.25, output_hidden_states=True)
    last = answer.last_hidden_state
    expected = last.flatten(2).transpose(1, 2) if last.ndim == 4 else last
    assert torch.allclose(stream.tokens, expected, atol=1e-5)
    if kind in ("resnet", "convnext"):
        assert encoder.strides == (4, 8, 16, 32)
        for level, hidden in zip(stream.maps[1:], answer.hidden_states[1:], strict=True):
            assert torch.allclose(level, hidden, atol=1e-5)
    if kind == "dinov2":
        assert torch.allclose(stream.maps[1][:, :, 2, 1], last[:, 1 + 2 * 5 + 1], atol=1e-5), (
            "patches after the class token"
        )


def test_random_weights_when_asked_for(tmp_path: Path) -> None:
    publish_image(ViTConfig(**TINY), tmp_path / "hub")
    HFImage.wants({"name": str(tmp_path / "hub")}, tmp_path / "files")
    encoder = HFImage(field=field(32, 32), files=tmp_path / "files", name=str(tmp_path / "hub"), pretrained=False)
    before = {n: w.clone() for n, w in encoder.state_dict().items()}
    encoder.load_pretrained()
    assert all(torch.equal(w, before[n]) for n, w in encoder.state_dict().items())


def test_a_run_needs_only_its_own_files(tmp_path: Path) -> None:
    facts = {"size": {"height": 32, "width": 32}, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    publish_image(ViTConfig(**TINY), tmp_path / "hub", facts)
    settings = {"name": str(tmp_path / "hub")}
    wanted = HFImage.wants(settings, tmp_path / "files")
    assert wanted == {"size": [32, 32], "channels": 3, "normalize": {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}}
    reader = ImageReader(**wanted)
    assert reader.fit([])["std"] == [0.4, 0.5, 0.6]
    shutil.rmtree(tmp_path / "hub")
    assert HFImage.wants(settings, tmp_path / "files") == wanted
    HFImage(field=reader.field, files=tmp_path / "files", **settings)


@pytest.mark.parametrize(
    ("facts", "size", "normalize", "resize"),
    [
        ({"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 36}, "do_center_crop": True},
         [32, 36], None, "crop"),
        ({"size": {"shortest_edge": 40}}, [40, 40], None, None),
        ({"size": 48, "crop_size": 32, "do_center_crop": False}, [48, 48], None, None),
        ({"do_normalize": False, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}, [32, 32], "none", None),
        (None, [32, 32], None, None),
    ],
)  # fmt: skip
def test_wants_reads_every_way_of_writing_sizes(
    facts: dict | None, size: list[int], normalize: str | None, resize: str | None, tmp_path: Path
) -> None:
    publish_image(ViTConfig(**TINY), tmp_path / "hub", facts)
    wanted = HFImage.wants({"name": str(tmp_path / "hub")}, tmp_path / "files")
    assert (wanted["size"], wanted.get("normalize"), wanted.get("resize")) == (size, normalize, resize)
    ImageReader(**wanted)


def test_configuration_can_be_changed(tmp_path: Path) -> None:
    publish_image(ViTConfig(**TINY), tmp_path / "hub")
    settings = {"name": str(tmp_path / "hub"), "config": {"num_hidden_layers": 1, "image_size": 16}}
    assert HFImage.wants(settings, tmp_path / "files")["size"] == [16, 16]
    encoder = HFImage(field=field(16, 16), files=tmp_path / "files", pretrained=False, **settings)
    assert encoder(cells(16, 16)).tokens.shape == (3, 1 + 4, 16)
    with pytest.raises(SpecError, match=r"encoder\.config"):
        HFImage.wants({"name": "any", "config": {"layerz": 3}}, tmp_path / "files")


def test_poolers_are_left_out(tmp_path: Path) -> None:
    model = publish_image(ViTConfig(**TINY), tmp_path / "hub")
    HFImage.wants({"name": str(tmp_path / "hub")}, tmp_path / "files")
    encoder = HFImage(field=field(32, 32), files=tmp_path / "files", name="any")
    pooler = sum(p.numel() for n, p in model.named_parameters() if n.startswith("pooler"))
    assert pooler > 0
    assert sum(p.numel() for p in encoder.parameters()) == sum(p.numel() for p in model.parameters()) - pooler


def test_a_name_that_cannot_be_found(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"encoder\.name: .*\n.*nobody/nothing.*\n.*hub name"):
        HFImage.wants({"name": "nobody/nothing"}, tmp_path / "files")


def test_a_size_the_network_refuses(tmp_path: Path) -> None:
    publish_image(ViTConfig(**TINY), tmp_path / "hub")
    HFImage.wants({"name": str(tmp_path / "hub")}, tmp_path / "files")
    with pytest.raises(SpecError, match=r"does not take .*\n.*\n.*size: \[32, 32\]"):
        HFImage(field=field(48, 48), files=tmp_path / "files", name="any")


def test_low_rank_adapters(tmp_path: Path) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    publish_image(ViTConfig(**TINY), tmp_path / "hub")
    HFImage.wants({"name": str(tmp_path / "hub")}, tmp_path / "files")
    encoder = HFImage(field=field(32, 32), files=tmp_path / "files", name=str(tmp_path / "hub")).eval()
    encoder.load_pretrained()
    data = cells(32, 32)
    before = encoder(data).tokens
    linear = [n for n, m in encoder.named_modules() if isinstance(m, nn.Linear)]
    inject_adapter_in_model(LoraConfig(r=2, target_modules=linear), encoder)
    trained = [n for n, p in encoder.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * len(linear)
    assert all("lora" in n for n in trained)
    assert torch.allclose(encoder(data).tokens, before, atol=1e-6), "adapters begin as nothing"
    optimizer = torch.optim.SGD([p for p in encoder.parameters() if p.requires_grad], 1.0)
    for _ in range(2):
        optimizer.zero_grad()
        encoder(data).tokens.pow(3).sum().backward()
        optimizer.step()
    assert not torch.allclose(encoder(data).tokens, before, atol=1e-4)


def test_a_model_type_asks_nobody_for_its_preprocessing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.utils.cached_file", lambda *_, **__: pytest.fail("the hub was asked"))
    assert HFImage.wants({"name": "resnet"}, tmp_path) == {"channels": 3}
