"""Recommending: the loss and the measures against loops, order, cold starts, an item's vector anywhere in a row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import label_ranking_average_precision_score, ndcg_score

from polymodal.core.checks import check_target, check_task
from polymodal.core.checks_embed import check_embeds
from polymodal.core.errors import BadCell, SpecError
from polymodal.core.streams import Row, Stream, Target
from polymodal.tasks.recommend import Recommend
from polymodal.tasks.recommend_items import Item
from polymodal.tasks.recommend_ranks import median, ranks

WIDTH, COLUMNS, TOKENS = 6, 4, 3
HISTORIES = ("mean", "gru", "transformer")
each_history = pytest.mark.parametrize("history", HISTORIES)


def field(items: list[str], before: int = COLUMNS - 1) -> dict:
    reader = Item()
    cells = [{"item": i, **{f"before_{k}": None for k in range(before)}} for i in items]
    return reader.fit(iter(cells))


def task(inputs: tuple[str, ...] = ("photo",), columns: int = COLUMNS, **settings: Any) -> Recommend:
    torch.manual_seed(0)
    fields = {name: {"columns": 1 if name in settings.get("about", ()) else columns} for name in inputs}
    part = Recommend(field=field(["a", "b", "b", "c"]), fields=fields, inputs=inputs, width_in=WIDTH,
                     **{"dim": 8, **settings})  # fmt: skip
    return part.eval()


def stream(items: torch.Tensor, shown: list[list[int]]) -> Stream:
    """Rows that show items [n T D] by their numbers, -1 for nothing."""
    index = torch.tensor(shown)
    mask = (index >= 0)[..., None].expand(-1, -1, items.shape[1]).flatten(1)
    tokens = items[index.clamp(min=0)].flatten(1, 2)
    return Stream(tokens * mask[..., None], mask)


@pytest.fixture
def items() -> torch.Tensor:
    return torch.randn(12, TOKENS, WIDTH, generator=torch.Generator().manual_seed(1))


def target(item: list[int], before: list[list[int]] | None = None, count: int = 1) -> Target:
    ids = torch.tensor(item)
    earlier = torch.full((len(item), COLUMNS - 1), -1) if before is None else torch.tensor(before)
    data = {"item": ids, "count": torch.full_like(ids, count), "before": earlier}
    return Target(data, torch.ones(len(item), dtype=torch.bool))


@each_history
def test_contract_with_several_columns(items: torch.Tensor, history: str) -> None:
    """Without more padding, which would be another column; the general check has one column."""
    shown = [[0, 1, 2, 3], [4, 5, -1, -1], [6, -1, -1, -1], [-1, 2, 3, -1], [2, -1, 3, 4]]
    streams = {"photo": stream(items, shown)}
    goal = target([0, 4, 6, 2, 2])
    goal = goal._replace(present=torch.tensor([True, True, True, False, True]))
    part = task(history=history)
    whole = part(streams, None, None)
    for row in range(len(shown)):
        alone = part({"photo": stream(items, shown[row : row + 1])}, None, None)
        for name, value in whole.items():
            torch.testing.assert_close(alone[name][0], value[row], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(whole["user"].norm(dim=1), torch.ones(5))
    fused = Stream(torch.zeros(5, 1, WIDTH), torch.ones(5, 1, dtype=torch.bool))
    one = {"photo": Stream(streams["photo"].tokens[:, :TOKENS], streams["photo"].mask[:, :TOKENS])}
    check_task(lambda: task(columns=1, history=history), one, fused, goal)


@each_history
def test_the_spaces_keep_their_contract(items: torch.Tensor, history: str) -> None:
    shown = [[0, 1, 2, 3], [4, 5, -1, -1], [-1, 2, 3, -1], [2, -1, 3, 4]]
    age = Stream(torch.randn(4, 1, WIDTH, generator=torch.Generator().manual_seed(2)), torch.ones(4, 1) > 0)
    streams, columns = {"photo": stream(items, shown), "age": age}, {"photo": COLUMNS, "age": 1}
    check_embeds(lambda: task(("photo", "age"), about=("age",), history=history), streams, columns=columns)


@pytest.mark.parametrize("inputs", [("photo",), ("photo", "title")])
def test_an_item_has_one_vector_wherever_it_stands(items: torch.Tensor, inputs: tuple[str, ...]) -> None:
    part = task(inputs)
    shown = [[0, 1, 2, 3], [1, 0, 3, 2], [3, 2, 1, 0], [2, 3, -1, 0]]
    found = part.item_tower({name: stream(items, shown) for name in inputs})
    for number in range(4):
        own = found.vectors[torch.tensor(shown) == number]
        torch.testing.assert_close(own, own[:1].expand_as(own))
    assert not found.present[3, 2]
    assert not found.vectors[3, 2].any()
    other = part.item_tower({name: stream(items, [[4, 5, 6, 7]]) for name in inputs}).vectors[0]
    assert (other[0] - found.vectors[0, 0]).abs().max() > 1e-3


@each_history
def test_the_item_at_hand_does_not_reach_the_user(items: torch.Tensor, history: str) -> None:
    part = task(history=history)
    one, two, none = (part({"photo": stream(items, [[first, 5, 6, 7]])}, None, None) for first in (1, 2, -1))
    assert torch.equal(one["user"], two["user"])
    assert torch.equal(one["user"], none["user"])
    assert (one["item"] - two["item"]).abs().max() > 1e-3
    assert none["there"].tolist() == [False]


@each_history
def test_order_counts_where_it_should(items: torch.Tensor, history: str) -> None:
    part = task(history=history)
    one, two = (part({"photo": stream(items, [[0, *h]])}, None, None)["user"] for h in ([5, 6, 7], [7, 6, 5]))
    same = torch.allclose(one, two, atol=1e-5)
    assert same == (history == "mean")


@each_history
def test_missing_items_leave_no_gap(items: torch.Tensor, history: str) -> None:
    part = task(history=history)
    shown = [[0, 5, 6, -1], [0, -1, 5, 6], [0, 5, -1, 6]]
    users = part({"photo": stream(items, shown)}, None, None)["user"]
    torch.testing.assert_close(users, users[:1].expand_as(users), atol=1e-5, rtol=1e-5)
    longer = part({"photo": stream(items, [[0, 5, 6, 7]])}, None, None)["user"]
    assert (longer - users[0]).abs().max() > 1e-3


def test_the_state_of_a_gru_is_that_after_the_latest_item(items: torch.Tensor) -> None:
    part = task(history="gru")
    vectors = part.item_tower({"photo": stream(items, [[0, 5, 6, -1]])}).vectors[0]
    state = torch.zeros(1, 8)
    cell = torch.nn.GRUCell(8, 8)
    weights = part.user_tower.gru.state_dict()
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in weights.items()})
    for at in (2, 1):
        state = cell(vectors[at : at + 1], state)
    wanted = torch.nn.functional.normalize(vectors[1:3].mean(0) + part.user_tower.out(state), dim=1)
    torch.testing.assert_close(part({"photo": stream(items, [[0, 5, 6, -1]])}, None, None)["user"], wanted)


@each_history
def test_a_user_without_a_history_has_a_learned_vector(items: torch.Tensor, history: str) -> None:
    part = task(history=history).train()
    streams = {"photo": stream(items, [[0, -1, -1, -1], [1, -1, -1, -1], [2, 5, 6, 7]])}
    answer = part(streams, None, None)
    assert torch.equal(answer["user"][0], answer["user"][1])
    wanted = torch.nn.functional.normalize(part.user_tower.cold.weight[0], dim=0)
    torch.testing.assert_close(answer["user"][0], wanted)
    part.loss(answer, target([0, 1, 2]), None).sum().backward()
    assert part.user_tower.cold.weight.grad is not None
    assert part.user_tower.cold.weight.grad.abs().max() > 0


def test_what_is_told_of_users_moves_them_and_not_the_items(items: torch.Tensor) -> None:
    part = task(("photo", "age"), about=("age",))
    shown = stream(items, [[0, 5, 6, 7], [0, -1, -1, -1]])
    ages = [Stream(torch.full((2, 1, WIDTH), x), torch.full((2, 1), there)) for x, there in ((1.0, True), (0.0, False))]
    old, none = (part({"photo": shown, "age": age}, None, None) for age in ages)
    assert torch.equal(old["item"], none["item"])
    assert ((old["user"] - none["user"]).abs().amax(1) > 1e-3).all(), "a cold user is known by it too"
    columns = {"photo": ("photo", "before_1.photo", "before_2.photo", "before_3.photo"), "age": ("age", "city")}
    assert part.made_of("item", columns) == ("photo",)
    assert part.made_of("user", columns) == (*columns["photo"][1:], "age", "city")


@pytest.mark.parametrize("log_q", [False, True])
@pytest.mark.parametrize("again", [False, True])
def test_loss_against_a_loop(items: torch.Tensor, log_q: bool, again: bool) -> None:
    part = task(log_q=log_q, again=again, temperature=0.2)
    shown = [[0, 1, 2, -1], [3, 0, -1, -1], [0, 4, 5, 6], [7, -1, -1, -1], [-1, 1, 2, 3], [8, 7, 3, 0]]
    goal = target([r[0] for r in shown], [r[1:] for r in shown])
    goal.data["count"] = torch.tensor([2, 1, 2, -1, -1, 3])
    goal = goal._replace(present=torch.tensor([True, True, True, True, True, True]))
    answer = part({"photo": stream(items, shown)}, None, None)
    found = part.loss(answer, goal, None)
    for b, (own, *had) in enumerate(shown):
        if own < 0:
            assert found[b] == 0
            continue
        kept = [b] + [c for c, (other, *_) in enumerate(shown)
                      if other >= 0 and other != own and (again or other not in had)]  # fmt: skip
        counts = goal.data["count"].clamp(min=1) / 4
        scores = torch.stack([(answer["user"][b] * answer["item"][c]).sum() / 0.2
                              - (counts[c].log() if log_q else 0) for c in kept])  # fmt: skip
        torch.testing.assert_close(found[b], -scores.log_softmax(0)[0], atol=1e-4, rtol=1e-4)


def test_other_processes_give_negatives(items: torch.Tensor) -> None:
    """As if two processes held three rows and one: each row's loss is that of the whole batch."""
    part = task(log_q=True)
    shown = [[0, 1, 2, 3], [4, 5, 6, -1], [7, 8, -1, -1], [9, 10, 11, 0]]
    goal = target([r[0] for r in shown], [r[1:] for r in shown])
    whole = part.loss(part({"photo": stream(items, shown)}, None, None), goal, None)
    sent: list[list[torch.Tensor]] = []
    for again in (False, True):
        for process, place in enumerate((slice(0, 3), slice(3, 4))):
            own = Target({k: v[place] for k, v in goal.data.items()}, goal.present[place])
            calls: list[torch.Tensor] = []

            def gather(x: torch.Tensor, calls: list = calls, again: bool = again, process: int = process) -> Any:
                calls.append(x)
                if len(calls) == 1:
                    return torch.tensor([3, 1])
                return torch.cat([x, sent[1 - process][len(calls) - 1]]) if again else x

            found = part.loss(part({"photo": stream(items, shown[place])}, None, None), own, gather)
            sent.append(calls)
            if again:
                torch.testing.assert_close(found, whole[place], atol=1e-4, rtol=1e-4)


