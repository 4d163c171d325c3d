"""Encoders of clips against loops over their frames: every clip by itself, without padding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polymodal.assemble import build
from polymodal.core.checks import check_encoder
from polymodal.core.errors import SpecError
from polymodal.core.spec import PartSpec
from polymodal.modalities.image.cnn import CNN
from polymodal.modalities.image.resnet import ResNet
from polymodal.modalities.video.conv3d import Conv3D
from polymodal.modalities.video.encode import VideoFrames, around

FIELD = {"size": [20, 24], "channels": 3, "mean": [0.4, 0.5, 0.6], "std": [0.2] * 3, "frames": 6}
LENGTHS = (6, 3, 1, 4)
OVERS = ["none", "mean", "max", "rnn", "lstm", "gru", "transformer"]


def cells(fill: int = 0) -> dict[str, Tensor]:
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    g = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (len(LENGTHS), max(LENGTHS), 3, 20, 24), dtype=torch.uint8, generator=g)
    return {"frames": frames.where(mask[:, :, None, None, None], torch.tensor(fill, dtype=torch.uint8)),
            "frames_mask": mask}  # fmt: skip


def clips() -> list[Tensor]:
    data = cells()
    return [frames[:length] for frames, length in zip(data["frames"], LENGTHS, strict=True)]


def frames_of(over: str = "gru", **options: Any) -> VideoFrames:
    torch.manual_seed(1)
    picture = CNN(field=FIELD, channels=(4, 8), head="tokens")
    return VideoFrames(field=FIELD, picture=picture, over=over, width=8, **options).eval()


@pytest.mark.parametrize("over", OVERS)
def test_frames_keep_the_contract(over: str) -> None:
    check_encoder(lambda: VideoFrames(field=FIELD, over=over, width=8), cells())


@pytest.mark.parametrize(
    ("picture", "options"),
    [
        (lambda: ResNet(field=FIELD, base=4, blocks=(1, 1)), {"over": "lstm", "tokens": "last", "layers": 2}),
        (
            lambda: CNN(field=FIELD, channels=(4,), head="mean"),
            {"over": "rnn", "tokens": "mean", "bidirectional": False},
        ),
        (lambda: CNN(field=FIELD, channels=(4,), norm="group"), {"over": "transformer", "tokens": "mean", "heads": 2}),
    ],
)
def test_any_picture_encoder_will_do(picture: Any, options: dict) -> None:
    check_encoder(lambda: VideoFrames(field=FIELD, picture=picture(), width=8, **options), cells())


@pytest.mark.parametrize("form", ["3d", "2+1d"])
@pytest.mark.parametrize("options", [{}, {"stride": 4, "widths": (4, 6, 8)}, {"tokens": "mean", "dropout": 0.1}])
def test_conv3d_keeps_the_contract(form: str, options: dict) -> None:
    check_encoder(lambda: Conv3D(field=FIELD, form=form, **{"widths": (4, 8), **options}), cells())


def vectors(part: VideoFrames, clip: Tensor) -> Tensor:
    """One picture after the other."""
    return torch.stack([part.picture({"pixels": frame[None]}).tokens[0].mean(0) for frame in clip])


@torch.no_grad()
def test_pooled_frames() -> None:
    for over in ("none", "mean", "max"):
        part = frames_of(over)
        found = part(cells())
        for row, clip in enumerate(clips()):
            expected = vectors(part, clip)
            if over == "none":
                assert torch.allclose(found.tokens[row, : len(clip)], expected, atol=1e-5)
            else:
                pooled = expected.mean(0) if over == "mean" else torch.stack([v.max() for v in expected.T])
                assert found.tokens.shape[1] == 1
                assert torch.allclose(found.tokens[row, 0], pooled, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_recurrent_over_frames_is_torchs_own(kind: str) -> None:
    part = frames_of(kind)
    plain = getattr(nn, kind.upper())(part.picture.width, 8, batch_first=True, bidirectional=True)
    plain.load_state_dict({f"{n}{end}": v for direction, end in (("forwards", ""), ("backwards", "_reverse"))
                           for n, v in getattr(part.over.body, direction)[0].state_dict().items()})  # fmt: skip
    found = part(cells()).tokens
    last = frames_of(kind, tokens="last")(cells()).tokens
    for row, clip in enumerate(clips()):
        expected = plain(vectors(part, clip)[None])[0][0]
        assert torch.allclose(found[row, : len(clip)], expected, atol=1e-5)
        assert torch.allclose(last[row, 0], torch.cat([expected[-1, :8], expected[0, 8:]]), atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(
    "part", [frames_of("gru"), Conv3D(field=FIELD, widths=(4, 8)).eval()], ids=["frames", "conv3d"]
)
def test_padding_may_hold_anything(part: nn.Module) -> None:
    one, two = part(cells(0)), part(cells(200))
    assert torch.equal(one.tokens, two.tokens)


def test_batch_normalisation_sees_real_frames_only() -> None:
    """In training, padding is replaced by the clip's own frames, from the beginning."""
    assert around(cells()["frames_mask"]).tolist() == [[0, 1, 2, 3, 4, 5], [0, 1, 2] * 2, [0] * 6, [0, 1, 2, 3, 0, 1]]
    part, alone = frames_of("mean").train(), frames_of("mean").train()
    part(cells(255))
    filled = [clip[[i % len(clip) for i in range(6)]] for clip in clips()]
    alone.picture({"pixels": torch.cat(filled)})
    pairs = zip(part.picture.named_buffers(), alone.picture.named_buffers(), strict=True)
    assert all(torch.allclose(a.float(), b.float(), atol=1e-6) for (_, a), (_, b) in pairs)


