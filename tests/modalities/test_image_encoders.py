from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polymodal.core.checks import check_encoder
from polymodal.core.errors import SpecError
from polymodal.modalities.image.cnn import CNN
from polymodal.modalities.image.norm import BatchNorm, norm
from polymodal.modalities.image.pixels import grid_tokens
from polymodal.modalities.image.pyramid import pyramid
from polymodal.modalities.image.resnet import ResNet
from polymodal.modalities.image.vit import ViT
from polymodal.modalities.pixels import Pixels


def field(height: int, width: int, channels: int = 3) -> dict:
    return {"size": [height, width], "channels": channels, "mean": [0.4, 0.5, 0.6][:channels], "std": [0.2] * channels}


def cells(height: int, width: int, channels: int = 3, count: int = 3) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(0)
    return {"pixels": torch.randint(0, 256, (count, channels, height, width), dtype=torch.uint8, generator=g)}


MNIST = {"channels": (32,), "padding": "valid", "norm": "none", "head": "flatten", "dense": 128}
ENCODERS = [
    (CNN, (28, 28, 1), MNIST),
    (CNN, (29, 31), {"channels": (8, 16)}),
    (CNN, (29, 31), {"channels": (8, 32), "norm": "group", "pool": "mean", "head": "mean", "convs": 2, "kernel": 5}),
    (CNN, (8, 8), {"channels": (8,), "pool": "none", "head": "flatten", "dropout": 0.1}),
    (CNN, (17, 23), {"channels": (8,), "pool_size": 3, "dense": 12, "kernel": 1}),
    (ResNet, (33, 47), {"base": 8}),
    (ResNet, (65, 70), {"base": 4, "depth": 50, "tokens": "mean", "norm": "group"}),
    (ResNet, (31, 21), {"base": 4, "blocks": (1, 2), "norm": "none", "stem": "large"}),
    (ViT, (20, 29), {"patch": 8, "width": 24, "layers": 2, "heads": 3}),
    (ViT, (16, 24, 1), {"patch": 8, "width": 24, "layers": 1, "heads": 2, "class_token": True, "dropout": 0.1}),
]


@pytest.mark.parametrize(("cls", "shape", "settings"), ENCODERS)
def test_contract(cls: type, shape: tuple[int, ...], settings: dict) -> None:
    check_encoder(lambda: cls(field=field(*shape), **settings), cells(*shape))


def test_pixels_are_normalised_as_numpy_does() -> None:
    data = cells(5, 7)["pixels"]
    expected = (data.numpy() / 255 - np.array([0.4, 0.5, 0.6])[:, None, None]) / 0.2
    assert np.allclose(Pixels(field(5, 7))(data).numpy(), expected, atol=1e-5)
    assert np.allclose(Pixels(field(5, 7))(data.float()).numpy(), expected, atol=1e-5), "floats have the range of bytes"
    assert not Pixels(field(5, 7)).state_dict(), "the field is the only place of the statistics"
    stream = CNN(field=field(5, 7), channels=(4,))({"pixels": data})
    assert np.allclose(stream.maps[0].numpy(), expected, atol=1e-5)


def test_grid_tokens_run_row_by_row() -> None:
    features = torch.arange(12.0).reshape(1, 2, 2, 3)
    assert grid_tokens(features)[0].tolist() == [[0, 6], [1, 7], [2, 8], [3, 9], [4, 10], [5, 11]]


def test_cnn_is_the_digit_net_it_says() -> None:
    cnn = CNN(field=field(28, 28, 1), **MNIST).eval()
    plain = nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(13 * 13 * 32, 128), nn.ReLU()
    )
    weights = list(cnn.state_dict().values())
    assert [w.shape for w in weights] == [w.shape for w in plain.state_dict().values()], "nothing but conv and dense"
    plain.load_state_dict(dict(zip(plain.state_dict(), weights, strict=True)))
    data = cells(28, 28, 1)
    tokens = cnn(data).tokens
    assert tokens.shape == (3, 1, 128)
    assert torch.allclose(tokens[:, 0], plain((data["pixels"] / 255 - 0.4) / 0.2), atol=1e-5)


def test_cnn_heads_agree() -> None:
    data, nets = cells(16, 16), {}
    for head in ("tokens", "mean", "flatten"):
        torch.manual_seed(0)
        nets[head] = CNN(field=field(16, 16), channels=(8, 16), head=head).eval()
    places = nets["tokens"](data).tokens
    assert places.shape == (3, 16, 16)
    assert torch.allclose(nets["mean"](data).tokens[:, 0], places.mean(1), atol=1e-6)
    assert torch.allclose(nets["flatten"](data).tokens[:, 0], places.transpose(1, 2).flatten(1), atol=1e-6)


def test_cnn_settings_that_cannot_be() -> None:
    with pytest.raises(SpecError, match="nothing is left"):
        CNN(field=field(8, 8), channels=(4, 4, 4), padding="valid")
    with pytest.raises(SpecError, match="at least one level"):
        CNN(field=field(8, 8), channels=())
    with pytest.raises(SpecError, match="must be odd"):
        CNN(field=field(8, 8), kernel=4)


PUBLISHED = {18: 11_689_512, 34: 21_797_672, 50: 25_557_032, 101: 44_549_160, 152: 60_192_808}  # with 1,000 classes


@pytest.mark.parametrize("depth", sorted(PUBLISHED))
def test_resnet_has_the_published_number_of_parameters(depth: int) -> None:
    with torch.device("meta"):
        net = ResNet(field=field(224, 224), depth=depth)
    assert sum(p.numel() for p in net.parameters()) + 1000 * (net.width + 1) == PUBLISHED[depth]
    assert net.strides == (4, 8, 16, 32)


