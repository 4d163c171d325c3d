"""Encoders of records: the contract, what each computes, gradients of each record."""

from pathlib import Path

import pytest
import torch
from torch.func import functional_call, grad, vmap

from polymodal.core.checks import check_encoder
from polymodal.core.errors import SpecError
from polymodal.modalities.tabular.encode import FTTransformer, TabularMLP


def field(numbers: int, categories: tuple[int, ...]) -> dict:
    return {
        "numeric": [{"column": f"n{i}", "log": False} for i in range(numbers)],
        "categorical": [
            {"column": f"c{i}", "categories": [str(k) for k in range(n)]} for i, n in enumerate(categories)
        ],
    }


def records(numbers: int, categories: tuple[int, ...], rows: int = 5) -> dict:
    g = torch.Generator().manual_seed(0)
    known = torch.rand(rows, numbers, generator=g) < 0.6
    codes = [torch.randint(0, n + 2, (rows,), generator=g) for n in categories]
    return {
        "numbers": torch.randn(rows, numbers, generator=g) * known,
        "known": known,
        "codes": torch.stack(codes, 1) if codes else torch.zeros(rows, 0, dtype=torch.int64),
    }


SHAPES = [(3, (4, 1)), (2, ()), (0, (5,)), (1, ()), (0, (0,))]
PARTS = [
    (TabularMLP, {"width": 8, "embed": 3}),
    (TabularMLP, {"width": 8, "layers": 1, "dropout": 0.2}),
    (FTTransformer, {"width": 8, "heads": 2, "layers": 1}),
    (FTTransformer, {"width": 8, "heads": 2, "tokens": "columns"}),
    (FTTransformer, {"width": 8, "heads": 4, "tokens": "class"}),
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("cls", "options"), PARTS)
def test_contract(cls, options, shape):
    check_encoder(lambda: cls(field=field(*shape), **options), records(*shape))
    assert cls.wants({}, Path()) == {}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("tokens", "more"), [("all", 1), ("columns", 0), ("class", None)])
def test_number_of_tokens(shape, tokens, more):
    part = FTTransformer(field=field(*shape), width=8, heads=2, layers=1, tokens=tokens)
    count = 1 if more is None else shape[0] + len(shape[1]) + more
    assert part(records(*shape)).tokens.shape == (5, count, 8)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize(("cls", "options"), PARTS)
def test_each_record_has_a_gradient_of_its_own(cls, options):
    """Per-sample gradients by vmap (as DP-SGD takes them) add up to the gradient of the sum."""
    torch.manual_seed(0)
    part, data = cls(field=field(3, (4, 1)), **options).eval(), records(3, (4, 1))
    weights = dict(part.named_parameters())

    def loss(weights, one):
        return functional_call(part, weights, ({k: v[None] for k, v in one.items()},)).tokens.square().sum()

    each = vmap(grad(loss), in_dims=(None, 0))(weights, data)
    whole = torch.autograd.grad(part(data).tokens.square().sum(), list(weights.values()))
    for name, expected in zip(weights, whole, strict=True):
        torch.testing.assert_close(each[name].sum(0), expected, atol=1e-4, rtol=1e-3)


def test_every_parameter_is_in_a_module_that_takes_rows():
    """Hooks for gradients of single rows see the batch first in the input of every module that has parameters."""
    part, data, seen = FTTransformer(field=field(3, (4,)), width=8, heads=2), records(3, (4,)), {}
    for name, module in part.named_modules():
        if list(module.parameters(recurse=False)):
            module.register_forward_hook(lambda m, x, y, name=name: seen.__setitem__(name, (x[0].shape[0], y.shape[0])))
    part(data)
    assert len(seen) == sum(bool(list(m.parameters(recurse=False))) for m in part.modules())
    assert set(seen.values()) == {(5, 5)}


def test_column_tokens_by_hand():
    """x w + b for a number, m + b where it is missing, the category's own vector + b."""
    torch.manual_seed(0)
    part = FTTransformer(field=field(2, (3, 2)), width=4, heads=1)
    data = {
        "numbers": torch.tensor([[2.0, 0.0]]),
        "known": torch.tensor([[True, False]]),
        "codes": torch.tensor([[4, 2]]),
    }
    b = part.offsets.weight
    expected = [2.0 * part.slopes.weight[0] + b[0], part.missing.weight[1] + b[1],
                part.categories.table.weight[4] + b[2], part.categories.table.weight[5 + 2] + b[3]]  # fmt: skip
    torch.testing.assert_close(part._columns(data)[0], torch.stack(expected))


def test_class_token_is_the_first_of_all():
    shape, data = (2, (3,)), records(2, (3,))
    whole = FTTransformer(field=field(*shape), width=8, heads=2).eval()
    first = FTTransformer(field=field(*shape), width=8, heads=2, tokens="class").eval()
    first.load_state_dict(whole.state_dict())
    torch.testing.assert_close(first(data).tokens, whole(data).tokens[:, :1])


@pytest.mark.parametrize(("cls", "options"), PARTS)
def test_a_missing_number_is_not_a_mean_one(cls, options):
    """0 is the mean after scaling: only `known` tells it from a missing value; what lies under it is of no account."""
    torch.manual_seed(0)
    part, data = cls(field=field(2, (3,)), **options).eval(), records(2, (3,))
    data |= {"numbers": torch.zeros(5, 2), "known": torch.ones(5, 2, dtype=torch.bool)}
    gone = part({**data, "known": torch.tensor([True, False]).expand(5, 2)}).tokens
    assert (gone - part(data).tokens).abs().amax((1, 2)).min() > 1e-4


@pytest.mark.parametrize("cls", [TabularMLP, FTTransformer])
def test_unseen_and_missing_categories_start_without_a_say(cls):
    torch.manual_seed(0)
    part, data = cls(field=field(1, (3, 2)), width=8).eval(), records(1, (3, 2))
    answers = [part({**data, "codes": torch.full((5, 2), code)}).tokens for code in (0, 1, 2)]
    torch.testing.assert_close(answers[0], answers[1])
    assert (answers[1] - answers[2]).abs().amax() > 1e-3
    table = part.categories.table.weight
    assert table.shape[0] == 5 + 4
    assert (table.abs().amax(1) == 0).tolist() == [True, True, False, False, False, True, True, False, False]


@pytest.mark.parametrize("cls", [TabularMLP, FTTransformer])
def test_a_table_without_columns(cls):
    with pytest.raises(SpecError, match="no record"):
        cls(field=field(0, ()))