@torch.no_grad()
@pytest.mark.parametrize("form", ["3d", "2+1d"])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_conv3d_by_loops_over_frames(form: str, stride: int) -> None:
    """Convolution as a sum of 2-D ones over the frames before, here and after; normalisation frame by frame."""
    torch.manual_seed(0)
    part = Conv3D(field=FIELD, form=form, stride=stride, widths=(4, 8, 6)).eval()
    for level in part.levels:
        for norm in level.norms:
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
    found = part(cells())
    for row, clip in enumerate(clips()):
        x = [(frame / 255 - torch.tensor(FIELD["mean"])[:, None, None]) / 0.2 for frame in clip]
        for level, hop in zip(part.levels, part.steps, strict=True):
            for convolution, norm in zip(level.convolutions, level.norms, strict=True):
                x = convolved(x, convolution, norm, hop if convolution.kernel_size[0] == 3 else 1)
        expected = torch.stack([frame.mean((1, 2)) for frame in x])
        assert int(found.mask[row].sum()) == len(expected) == -(-len(clip) // stride)
        assert torch.allclose(found.tokens[row, : len(expected)], expected, atol=1e-4)


def convolved(frames: list[Tensor], convolution: nn.Conv3d, norm: nn.GroupNorm, hop: int) -> list[Tensor]:
    weight, reach = convolution.weight, convolution.kernel_size[0] // 2
    stride, edge = convolution.stride[1], convolution.kernel_size[1] // 2
    made = []
    for at in range(0, len(frames), hop):
        near = [(k, at + k - reach) for k in range(2 * reach + 1) if 0 <= at + k - reach < len(frames)]
        whole = sum(F.conv2d(frames[i][None], weight[:, :, k], stride=stride, padding=edge) for k, i in near)[0]
        groups = whole.unflatten(0, (norm.num_groups, -1))
        mean, var = groups.mean((1, 2, 3), keepdim=True), groups.var((1, 2, 3), keepdim=True, unbiased=False)
        whole = ((groups - mean) / (var + norm.eps).sqrt()).flatten(0, 1)
        made.append(F.relu(whole * norm.weight[:, None, None] + norm.bias[:, None, None]))
    return made


def test_both_forms_have_as_many_parameters() -> None:
    counts = [sum(p.numel() for n, p in Conv3D(field=FIELD, form=f).named_parameters() if "convolutions" in n)
              for f in ("3d", "2+1d")]  # fmt: skip
    assert counts[0] == 27 * (3 * 16 + 16 * 32 + 32 * 64 + 64 * 128)
    assert counts[1] == pytest.approx(counts[0], rel=0.02)


@torch.no_grad()
def test_what_knows_the_order() -> None:
    """Pooling does not; recurrent nets, Transformers and convolutions over time do."""
    data = {k: v[:1] for k, v in cells().items()}
    turned = {**data, "frames": data["frames"].flip(1)}
    for over in OVERS[1:]:
        part = frames_of(over, **({} if over in ("mean", "max") else {"tokens": "mean"}))
        same = torch.allclose(part(data).tokens, part(turned).tokens, atol=1e-5)
        assert same == (over in ("mean", "max")), over
    part = Conv3D(field=FIELD, tokens="mean").eval()
    assert not torch.allclose(part(data).tokens, part(turned).tokens, atol=1e-3)


@pytest.mark.parametrize(
    ("part", "any_length"),
    [
        *((frames_of(over), over not in ("rnn", "lstm", "gru")) for over in OVERS),  # torch lays their steps out
        (Conv3D(field=FIELD, widths=(4, 8)).eval(), True),
        (Conv3D(field=FIELD, widths=(4, 8), stride=2).eval(), False),
    ],
    ids=[*OVERS, "conv3d", "conv3d of half the time"],
)
def test_export_for_any_number_of_clips_and_frames(part: nn.Module, any_length: bool) -> None:
    sizes = {0: torch.export.Dim.DYNAMIC, **({1: torch.export.Dim.DYNAMIC} if any_length else {})}
    shapes = {"frames": sizes, "frames_mask": sizes}
    fewer = {k: v[:3, :5] if any_length else v[:3] for k, v in cells().items()}
    with torch.no_grad():
        program = torch.export.export(part, (cells(),), dynamic_shapes=(shapes,), strict=False).module()
        for data in (cells(), fewer):
            assert torch.allclose(program(data).tokens, part(data).tokens, atol=1e-5)


def test_a_nested_picture_encoder_of_a_spec(tmp_path: Path, hub: Any) -> None:
    """Its settings are checked at their own place, and what it wants of a reader is wanted of the clips' reader."""
    settings = {"picture": {"type": "hf", "name": hub("image")}, "over": "mean"}
    wanted = VideoFrames.wants(settings, tmp_path)
    assert wanted["size"] == [32, 32]
    field = {**FIELD, "size": [32, 32]}
    part = build(PartSpec("encoder.video", "frames", settings, "inputs.c.encoder"), field=field, files=tmp_path)
    before = [p.clone() for p in part.picture.parameters()]
    part.load_pretrained()
    assert any(not torch.equal(a, b) for a, b in zip(before, part.picture.parameters(), strict=True))
    assert VideoFrames.wants({}, tmp_path) == {}
    with pytest.raises(SpecError) as error:
        VideoFrames.wants({"picture": "resnt"}, tmp_path)
    assert error.value.where == "encoder.picture.type"


def test_settings_that_cannot_be() -> None:
    with pytest.raises(SpecError, match="recurrent"):
        VideoFrames(field=FIELD, over="transformer", tokens="last")
    with pytest.raises(SpecError, match="must divide"):
        VideoFrames(field=FIELD, over="transformer", heads=3)
    with pytest.raises(SpecError, match="3 levels"):
        Conv3D(field=FIELD, stride=8, widths=(4, 8))


def test_it_learns_which_way_things_go() -> None:
    """A bar that moves left or right: no frame by itself says which, and neither does their mean."""
    g = torch.Generator().manual_seed(0)
    start, way = torch.randint(0, 12, (48,), generator=g), torch.randint(0, 2, (48,), generator=g)
    frames = torch.zeros(48, 5, 1, 12, 12, dtype=torch.uint8)
    for row in range(48):
        for t in range(5):
            frames[row, t, :, :, (start[row] + (2 * way[row] - 1) * 2 * t) % 12] = 255
    data = {"frames": frames, "frames_mask": torch.ones(48, 5, dtype=torch.bool)}
    field = {"size": [12, 12], "channels": 1, "mean": [0.1], "std": [0.3]}
    for make in (
        lambda: VideoFrames(field=field, width=16, tokens="mean"),
        lambda: Conv3D(field=field, widths=(16, 32), tokens="mean"),
    ):
        torch.manual_seed(0)
        part: Any = make()
        head = nn.Linear(part.width, 2)
        optimizer = torch.optim.Adam([*part.parameters(), *head.parameters()], 3e-3)
        for _ in range(40):
            optimizer.zero_grad()
            loss = F.cross_entropy(head(part(data).tokens[:, 0]), way)
            loss.backward()
            optimizer.step()
        assert loss.item() < 0.2, type(part).__name__