def records(rows: int = 40, catalogue: int = 15, seed: int = 0) -> dict[str, np.ndarray]:
    g = np.random.default_rng(seed)
    item = g.integers(0, catalogue, rows)
    vectors = g.normal(size=(catalogue, 4)).astype(np.float32)
    user = g.normal(size=(rows, 4)).astype(np.float32)
    before = g.integers(-1, catalogue, (rows, 3))
    return {"user": user, "vector": vectors[item], "item": item * 10, "before": np.where(before < 0, -1, before * 10),
            "new": g.random(rows) < 0.3, "asked": g.random(rows) < 0.9, "error": np.zeros(rows)}  # fmt: skip


def test_measures_against_a_loop_and_sklearn() -> None:
    part, rows = task(), records()
    asked = np.flatnonzero(rows["asked"])
    names = sorted(set(rows["item"][asked].tolist()))
    vector = {n: rows["vector"][next(r for r in asked if rows["item"][r] == n)] for n in names}
    rank, precision, ndcg, shown = [], [], [], set()
    for r in asked:
        own, had = rows["item"][r], set(rows["before"][r].tolist())
        order = [n for n in names if n == own or n not in had]
        score = np.array([[float(vector[n] @ rows["user"][r]) for n in order]])
        truth = np.array([[n == own for n in order]], np.int64)
        falling = [order[i] for i in np.argsort(-score[0])]
        rank.append(1 + falling.index(own))
        precision.append(label_ranking_average_precision_score(truth, score))
        ndcg.append(ndcg_score(truth, score, k=10))
        shown |= set(falling[:10])
    found = {k: v[0] for k, v in part.measure(rows, np.ones((1, len(rows["user"])))).items()}
    rank = np.array(rank)
    for k in (1, 5, 10):
        assert found[f"recall_{k}"] == pytest.approx((rank <= k).mean())
    assert found["mrr"] == pytest.approx(np.mean(precision)), "with one right item it is the mean average precision"
    assert found["ndcg_10"] == pytest.approx(np.mean(ndcg))
    assert found["median_rank"] == np.median(rank)
    assert found["coverage_10"] == pytest.approx(len(shown) / len(names))
    new = rows["new"][asked]
    assert found["recall_10_new"] == pytest.approx((rank[new] <= 10).mean())
    assert found["mrr_new"] == pytest.approx((1 / rank[new]).mean())
    assert found["new_items"] == pytest.approx(new.mean())


