"""Layout, precision and memory: they change the time, never what is computed (but for rounding)."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import polymodal
from polymodal.core.settings import Train
from polymodal.work import memory
from polymodal.work.runtime import Runtime
from polymodal.work.step import _clip


def pictures(folder: Path, rows: int = 48) -> dict[str, list]:
    """Squares that are brighter above or below."""
    g = np.random.default_rng(0)
    labels = g.choice(["up", "down"], size=rows)
    for i, label in enumerate(labels):
        pixels = g.integers(0, 100, (16, 16, 3), dtype=np.uint8)
        pixels[:8] += np.uint8(120) * (label == "up")
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return {"photo": [str(folder / f"{i}.png") for i in range(rows)], "label": labels.tolist()}


def fit(folder: Path, data: dict[str, list], **train: object) -> polymodal.Run:
    encoder = {"type": "resnet", "blocks": [1, 1, 1], "base": 8}
    spec = {
        "inputs": {"photo": {"type": "image", "size": 16, "encoder": encoder}},
        "tasks": {"label": "classify"},
        "train": {"epochs": 2, "batch": 16, "lr": 1e-3, "device": "cpu", "threads": 1, "buckets": False, **train},
    }
    return polymodal.train(data, spec=spec, out=folder, quiet=True)


def test_only_pictures_change_their_layout() -> None:
    runtime = Runtime(Train(device="cpu", channels_last=True))
    picture, rows = torch.arange(2 * 3 * 4 * 5).view(2, 3, 4, 5), torch.zeros(2, 3, 4)
    assert runtime.move(picture).is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(runtime.move(picture), picture)
    assert runtime.move(rows).is_contiguous()
    assert Runtime(Train(device="cpu")).move(picture).is_contiguous()


def test_the_layout_changes_no_more_than_rounding(tmp_path: Path) -> None:
    data = pictures(tmp_path)
    first, last = fit(tmp_path / "first", data), fit(tmp_path / "last", data, channels_last=True)
    for name, value in first.assembly.model.state_dict().items():
        other = last.assembly.model.state_dict()[name]
        assert other.is_contiguous(), name
        torch.testing.assert_close(other, value, atol=2e-3, rtol=2e-2, msg=lambda m, name=name: f"{name}: {m}")
    answers = [[row["label.confidence"] for row in run.predict(data)] for run in (first, last)]
    np.testing.assert_allclose(*answers, atol=1e-2)


def test_bf16_leaves_the_weights_and_feature_maps_alone(tmp_path: Path) -> None:
    run = fit(tmp_path / "run", pictures(tmp_path), precision="bf16", channels_last=True)
    assert all(p.dtype == torch.float32 for p in run.assembly.model.parameters())
    runtime = Runtime(run.spec.train)
    with runtime.autocast():
        assert torch.nn.functional.linear(torch.ones(2, 2), torch.ones(2, 2)).dtype == torch.bfloat16
    with Runtime(Train(device="cpu")).autocast():
        assert torch.nn.functional.linear(torch.ones(2, 2), torch.ones(2, 2)).dtype == torch.float32


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_gradients_are_clipped_as_torch_does(scale: float) -> None:
    g = torch.Generator().manual_seed(0)
    ours = [torch.nn.Parameter(torch.zeros(3, 4)), torch.nn.Parameter(torch.zeros(5))]
    theirs = [torch.nn.Parameter(torch.zeros_like(p)) for p in ours]
    for one, two in zip(ours, theirs, strict=True):
        one.grad = scale * torch.randn(one.shape, generator=g)
        two.grad = one.grad.clone()
    _clip(ours, 1.0)
    torch.nn.utils.clip_grad_norm_(theirs, 1.0)
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, two.grad)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """What memory.kept asks of the C library."""
    calls: list[tuple] = []
    stand_in = SimpleNamespace(
        mallopt=lambda *a: calls.append(("mallopt", *a)) or 1, malloc_trim=lambda *a: calls.append(("trim", *a)) or 1
    )
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: stand_in)
    return calls


def test_memory_is_kept_and_given_back(library: list[tuple]) -> None:
    def fails() -> None:
        with memory.kept():
            inside.extend(library)
            raise KeyError

    inside: list[tuple] = []
    with pytest.raises(KeyError):
        fails()
    assert inside == [("mallopt", memory.MMAP_MAX, 0), ("mallopt", memory.TRIM_THRESHOLD, memory.NEVER)]
    assert ("mallopt", memory.MMAP_MAX, memory.USUAL_MAPS) in library
    assert library[-1] == ("trim", 0)


def test_other_systems_have_no_such_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: SimpleNamespace())
    with memory.kept():
        pass


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts page faults of Linux")
def test_pages_are_not_cleared_anew_for_every_step() -> None:
    import resource

    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(10):
            torch.empty(16 << 20).fill_(1.0)  # 64 MB: 16,384 pages
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    usual = faults()
    with memory.kept():
        kept = faults()
    assert kept < usual / 4
    assert faults() > 4 * kept  # and afterwards it is as before
