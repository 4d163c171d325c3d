"""timm imports torchvision, which cannot always load: real timm networks are built in a process of their own, beside a
stand-in (see `published.stand_in`)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

CHECK = """
import sys
from pathlib import Path
from jaxtyping import install_import_hook
install_import_hook("polymodal", "beartype.beartype")
import torch
from polymodal.core.checks import check_encoder
from polymodal.core.errors import SpecError
from polymodal.modalities.image.read import ImageReader
from polymodal.modalities.image.timm import TimmImage
files = Path(sys.argv[1])

def cells(height, width):
    g = torch.Generator().manual_seed(0)
    return {"pixels": torch.randint(0, 256, (3, 3, height, width), dtype=torch.uint8, generator=g)}

def field(name, size):
    reader = ImageReader(**{**TimmImage.wants({"name": name}, files / name), "size": list(size)})
    return reader.fit([])

def build(name, size):
    return TimmImage(field=field(name, size), files=files / name, name=name, pretrained=False)

def check(name, size):
    # in double: deep random nets magnify the last digit of a float a thousandfold
    check_encoder(lambda: build(name, size).double(), cells(*size), export=False)
    return build(name, size)
"""


@pytest.fixture
def run(beside_torchvision: dict[str, str], tmp_path: Path) -> Callable[[str], str]:
    """Runs code after CHECK beside the stand-in; gives what it printed."""

    def script(code: str) -> str:
        command = [sys.executable, "-W", "error", "-c", CHECK + code, str(tmp_path / "files")]
        done = subprocess.run(command, env=beside_torchvision, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return script


def test_networks_of_timm(run: Callable[[str], str]) -> None:
    run("""
net = check("vgg11", (32, 32))
assert sum(p.numel() for p in net.parameters()) == 9_220_480, "the eight convolutions of VGG-11, nothing idle"
assert net.strides == (1, 2, 4, 8, 16, 32)
net = check("resnet18", (33, 47))
assert sum(p.numel() for p in net.parameters()) == 11_176_512
assert net.strides == (2, 4, 8, 16, 32)
net = check("inception_v3", (80, 80))
assert net.width == 2048 and net.strides == (), "its maps are not the size over a stride"
net = check("vit_tiny_patch16_224", (32, 48))
assert net.strides == (16,) and net(cells(32, 48)).tokens.shape == (3, 1 + 6, 192)
""")


def test_tokens_are_those_of_forward_features(run: Callable[[str], str]) -> None:
    run("""
net = build("resnet18", (64, 64)).eval()
data = cells(64, 64)
with torch.no_grad():
    stream = net(data)
    expected = net.model.forward_features(stream.maps[0])
assert torch.allclose(stream.tokens, expected.flatten(2).transpose(1, 2), atol=1e-5)
""")


def test_facts_are_stored_and_errors_can_be_read(run: Callable[[str], str]) -> None:
    out = run("""
wanted = TimmImage.wants({"name": "inception_v3"}, files / "kept")
assert wanted["size"] == [299, 299] and wanted["normalize"] == {"mean": [0.5] * 3, "std": [0.5] * 3}
assert TimmImage.wants({"name": "no matter"}, files / "kept") == wanted
for act in (
    lambda: TimmImage.wants({"name": "resnet81"}, files / "none"),
    lambda: TimmImage.wants({"name": "resnet18.no_such_tag"}, files / "none"),
    lambda: build("inception_v3", (16, 16)),
    lambda: TimmImage(field=field("resnet18", (32, 32)), files=files / "resnet18", name="resnet18").load_pretrained(),
):
    try:
        act()
    except SpecError as error:
        print(error)
""")
    assert "timm has no network of this name" in out
    assert "'resnet18'" in out
    assert "does not take pictures of [16, 16] pixels" in out
    assert "the weights of this network cannot be loaded" in out
    assert out.count("encoder.name: ") == 4


def test_without_torchvision_the_error_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')"
    )
    code = """
from pathlib import Path
from polymodal.core.errors import UserError
from polymodal.modalities.image.timm import TimmImage
try:
    TimmImage.wants({"name": "vgg11"}, Path("never"))
except UserError as error:
    print(error)
"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert "timm cannot be imported" in done.stdout, done.stderr
    assert "polymodal[timm]" in done.stdout
    assert "same build as torch" in done.stdout