def test_ties_share_their_places() -> None:
    rows = records()
    rows["vector"] = np.ones_like(rows["vector"])
    rows["before"] = np.full_like(rows["before"], -1)
    rows["asked"] = np.ones_like(rows["asked"])
    found = ranks(rows)
    assert (found.rank == (found.items + 1) / 2).all(), "a model that knows nothing stands in the middle"


def test_weighted_median() -> None:
    g = np.random.default_rng(0)
    values, counts = g.integers(1, 30, 21).astype(float), g.integers(0, 4, (50, 21)).astype(float)
    wanted = [np.median(np.repeat(values, c.astype(int))) for c in counts]
    np.testing.assert_allclose(median(values, counts), wanted)
    assert np.isnan(median(values, np.zeros((1, 21)))).all()


def test_coverage_has_no_resamples() -> None:
    part, rows = task(), records()
    weights = np.ones((2, 40))
    weights[1, 3] = 0
    rows["asked"][:] = True
    found = part.measure(rows, weights)
    assert np.isfinite(found["coverage_10"][0])
    assert np.isnan(found["coverage_10"][1])
    assert np.isfinite(found["mrr"]).all()


def test_predictions_are_cosines(items: torch.Tensor) -> None:
    part = task()
    with torch.no_grad():
        answer = part({"photo": stream(items, [[0, 1, 2, 3], [-1, 1, 2, 3]])}, None, None)
    near, none = part.predict(answer, [Row(0), Row(1)])
    assert near.value == pytest.approx(float(answer["user"][0] @ answer["item"][0]))
    assert none.value is None
    spaces = part.embed({"photo": stream(items, [[0, 1, 2, 3], [-1, -1, -1, -1]])}, None)
    assert set(spaces) == set(part.spaces)
    assert spaces["item"].present.tolist() == [[True], [False]]
    assert spaces["user"].present.all(), "somebody without a history is recommended something too"


