"""Matching: who is exchanged with whom, that true pairs are never called false, what is measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, chisquare
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

from polymodal.core.errors import SpecError
from polymodal.core.streams import Cells, Row, Stream, Target
from polymodal.tasks.matching import Match, strangers


def task(inputs: tuple[str, ...] = ("photo", "title"), **settings: Any) -> Match:
    torch.manual_seed(0)
    return Match(width=4, inputs=inputs, **settings)


def cells(ids: list[int] | list[list[int]]) -> Cells:
    """Rows by the digests of what they show, 0 for nothing."""
    rows = [row if isinstance(row, list) else [row] for row in ids]
    known = sorted({i for row in rows for i in row if i}) or [1]
    index = torch.tensor([[known.index(i) if i else -1 for i in row] for row in rows])
    return Cells({"x": torch.tensor(known)}, index, torch.tensor(known))


def keys(rows: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(2**62, (rows,), generator=torch.Generator().manual_seed(seed))


def known(rows: int, present: torch.Tensor | None = None) -> Target:
    there = torch.ones(rows, dtype=torch.bool) if present is None else present
    return Target({"there": there.long()}, there)


def shown(given: Cells) -> list[list[int]]:
    return [[int(given.data["x"][i]) if i >= 0 else 0 for i in row] for row in given.index.tolist()]


def test_half_of_the_rows_show_what_another_row_has() -> None:
    rows = 2000
    part, titles = task(), list(range(1, rows + 1))
    inputs = {"photo": cells([10_000 + i for i in titles]), "title": cells(titles)}
    changed, asked = part.prepare(inputs, known(rows), keys(rows))
    assert asked is not None
    assert changed["photo"] is inputs["photo"]
    assert changed["title"].data is inputs["title"].data, "nothing has to be encoded again"
    now = [row[0] for row in shown(changed["title"])]
    together = asked.data["together"].tolist()
    assert [a == b for a, b in zip(now, titles, strict=True)] == [t == 1 for t in together]
    assert binomtest(int(sum(together)), rows, 0.5).pvalue > 1e-3
    assert asked.data["asked"].all()
    donors = [n for n, t in zip(now, together, strict=True) if not t]
    assert chisquare(np.histogram(donors, 20, (1, rows + 1))[0]).pvalue > 1e-3, "any row may lend its cells"


def test_true_pairs_are_never_called_false() -> None:
    """Five captions of every picture, and captions that stand under several pictures."""
    g = np.random.default_rng(0)
    photos, titles = np.repeat(np.arange(1, 13), 5).tolist(), g.integers(101, 120, 60).tolist()
    pairs = set(zip(photos, titles, strict=True))
    part, inputs = task(), {"photo": cells(photos), "title": cells(titles)}
    for seed in range(30):
        changed, asked = part.prepare(inputs, known(60), keys(60, seed))
        assert asked is not None
        for row, (now, together) in enumerate(
            zip(shown(changed["title"]), asked.data["together"].tolist(), strict=True)
        ):
            assert together == (now[0] == titles[row])
            if not together:
                lenders = [r for r in range(60) if titles[r] == now[0] and photos[r] != photos[row]]
                assert lenders
    assert len(pairs) < 60


def test_strangers_against_a_loop() -> None:
    g = np.random.default_rng(1)
    one, two, three = (g.integers(0, 4, (12, k)).tolist() for k in (2, 1, 1))
    digest = [torch.tensor([[i or -1 for i in row] for row in x]) for x in (one, two, three)]
    found = strangers(digest[0], torch.cat(digest[1:], 1))
    for b in range(12):
        for c in range(12):
            others = two[b] + three[b], two[c] + three[c]
            able = any(one[b]) and any(one[c]) and any(others[0]) and one[b] != one[c] and others[0] != others[1]
            assert bool(found[b, c]) == able


def test_it_is_a_function_of_the_keys_in_any_order() -> None:
    part = task(input="photo")
    inputs = {"photo": cells([1, 2, 3, 4, 0, 6, 7]), "title": cells([11, 12, 13, 0, 15, 16, 17])}
    key = keys(7)
    changed, asked = part.prepare(inputs, known(7), key)
    order = torch.tensor([3, 6, 0, 2, 5, 1, 4])
    turned = {n: c._replace(index=c.index[order]) for n, c in inputs.items()}
    other, again = part.prepare(turned, known(7), key[order])
    assert asked is not None
    assert again is not None
    assert [shown(changed["photo"])[i] for i in order.tolist()] == shown(other["photo"])
    assert torch.equal(asked.data["together"][order], again.data["together"])
    assert asked.data["asked"].tolist() == [True, True, True, False, False, True, True], "both sides must be there"


@pytest.mark.parametrize(
    "inputs",
    [
        {"photo": cells([1]), "title": cells([2])},
        {"photo": cells([1, 1, 1]), "title": cells([2, 3, 4])},
        {"photo": cells([1, 2, 3]), "title": cells([9, 9, 9])},
        {"photo": cells([0, 0]), "title": cells([1, 2])},
        {"photo": cells([1, 2]), "title": cells([0, 0])},
    ],
)
def test_where_nobody_can_be_exchanged_nothing_is_learned(inputs: dict[str, Cells]) -> None:
    part, rows = task(), len(inputs["photo"].index)
    for seed in range(8):
        changed, asked = part.prepare(inputs, known(rows), keys(rows, seed))
        assert asked is not None
        assert torch.equal(changed["title"].index, inputs["title"].index)
        assert not part.weight(asked).any()
        fused = Stream(torch.randn(rows, 1, 4), torch.ones(rows, 1, dtype=torch.bool))
        answer = part({}, fused, asked)
        assert torch.isfinite(part.loss(answer, asked, None)).all()
        measures = part.measure(part.score(answer, asked), np.ones((2, rows)))
        assert all(np.isnan(v).all() for v in measures.values())


def test_a_row_without_a_target_is_neither_asked_nor_changed() -> None:
    part, present = task(), torch.tensor([True, False] * 20)
    inputs = {"photo": cells(list(range(1, 41))), "title": cells(list(range(101, 141)))}
    changed, asked = part.prepare(inputs, known(40, present), keys(40))
    assert asked is not None
    assert torch.equal(part.weight(asked) > 0, present)
    assert torch.equal(changed["title"].index[~present], inputs["title"].index[~present])
    assert not torch.equal(changed["title"].index[present], inputs["title"].index[present])


def test_measures_are_those_of_scikit_learn() -> None:
    part, rows = task(), 80
    inputs = {"photo": cells([0, *range(2, rows + 1)]), "title": cells(list(range(101, 101 + rows)))}
    _, asked = part.prepare(inputs, known(rows), keys(rows))
    assert asked is not None
    logit = torch.randn(rows, generator=torch.Generator().manual_seed(0)) + asked.data["together"]
    records = part.score({"logit": logit}, asked)
    weights = np.stack([np.ones(rows), np.arange(rows) % 3])
    found = part.measure(records, weights)
    truth, p = asked.data["together"][1:].numpy(), logit[1:].double().sigmoid().numpy()
    for i, w in enumerate(weights[:, 1:]):
        assert found["auroc"][i] == pytest.approx(roc_auc_score(truth, p, sample_weight=w))
        assert found["accuracy"][i] == pytest.approx(accuracy_score(truth, p > 0.5, sample_weight=w))
        assert found["log_loss"][i] == pytest.approx(log_loss(truth, p, sample_weight=w), rel=1e-5)
    loss = part.loss({"logit": logit}, asked, None)
    np.testing.assert_allclose(loss[1:], records["error"][1:], rtol=1e-4, atol=1e-6)


def test_used_it_says_how_well_the_row_as_it_is_belongs_together() -> None:
    part, inputs = task(), {"photo": cells([1, 2]), "title": cells([3, 4])}
    same, asked = part.prepare(inputs, None, keys(2))
    assert same is inputs
    assert asked is None
    found = part.predict({"logit": torch.tensor([0.0, 2.0])}, [Row(0), Row(1)])
    assert [one.value for one in found] == pytest.approx([0.5, 1 / (1 + np.exp(-2.0))])


def test_mistakes_say_where() -> None:
    assert task().input == "title"
    with pytest.raises(SpecError, match="two inputs"):
        task(("photo",))
    with pytest.raises(SpecError, match="no input of this name") as error:
        task(input="titel")
    assert "'title'" in error.value.advice
