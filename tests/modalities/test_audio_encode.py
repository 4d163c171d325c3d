"""Encoders of sounds: the contract, what each computes, gradients of each cell."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from polymodal.core.checks import check_encoder
from polymodal.core.errors import SpecError
from polymodal.core.schema import settable
from polymodal.modalities.audio.encode import AudioCNN, AudioGRU, AudioLSTM, AudioRNN, AudioTransformer
from polymodal.modalities.steps import stack_frames

FIELD = {"bands": 10}
LENGTHS = (13, 1, 8, 5)


def cells(lengths=LENGTHS, bands=10) -> dict:
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    x = torch.randn(len(lengths), max(lengths), bands, generator=torch.Generator().manual_seed(0))
    return {"mel": x * mask[..., None], "mel_mask": mask}


RECURRENT = [
    {"width": 8},
    {"width": 8, "stack": 3, "bidirectional": True, "tokens": "last"},
    {"width": 8, "layers": 2, "tokens": "mean", "stack": 1},
]
PARTS = [(cls, options) for cls in (AudioRNN, AudioLSTM, AudioGRU) for options in RECURRENT] + [
    (AudioCNN, {"width": 8, "filters": 4}),
    (AudioCNN, {"width": 8, "filters": 3, "stride": 1, "layers": 5, "tokens": "mean"}),
    (AudioCNN, {"width": 8, "filters": 3, "stride": 8, "dropout": 0.1}),
    (AudioTransformer, {"width": 8, "heads": 2}),
    (AudioTransformer, {"width": 8, "heads": 2, "stride": 1, "tokens": "mean"}),
    (AudioTransformer, {"width": 6, "heads": 1, "stride": 8, "layers": 1, "ratio": 2}),
]


@pytest.mark.parametrize(("cls", "options"), PARTS)
def test_contract(cls, options):
    check_encoder(lambda: cls(field=FIELD, **options), cells())
    assert cls.wants({}, Path()) == {}
    assert "field" not in settable(cls)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize(("cls", "options"), PARTS)
def test_each_cell_has_a_gradient_of_its_own(cls, options):
    """Per-sample gradients by vmap (as DP-SGD takes them) add up to the gradient of the sum."""
    torch.manual_seed(0)
    part = cls(field=FIELD, **options).eval()
    weights, data = dict(part.named_parameters()), cells()

    def loss(weights, x, mask):
        return functional_call(part, weights, ({"mel": x[None], "mel_mask": mask[None]},)).tokens.square().sum()

    single = [grad(loss)(weights, data["mel"][i], data["mel_mask"][i]) for i in range(4)]
    whole = torch.autograd.grad(part(data).tokens.square().sum(), list(weights.values()))
    for (name, _), expected in zip(weights.items(), whole, strict=True):
        torch.testing.assert_close(sum(one[name] for one in single), expected, atol=1e-4, rtol=1e-3)
    if not cls.__name__.endswith(("RNN", "LSTM", "GRU")):
        each = vmap(grad(loss), in_dims=(None, 0, 0))(weights, data["mel"], data["mel_mask"])
        for name in weights:
            torch.testing.assert_close(each[name][2], single[2][name], atol=1e-4, rtol=1e-3)


def test_stacked_frames_lie_side_by_side():
    data = cells((5, 2, 3, 1), bands=2)
    x, mask = stack_frames(data["mel"], data["mel_mask"], 2)
    assert mask.tolist() == [[True, True, True], [True, False, False], [True, True, False], [True, False, False]]
    assert torch.equal(x[0, 1], torch.cat([data["mel"][0, 2], data["mel"][0, 3]]))
    assert torch.equal(x[0, 2], torch.cat([data["mel"][0, 4], torch.zeros(2)]))


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_recurrent_tokens_are_torchs_own(kind):
    """On one sound without padding: the outputs of nn.RNN, nn.LSTM, nn.GRU, and their final states as `last`."""
    cls = {"rnn": AudioRNN, "lstm": AudioLSTM, "gru": AudioGRU}[kind]
    torch.manual_seed(0)
    part = cls(field=FIELD, width=8, bidirectional=True, stack=1).eval()
    rival = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[kind](10, 8, batch_first=True, bidirectional=True)
    for (_, theirs), ours in zip(rival.named_parameters(), part.parameters(), strict=True):
        theirs.data = ours.data
    data = cells((7, 4))
    for row, length in enumerate((7, 4)):
        expected, state = rival(data["mel"][row : row + 1, :length])
        torch.testing.assert_close(part(data).tokens[row, :length], expected[0])
        part.tokens = "last"
        final = state[0] if kind == "lstm" else state
        torch.testing.assert_close(part(data).tokens[row, 0], final[:, 0].flatten())
        part.tokens = "mean"
        torch.testing.assert_close(part(data).tokens[row, 0], expected[0].mean(0))
        part.tokens = "all"


@pytest.mark.parametrize(("cls", "options"), [p for p in PARTS if p[1].get("tokens", "all") == "all"])
def test_number_of_tokens(cls, options):
    """ceil(T / stride) tokens, the real ones first; one frame is one token."""
    each = options.get("stride", options.get("stack", 4))
    stream = cls(field=FIELD, **options)(cells())
    assert stream.mask.sum(1).tolist() == [-(-length // each) for length in LENGTHS]
    assert torch.equal(stream.mask, stream.mask.cummin(1).values)


def test_convolution_of_one_layer_by_hand():
    """A token of a one-layer net without time stride, from conv2d on the frame and its two neighbours alone."""
    torch.manual_seed(0)
    part = AudioCNN(field=FIELD, width=6, layers=1, filters=4, stride=1).eval()
    data = cells((9, 6))
    near = data["mel"][0, 3:6][None, None]
    frame = nn.functional.conv2d(near, part.convolutions[0].weight, part.convolutions[0].bias, (1, 2), (0, 1))[0, :, 0]
    normal = (frame - frame.mean()) / (frame.var(correction=0) + 1e-5).sqrt()
    expected = part.join(nn.functional.gelu(normal).T.flatten())
    torch.testing.assert_close(part(data).tokens[0, 4], expected)


def test_positions_tell_equal_frames_apart():
    torch.manual_seed(0)
    part = AudioTransformer(field=FIELD, width=8, heads=2, stride=2).eval()
    data = {"mel": torch.ones(1, 20, 10), "mel_mask": torch.ones(1, 20, dtype=torch.bool)}
    inner = part(data).tokens[0, 2:8]
    assert (inner[1:] - inner[:-1]).abs().amax(1).min() > 1e-2


@pytest.mark.parametrize(("cls", "options"), PARTS)
def test_what_stands_in_the_padding_does_not_matter(cls, options):
    torch.manual_seed(0)
    part, data = cls(field=FIELD, **options).eval(), cells()
    spoilt = torch.where(data["mel_mask"][..., None], data["mel"], torch.full_like(data["mel"], 7.0))
    torch.testing.assert_close(part({**data, "mel": spoilt}).tokens, part(data).tokens)


def test_settings_that_do_not_go_together():
    with pytest.raises(SpecError, match="layers"):
        AudioCNN(field=FIELD, layers=2, stride=8)
    with pytest.raises(SpecError, match="divide"):
        AudioTransformer(field=FIELD, width=10, heads=3)