def test_targets() -> None:
    cells = [
        "a",
        12,
        {"item": "12", "before_1.item": "a", "before_2.item": None},
        {"item": 3.0, "before_1.item": "new"},
    ]
    check_target(Item, cells, [1.5, ["a"], b"a", True])
    reader = Item()
    found = reader.fit(iter([*cells, ["bad"]]))
    assert found["rows"] == 4
    assert found["before"] == 2
    assert sorted(found["counts"]) == [0, 1, 1, 2], "12 and its text are one; `new` was only seen among earlier ones"
    assert int(reader("12")["count"]) == 2
    assert int(reader("new")["count"]) == 0
    assert int(reader("never")["count"]) == -1
    assert reader(12)["item"] == reader("12")["item"] == reader({"item": 12.0})["item"]
    assert (reader({"item": "x", "b": "a", "c": None, "d": "y"})["before"] == [reader("a")["item"], -1]).all()
    again = Item()
    again.field = found
    assert int(again("12")["count"]) == 2
    with pytest.raises(BadCell):
        reader({"item": b"x"})


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ({"about": ("age",)}, "about"),
        ({"about": ("photo",)}, "about"),
        ({"history": "transformer", "heads": 3}, "heads"),
    ],
)
def test_mistakes(given: dict[str, Any], where: str) -> None:
    with pytest.raises(SpecError) as error:
        task(**given)
    assert error.value.where == where
    with pytest.raises(SpecError, match="different numbers of items"):
        Recommend(field=field(["a"]), fields={"photo": {"columns": 4}, "title": {"columns": 1}},
                  inputs=("photo", "title"), width_in=WIDTH)  # fmt: skip
