from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import TimesformerConfig, VideoMAEConfig, ViTConfig, VivitConfig

from polymodal.core.checks import check_encoder
from polymodal.core.errors import SpecError
from polymodal.modalities.video.hf import HFVideo, stretched
from polymodal.modalities.video.read import VideoReader
from published import publish_image

TINY = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 16,
        "num_frames": 4}  # fmt: skip
NETS = {
    "videomae": (VideoMAEConfig(**TINY, patch_size=8, tubelet_size=2), 2 * 4),
    "timesformer": (TimesformerConfig(**TINY, patch_size=8), 4 * 4 + 1),
    "vivit": (VivitConfig(**TINY, tubelet_size=[2, 8, 8]), 2 * 4 + 1),
}
FIELD = {"size": [16, 16], "channels": 3, "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4], "frames": 6}
LENGTHS = (4, 6, 1, 3)


def cells() -> dict[str, Tensor]:
    mask = torch.arange(6) < torch.tensor(LENGTHS)[:, None]
    g = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (4, 6, 3, 16, 16), dtype=torch.uint8, generator=g)
    return {"frames": frames * mask[:, :, None, None, None], "frames_mask": mask}


def made(folder: Path, kind: str, **options: Any) -> HFVideo:
    hub = str(folder / "hub")
    HFVideo.wants({"name": hub, **options}, folder / "files")
    return HFVideo(field=FIELD, files=folder / "files", name=hub, **options)


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("tokens", ["all", "mean"])
def test_contract(kind: str, tokens: str, tmp_path: Path) -> None:
    publish_image(NETS[kind][0], tmp_path / "hub")
    made(tmp_path, kind)
    check_encoder(lambda: HFVideo(field=FIELD, files=tmp_path / "files", name="gone", tokens=tokens), cells())


@pytest.mark.parametrize("kind", NETS)
def test_published_weights_give_the_published_answer(kind: str, tmp_path: Path) -> None:
    config, count = NETS[kind]
    published = publish_image(config, tmp_path / "hub")
    part = made(tmp_path, kind).eval()
    part.load_pretrained()
    with torch.no_grad():
        found = part(cells()).tokens
        assert found.shape == (4, count, 16)
        for row, length in enumerate(LENGTHS):
            numbers = [int((i + 0.5) * length / 4) for i in range(4)]
            frames = cells()["frames"][row, numbers] / 255
            mean, std = (torch.tensor(FIELD[k])[:, None, None] for k in ("mean", "std"))
            expected = published(pixel_values=((frames - mean) / std)[None]).last_hidden_state[0]
            assert torch.allclose(found[row], expected, atol=1e-5)


def test_stretching() -> None:
    mask = torch.arange(5) < torch.tensor([[5], [2], [1], [0]])
    assert stretched(mask, 4).tolist() == [[0, 1, 3, 4], [0, 0, 1, 1], [0] * 4, [0] * 4]


def test_wants_what_the_network_was_trained_with(tmp_path: Path) -> None:
    facts = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}, "do_center_crop": True,
             "image_mean": [0.5, 0.4, 0.3], "image_std": [0.1, 0.2, 0.3]}  # fmt: skip
    publish_image(NETS["videomae"][0], tmp_path / "hub", facts)
    wanted = HFVideo.wants({"name": str(tmp_path / "hub")}, tmp_path / "files")
    assert wanted == {"channels": 3, "size": [16, 16], "resize": "crop", "frames": 4,
                      "normalize": {"mean": [0.5, 0.4, 0.3], "std": [0.1, 0.2, 0.3]}}  # fmt: skip
    VideoReader(**wanted)
    fewer = HFVideo.wants({"name": "x", "config": {"num_frames": 2}}, tmp_path / "files")
    assert fewer["frames"] == 2


def test_a_run_needs_no_hub_any_more(tmp_path: Path) -> None:
    publish_image(NETS["vivit"][0], tmp_path / "hub")
    first = made(tmp_path, "vivit").eval()
    first.load_pretrained()
    shutil.rmtree(tmp_path / "hub")
    again = HFVideo(field=FIELD, files=tmp_path / "files", name=str(tmp_path / "hub")).eval()
    again.load_state_dict(first.state_dict())
    with torch.no_grad():
        assert torch.equal(first(cells()).tokens, again(cells()).tokens)
    assert json.loads((tmp_path / "files" / "config.json").read_text())["model_type"] == "vivit"


def test_what_is_refused(tmp_path: Path) -> None:
    publish_image(ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=8),
                  tmp_path / "hub")  # fmt: skip
    with pytest.raises(SpecError, match="no video encoder"):
        HFVideo.wants({"name": str(tmp_path / "hub")}, tmp_path / "picture")
    publish_image(NETS["timesformer"][0], tmp_path / "hub")
    HFVideo.wants({"name": str(tmp_path / "hub")}, tmp_path / "files")
    for field in ({**FIELD, "size": [24, 24]}, {**FIELD, "channels": 1, "mean": [0.5], "std": [0.5]}):
        with pytest.raises(SpecError, match="does not take"):
            HFVideo(field=field, files=tmp_path / "files", name="net")
    with pytest.raises(SpecError, match="no such value"):
        HFVideo(field=FIELD, files=tmp_path / "files", name="net", config={"frames": 3})
