"""Encoders of series: the contract, and each against an independent computation."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from polymodal.core.catalog import PARTS, load
from polymodal.core.checks import check_encoder
from polymodal.core.errors import SpecError
from polymodal.core.schema import settable
from polymodal.modalities.series.encode import SeriesCNN, SeriesGRU, SeriesLinear, SeriesTCN, SeriesTransformer

FIELD = {"features": 3}
LENGTHS = (13, 1, 8, 5)


def cells(lengths=LENGTHS, features=3) -> dict:
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    x = torch.randn(len(lengths), max(lengths), features, generator=torch.Generator().manual_seed(0))
    return {"values": x * mask[..., None], "values_mask": mask}


OPTIONS = {
    "rnn": [{"width": 8}],
    "gru": [{"width": 8, "stack": 3, "tokens": "last"}, {"width": 6, "layers": 2, "bidirectional": False}],
    "lstm": [{"width": 8, "tokens": "mean"}],
    "transformer": [{"width": 8, "heads": 2}, {"width": 8, "heads": 2, "stride": 4, "tokens": "mean"}],
    "linear": [{"width": 5}, {"width": 5, "tokens": "mean"}],
    "cnn": [{"width": 8}, {"width": 8, "kernel": 3, "stride": 8, "tokens": "mean"}, {"width": 8, "layers": 1}],
    "tcn": [{"width": 8}, {"width": 3, "causal": True, "kernel": 2, "tokens": "mean"}, {"width": 8, "tokens": "last"}],
}
PARTS_OF = [(name, options) for name, several in OPTIONS.items() for options in several]


def test_every_encoder_is_tried():
    assert set(OPTIONS) == set(PARTS["encoder.series"])


@pytest.mark.parametrize(("name", "options"), PARTS_OF)
def test_contract(name, options):
    cls = load("encoder.series", name, "here")
    check_encoder(lambda: cls(field=FIELD, **options), cells())
    assert cls.wants({}, Path()) == {}
    assert "field" not in settable(cls)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize(("name", "options"), PARTS_OF)
def test_each_cell_has_a_gradient_of_its_own(name, options):
    torch.manual_seed(0)
    part = load("encoder.series", name, "here")(field=FIELD, **options).eval()
    weights, data = dict(part.named_parameters()), cells()

    def loss(weights, x, mask):
        return functional_call(part, weights, ({"values": x[None], "values_mask": mask[None]},)).tokens.square().sum()

    single = [grad(loss)(weights, data["values"][i], data["values_mask"][i]) for i in range(4)]
    whole = torch.autograd.grad(part(data).tokens.square().sum(), list(weights.values()))
    for (key, _), expected in zip(weights.items(), whole, strict=True):
        torch.testing.assert_close(sum(one[key] for one in single), expected, atol=1e-4, rtol=1e-3)
    if name not in ("rnn", "gru", "lstm"):  # torch's recurrent nets know no vmap
        many = vmap(grad(loss), (None, 0, 0))(weights, data["values"], data["values_mask"])
        for key in weights:
            torch.testing.assert_close(many[key][2], single[2][key], atol=1e-4, rtol=1e-3)


def test_what_is_masked_is_never_read():
    """Values behind the end, which a caller may leave there, change nothing."""
    data = cells()
    spoilt = {**data, "values": torch.where(data["values_mask"][..., None], data["values"], 7.0)}
    for name, several in OPTIONS.items():
        torch.manual_seed(0)
        part = load("encoder.series", name, "here")(field=FIELD, **several[0]).eval()
        assert torch.equal(part(data).tokens, part(spoilt).tokens), name


def test_linear_is_one_map_of_every_step():
    part, data = SeriesLinear(field=FIELD, width=4), cells()
    weight, bias = part.map.weight.detach().numpy(), part.map.bias.detach().numpy()
    found = part(data).tokens.detach().numpy()
    for row, length in enumerate(LENGTHS):
        for step in range(length):
            expected = weight @ data["values"][row, step].numpy() + bias
            assert np.allclose(found[row, step], expected, atol=1e-6)
    assert sum(p.numel() for p in part.parameters()) == 4 * (3 + 1)


def test_early_is_late_for_linear_encoders():
    """W [x; y] = U x + V y: joined before encoding, or encoded each by itself and added."""
    joined = SeriesLinear(field={"features": 5}, width=4)
    one, two = SeriesLinear(field={"features": 3}, width=4), SeriesLinear(field={"features": 2}, width=4)
    with torch.no_grad():
        one.map.weight.copy_(joined.map.weight[:, :3])
        two.map.weight.copy_(joined.map.weight[:, 3:])
        one.map.bias.copy_(joined.map.bias)
        two.map.bias.zero_()
    data = cells(features=5)
    left, right = ({**data, "values": v} for v in (data["values"][..., :3], data["values"][..., 3:]))
    assert torch.allclose(joined(data).tokens, one(left).tokens + two(right).tokens, atol=1e-6)


def test_gru_is_torchs_on_packed_sequences():
    part, data = SeriesGRU(field=FIELD, width=6), cells()
    other = nn.GRU(3, 6, batch_first=True, bidirectional=True)
    names = {"forwards.0.": "", "backwards.0.": "_reverse"}
    state = {
        k.removeprefix(p) + end: v for p, end in names.items() for k, v in part.body.state_dict().items() if p in k
    }
    other.load_state_dict(state)
    lengths = torch.tensor(LENGTHS)
    packed = nn.utils.rnn.pack_padded_sequence(data["values"], lengths, batch_first=True, enforce_sorted=False)
    expected, _ = nn.utils.rnn.pad_packed_sequence(other(packed)[0], batch_first=True)
    assert torch.allclose(part(data).tokens, expected, atol=1e-6)


def by_hand(block, x: torch.Tensor) -> torch.Tensor:
    """A residual block of a causal TCN on one unpadded series [T, M], tap by tap."""
    inner = x
    for convolution, norm in zip(block.convolutions, block.norms, strict=True):
        hop, steps = convolution.dilation[0], []
        for t in range(len(inner)):
            total = convolution.bias.clone()
            for tap in range(convolution.kernel_size[0]):
                before = t - hop * (convolution.kernel_size[0] - 1 - tap)
                if before >= 0:
                    total = total + convolution.weight[:, :, tap] @ inner[before]
            steps.append(torch.relu(norm(total)))
        inner = torch.stack(steps)
    skip = x if isinstance(block.skip, nn.Identity) else x @ block.skip.weight.T + block.skip.bias
    return torch.relu(skip + inner)


@torch.no_grad()
def test_tcn_against_loops():
    torch.manual_seed(0)
    part, data = SeriesTCN(field=FIELD, width=5, layers=3, kernel=2, causal=True).eval(), cells()
    found = part(data).tokens
    for row, length in enumerate(LENGTHS):
        x = data["values"][row, :length]
        for block in part.blocks:
            x = by_hand(block, x)
        assert torch.allclose(found[row, :length], x, atol=1e-5)


@pytest.mark.parametrize("causal", [True, False])
def test_tcn_sees_what_it_says(causal):
    """1 + 2 (kernel - 1) (2^layers - 1) steps: up to its own, or half of them to either side."""
    torch.manual_seed(0)
    part = SeriesTCN(field=FIELD, width=8, layers=3, kernel=3, causal=causal).eval()
    length, middle, reach = 81, 40, 2 * 2 * 7
    x = torch.randn(1, length, 3, requires_grad=True)
    part({"values": x, "values_mask": torch.ones(1, length, dtype=torch.bool)}).tokens[
        0, middle
    ].square().sum().backward()
    seen = torch.nonzero(x.grad[0].abs().sum(1)).flatten().tolist()
    back = reach if causal else reach // 2
    assert seen == list(range(middle - back, middle - back + reach + 1))


@pytest.mark.parametrize(("size", "width", "layers", "kernel"), [(3, 8, 4, 3), (1, 16, 2, 5), (7, 12, 1, 2)])
def test_tcn_costs_what_it_says(size, width, layers, kernel):
    part = SeriesTCN(field={"features": size}, width=width, layers=layers, kernel=kernel)
    weights = sum(p.numel() for n, p in part.named_parameters() if n.endswith("weight") and "norms" not in n)
    assert weights == (kernel * size + (2 * layers - 1) * kernel * width + size) * width


@torch.no_grad()
def test_cnn_against_torch_on_each_series():
    torch.manual_seed(0)
    part, data = SeriesCNN(field=FIELD, width=4, layers=2, kernel=3, stride=2).eval(), cells()
    found = part(data)
    assert found.mask.sum(1).tolist() == [7, 1, 4, 3]
    for row, length in enumerate(LENGTHS):
        x = data["values"][row, :length].T[None]
        for convolution, norm, hop in zip(part.convolutions, part.norms, (2, 1), strict=True):
            x = F.conv1d(x, convolution.weight, convolution.bias, hop, 1)
            x = F.gelu(F.layer_norm(x.transpose(1, 2), (4,), norm.weight, norm.bias)).transpose(1, 2)
        assert torch.allclose(found.tokens[row, : x.shape[2]], x[0].T, atol=1e-5)


def test_settings_that_do_not_fit():
    with pytest.raises(SpecError, match="needs 3 layers"):
        SeriesCNN(field=FIELD, layers=2, stride=8)
    with pytest.raises(SpecError, match="heads"):
        SeriesTransformer(field=FIELD, width=9, heads=2)