@pytest.mark.parametrize(("depth", "kind"), [(18, "basic"), (50, "bottleneck")])
def test_resnet_answers_as_that_of_transformers(depth: int, kind: str) -> None:
    from transformers import ResNetConfig, ResNetModel

    mine = ResNet(field=field(65, 81), depth=depth, base=8, blocks=(1, 2, 1, 1), stem="large", zero_init=False).eval()
    config = ResNetConfig(
        embedding_size=8, hidden_sizes=list(mine.channels), depths=[1, 2, 1, 1], layer_type=kind, hidden_act="relu"
    )
    other = ResNetModel(config).eval()
    for module in other.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    mine.load_state_dict({_name(n): w for n, w in other.state_dict().items()})
    data = cells(65, 81)
    with torch.no_grad():
        stream = mine(data)
        expected = other(stream.maps[0], output_hidden_states=True)
    assert torch.allclose(stream.tokens, expected.last_hidden_state.flatten(2).transpose(1, 2), atol=1e-4)
    for level, hidden in zip(stream.maps[1:], expected.hidden_states[1:], strict=True):
        assert torch.allclose(level, hidden, atol=1e-4)


def _name(theirs: str) -> str:
    """The name of the same tensor in our ResNet."""
    kind = "0" if ".convolution." in theirs else "1"
    last = theirs.rpartition(".")[2]
    if theirs.startswith("embedder"):
        return f"stem.{kind}.{last}"
    stage, layer, rest = re.match(r"encoder\.stages\.(\d+)\.layers\.(\d+)\.(.*)", theirs).groups()
    step = re.match(r"layer\.(\d+)\.", rest)
    inner = f"residual.{3 * int(step[1]) + int(kind)}" if step else f"shortcut.{kind}"
    return f"stages.{stage}.{layer}.{inner}.{last}"


def test_resnet_stem_follows_the_size() -> None:
    assert ResNet(field=field(32, 32), base=4).strides == (1, 2, 4, 8)
    assert ResNet(field=field(64, 64), base=4).strides == (4, 8, 16, 32)
    assert ResNet(field=field(32, 32), base=4, stem="large").strides == (4, 8, 16, 32)


def test_resnet_blocks_begin_as_their_shortcuts() -> None:
    block = ResNet(field=field(32, 32), base=4).stages[0][0].eval()
    x = torch.rand(2, 4, 8, 8)
    assert torch.equal(block(x), x)
    assert not torch.equal(ResNet(field=field(32, 32), base=4, zero_init=False).stages[0][0].eval()(x), x)


def test_vit_is_patches_positions_and_a_stack() -> None:
    vit = ViT(field=field(20, 24), patch=8, width=24, layers=2, heads=3, class_token=True).eval()
    layer = nn.TransformerEncoderLayer(24, 3, 96, 0.0, "gelu", batch_first=True, norm_first=True)
    other = nn.TransformerEncoder(layer, 2, nn.LayerNorm(24), enable_nested_tensor=False).eval()
    names = {"self_attn.in_proj_": "qkv.", "self_attn.out_proj": "out", "linear1": "up", "linear2": "down"}
    mine, theirs = vit.stack.state_dict(), {}
    for name in other.state_dict():
        own = name
        for a, b in names.items():
            own = own.replace(a, b)
        theirs[name] = mine[own]
    other.load_state_dict(theirs)
    data = cells(20, 24)
    with torch.no_grad():
        stream = vit(data)
        padded = torch.zeros(3, 3, 24, 24)
        padded[:, :, :20] = stream.maps[0]
        patches = F.unfold(padded, 8, stride=8).transpose(1, 2)  # [N, 9, 3 * 8 * 8]
        x = patches @ vit.patches.weight.flatten(1).T + vit.patches.bias
        x = torch.cat([vit.first.weight.expand(3, 1, -1), x], 1) + vit.positions.weight
        expected = other(x)
    assert torch.allclose(stream.tokens, expected, atol=1e-5)
    assert torch.allclose(stream.maps[1][:, :, 1, 2], expected[:, 1 + 3 + 2], atol=1e-5)


def test_vit_heads_must_divide_the_width() -> None:
    with pytest.raises(SpecError, match=r"encoder\.heads"):
        ViT(field=field(16, 16), width=10, heads=3)


def test_a_single_value_per_channel_trains() -> None:
    net = ResNet(field=field(16, 16), base=4, blocks=(1, 1, 1, 1, 1)).train()
    assert net(cells(16, 16, count=1)).maps[-1].shape[2:] == (1, 1)
    batch, plain = BatchNorm(4), nn.BatchNorm2d(4)
    x = torch.randn(5, 4, 3, 3)
    assert torch.equal(batch(x), plain(x))
    kept = batch.running_mean.clone()
    batch(x[:1, :, :1, :1])
    assert torch.equal(batch.running_mean, kept)


@pytest.mark.parametrize(("channels", "groups"), [(128, 8), (64, 4), (30, 1), (8, 1)])
def test_groups_have_sixteen_channels_where_they_can(channels: int, groups: int) -> None:
    assert norm("group", channels).num_groups == groups


def test_pyramid_takes_the_last_map_of_each_size() -> None:
    assert pyramid([(9, 12), (9, 12), (5, 6), (3, 3), (2, 2)], (33, 47)) == ((1, 2, 3, 4), (4, 8, 16, 32))
    assert pyramid([(37, 37)], (518, 518)) == ((0,), (14,))
    assert pyramid([(16, 16), (7, 7)], (80, 80)) == ((), ()), "not the size over a stride"
    assert pyramid([], (80, 80)) == ((), ())
