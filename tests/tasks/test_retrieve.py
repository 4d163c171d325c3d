"""Retrieval: losses against other ways to write them, who is a negative, past rows, all processes, vectors."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from polymodal.core.checks_embed import check_embeds
from polymodal.core.errors import BadCell, SpecError
from polymodal.core.streams import Cells, Embedded, Row, Stream, Streams, Target
from polymodal.tasks.retrieve.groups import Group
from polymodal.tasks.retrieve.maps import Map, one_each, runs
from polymodal.tasks.retrieve.task import Retrieve
from polymodal.tasks.retrieve.views import View, near, own

D, E = 6, 5


def task(columns: tuple[int, int] = (1, 1), **settings: Any) -> Retrieve:
    torch.manual_seed(0)
    fields = {"picture": {"columns": columns[0]}, "text": {"columns": columns[1]}}
    return Retrieve(inputs=("picture", "text"), width_in=D, fields=fields, **{"dim": E, **settings})


def streams(rows: int, columns: tuple[int, int] = (1, 1), tokens: int = 3, seed: int = 0) -> Streams:
    g = torch.Generator().manual_seed(seed)
    made = {}
    for name, cells in zip(("picture", "text"), columns, strict=True):
        mask = torch.arange(tokens) < torch.randint(1, tokens + 1, (rows, cells, 1), generator=g)
        values = torch.randn(rows, cells, tokens, D, generator=g) * mask[..., None]
        made[name] = Stream(values.flatten(1, 2), mask.flatten(1))
    return made


def without(stream: Stream, columns: int, gone: list[tuple[int, int]]) -> Stream:
    """The stream, some of whose cells (row, column) are missing."""
    there = torch.ones(len(stream.mask), columns, dtype=torch.bool)
    for row, column in gone:
        there[row, column] = False
    mask = stream.mask & there.repeat_interleave(stream.mask.shape[1] // columns, 1)
    return Stream(stream.tokens * mask[..., None], mask)


def target(picture: list[list[int]], text: list[list[int]], group: list[int] | None = None) -> Target:
    shown = {"shown.picture": torch.tensor(picture), "shown.text": torch.tensor(text)}
    more = {} if group is None else {"group": torch.tensor(group)}
    return Target({**shown, **more}, torch.ones(len(picture), dtype=torch.bool))


def distinct(rows: int, columns: tuple[int, int] = (1, 1)) -> Target:
    each = [torch.arange(rows * k).reshape(rows, k) + 1000 * i for i, k in enumerate(columns)]
    return target(each[0].tolist(), each[1].tolist())


def losses(part: Retrieve, given: Streams, asked: Target) -> Tensor:
    return part.loss(part(given, None, asked), asked, None)


# The losses, where every row is another answer


def test_infonce_is_the_cross_entropy_of_clip() -> None:
    part, given, asked = task(), streams(7), distinct(7)
    found = part(given, None, asked)
    u, v = found["vectors.picture"][:, 0, 0], found["vectors.text"][:, 0, 0]
    logits, own_row = u @ v.T / 0.07, torch.arange(7)
    told = [F.cross_entropy(x, own_row, reduction="none") for x in (logits, logits.T)]
    torch.testing.assert_close(losses(part, given, asked), sum(told) / 2)


def test_sigmoid_is_the_loss_of_siglip() -> None:
    part, given, asked = task(loss="sigmoid"), streams(7), distinct(7)
    found = part(given, None, asked)
    logits = 10 * found["vectors.text"][:, 0, 0] @ found["vectors.picture"][:, 0, 0].T - 10
    told = -F.logsigmoid((2 * torch.eye(7) - 1) * logits).sum() / 7
    torch.testing.assert_close(losses(part, given, asked).mean(), told)


@pytest.mark.parametrize("negatives", ["hardest", "semi_hard", "all"])
def test_triplets_against_loops(negatives: str) -> None:
    part, given, asked = task(loss="triplet", negatives=negatives, margin=0.4), streams(8, seed=3), distinct(8)
    found = part(given, None, asked)
    s = (found["vectors.picture"][:, 0, 0] @ found["vectors.text"][:, 0, 0].T).detach().double().numpy()
    told = np.zeros(8)
    for scores in (s, s.T):
        for row in range(8):
            positive, others = scores[row, row], np.delete(scores[row], row)
            if negatives == "hardest":
                chosen = others.max()
            else:
                below = others[others < positive]
                chosen = below.max() if len(below) else others.min()
            costs = np.maximum(0, 0.4 + others - positive)
            cost = costs[costs > 0].mean() if (costs > 0).any() else 0.0
            told[row] += (cost if negatives == "all" else max(0, 0.4 + chosen - positive)) / 2
    torch.testing.assert_close(losses(part, given, asked).double(), torch.tensor(told), atol=1e-6, rtol=1e-5)
    assert (told > 0).any()


def test_other_negatives_give_other_losses() -> None:
    given, asked = streams(8, seed=3), distinct(8)
    found = [losses(task(loss="triplet", negatives=n), given, asked) for n in ("hardest", "semi_hard", "all")]
    assert not torch.allclose(found[0], found[1])
    assert not torch.allclose(found[0], found[2])


def test_the_temperature_is_learned_and_held() -> None:
    part, given, asked = task(), streams(5), distinct(5)
    losses(part, given, asked).mean().backward()
    assert part.learned.weight.grad.abs().sum() > 0
    with torch.no_grad():
        part.learned.weight += 100
    part.progress(0.5)
    assert part(given, None, None)["scale"][0, 0].exp().item() == pytest.approx(100)
    warm = task(temperature=0.5)(given, None, None)["scale"]
    assert warm.shape == (5, 1)
    assert warm[0].exp().item() == pytest.approx(2)
    assert not hasattr(task(loss="triplet").learned, "weight")


# Several captions, pictures that stand in several rows, cells that are missing


def told(part: Retrieve, given: Streams, shown: Target, scale: float = 1 / 0.07) -> list[float]:
    """InfoNCE, cell by cell."""
    found = part(given, None, shown)
    vectors = {n: found[f"vectors.{n}"][:, :, 0].detach().double() for n in part.spaces}
    there = {n: found[f"there.{n}"][:, :, 0] for n in part.spaces}
    digests = {n: [{d for d in row if d >= 0} for row in shown.data[f"shown.{n}"].tolist()] for n in part.spaces}
    group = shown.data.get("group", torch.full_like(shown.present, -1, dtype=torch.long)).tolist()
    rows = range(len(group))
    result = []
    for b in rows:
        terms = []
        for a, c in (("picture", "text"), ("text", "picture")):
            one = []
            for i in there[a][b].nonzero()[:, 0]:
                others = []
                for r in rows:
                    same = any(digests[n][b] & digests[n][r] for n in part.spaces) or group[b] == group[r] != -1
                    if r != b and not same:
                        others += [float(vectors[a][b, i] @ vectors[c][r, j]) for j in there[c][r].nonzero()[:, 0]]
                for j in there[c][b].nonzero()[:, 0]:
                    mine = float(vectors[a][b, i] @ vectors[c][b, j])
                    one.append(np.logaddexp.reduce(scale * np.array([mine, *others])) - scale * mine)
            terms.append(np.mean(one) if one else 0.0)
        result.append(float(np.mean(terms)))
    return result


def test_captions_in_columns_shared_pictures_groups_and_gaps_against_a_loop() -> None:
    part, given = task((1, 3)), streams(7, (1, 3))
    given["text"] = without(given["text"], 3, [(0, 1), (2, 0), (2, 1), (2, 2), (5, 2)])
    given["picture"] = without(given["picture"], 1, [(6, 0)])
    shown = target(
        [[1], [1], [3], [4], [5], [6], [-1]],
        [[11, -1, 12], [13, 14, 15], [-1, -1, -1], [16, 17, 11], [19, 20, 21], [22, 23, -1], [24, 25, 26]],
        [-1, -1, -1, 8, 8, -1, -1],
    )
    found = losses(part, given, shown)
    torch.testing.assert_close(found.double(), torch.tensor(told(part, given, shown)).double(), atol=1e-5, rtol=1e-5)
    assert found[[2, 6]].tolist() == [0, 0]
    assert part.weight(shown).tolist() == [1, 1, 0, 1, 1, 1, 0]
    strangers = target([[i] for i in range(7)], shown.data["shown.text"].tolist())
    assert not torch.allclose(losses(part, given, strangers), found), "a shared picture is no negative"


def test_nothing_to_compare_with_costs_nothing() -> None:
    for kind in ("infonce", "triplet"):
        part, asked = task(loss=kind), target([[1], [1]], [[2], [3]])
        found = losses(part, streams(2), asked)
        assert found.tolist() == [0, 0]
        (found.sum() + 0 * part(streams(2), None, None)["vectors.text"].sum()).backward()
        assert all(torch.isfinite(p.grad).all() for p in part.parameters() if p.grad is not None)


def test_sigmoid_counts_every_row_once_however_many_captions() -> None:
    part, given = task((1, 2), loss="sigmoid"), streams(4, (1, 2))
    half = given["text"].tokens.shape[1] // 2
    twice = Stream(given["text"].tokens[:, :half].repeat(1, 2, 1), given["text"].mask[:, :half].repeat(1, 2))
    one = losses(part, given | {"text": without(twice, 2, [(i, 1) for i in range(4)])}, distinct(4, (1, 2)))
    torch.testing.assert_close(losses(part, given | {"text": twice}, distinct(4, (1, 2))), one)


def test_prepare_tells_what_rows_show() -> None:
    part = task((1, 2))
    inputs = {
        "picture": Cells({"x": torch.zeros(2, 1)}, torch.tensor([[0], [-1], [1]]), torch.tensor([70, 71])),
        "text": Cells({"x": torch.zeros(2, 1)}, torch.tensor([[0, 1], [1, -1], [-1, -1]]), torch.tensor([80, 81])),
    }
    there = Target({"there": torch.ones(3)}, torch.tensor([True, True, False]))
    same_inputs, asked = part.prepare(inputs, there, torch.arange(3))
    assert same_inputs is inputs, "nothing has to be encoded again"
    assert asked.data["shown.picture"].tolist() == [[70], [-1], [71]]
    assert asked.data["shown.text"].tolist() == [[80, 81], [81, -1], [-1, -1]]
    assert part.weight(asked).tolist() == [1, 0, 0]
    assert part.prepare(inputs, None, torch.arange(3)) == (inputs, None)


# Late interaction


def test_late_similarity_against_a_loop() -> None:
    g = torch.Generator().manual_seed(0)

    def view(rows: int, cells: int, tokens: int) -> View:
        there = torch.rand(rows, cells, tokens, generator=g) < 0.7
        there[..., 0] = True
        vectors = F.normalize(torch.randn(rows, cells, tokens, E, generator=g), dim=3) * there[..., None]
        return View(vectors, there, torch.ones(rows, cells).long(), torch.ones(rows).long())

    one, two = view(3, 2, 4), view(3, 1, 5)
    found, rows = near(one, two), own(one, two)
    for b in range(3):
        for i in range(2):
            mine = one.vectors[b, i][one.there[b, i]]
            for c in range(3):
                best = (mine @ two.vectors[c, 0][two.there[c, 0]].T).amax(1).mean()
                torch.testing.assert_close(found[b, i, c, 0], best)
            torch.testing.assert_close(rows[b, i, 0], found[b, i, b, 0])


def test_late_keeps_tokens_and_averages_what_is_too_much() -> None:
    tokens, mask = torch.arange(1.0, 8)[None, :, None], torch.ones(1, 7, dtype=torch.bool)
    found, there = runs(tokens, mask, 3)
    assert found[0, :, 0].tolist() == pytest.approx([(1 + 2 + 3) / 3, (4 + 5) / 2, (6 + 7) / 2])
    assert there.all()
    gaps = torch.tensor([[True, False, True, False, True, False, False]])
    found, there = runs(tokens * gaps[..., None], gaps, 4)
    assert found[0, :, 0].tolist() == [1, 3, 5, 0]
    assert there.tolist() == [[True, True, True, False]]
    part = task((2, 1), late=True, tokens=4)
    given = streams(3, (2, 1), tokens=6)
    answer = part(given, None, None)
    assert answer["vectors.picture"].shape == (3, 2, 4, E)
    norms = answer["vectors.picture"].norm(dim=3)
    torch.testing.assert_close(norms, answer["there.picture"].float())


def test_late_learns_and_embeds() -> None:
    part, given, asked = task((1, 2), late=True, tokens=3), streams(5, (1, 2)), distinct(5, (1, 2))
    losses(part, given, asked).mean().backward()
    assert all(p.grad.abs().sum() > 0 for p in part.parameters())
    check_embeds(lambda: task((1, 2), late=True, tokens=3), given, None, {"picture": 1, "text": 2})


# Vectors


@pytest.mark.parametrize("pool", ["mean", "first", "attention"])
def test_each_column_has_a_vector_of_its_own(pool: str) -> None:
    part = Map(width=D, dim=E, columns=2, pool=pool, tokens=0, hidden=0, dropout=0.0, norm="none").eval()
    given = streams(3, (1, 2))["text"]
    given = without(given, 2, [(1, 1)])
    vectors, there = part(given)
    assert vectors.shape == (3, 2, 1, E)
    assert there[..., 0].tolist() == [[True, True], [True, False], [True, True]]
    one = Map(width=D, dim=E, columns=1, pool=pool, tokens=0, hidden=0, dropout=0.0, norm="none").eval()
    one.load_state_dict(part.state_dict())
    for column in range(2):
        half = Stream(given.tokens.unflatten(1, (2, -1))[:, column], given.mask.unflatten(1, (2, -1))[:, column])
        torch.testing.assert_close(one(half)[0][:, 0], vectors[:, column])
    real = given.tokens[0, :3][given.mask[0, :3]]
    if pool != "attention":
        torch.testing.assert_close(vectors[0, 0, 0], F.normalize(part.head(real.mean(0) if pool == "mean" else real[0]),
                                                                 dim=0))  # fmt: skip


def test_embed_gives_the_vectors_that_are_compared() -> None:
    part, given = task((1, 3)).eval(), streams(4, (1, 3))
    found, answer = part.embed(given, None), part(given, None, None)
    assert set(found) == {"picture", "text"} == set(part.spaces)
    torch.testing.assert_close(found["text"].vectors, answer["vectors.text"][:, :, 0])
    check_embeds(lambda: task((1, 3)), given, None, {"picture": 1, "text": 3})
    assert one_each(answer["vectors.text"], answer["there.text"]).shape == (4, 3, E)


class _Cheat(torch.nn.Module):
    """What must not be done to vectors, by name."""

    spaces, dim = ("picture", "text"), 3

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def embed(self, given: Streams, fused: Stream | None) -> dict[str, Embedded]:
        sums = {n: s.tokens.sum(1)[:, :3] + s.mask.sum(1, keepdim=True) for n, s in given.items()}
        if self.how == "other input":
            sums["text"] = sums["text"] + sums["picture"]
        if self.how == "neighbours":
            sums["text"] = sums["text"] + sums["text"].mean(0)
        if self.how == "padding":
            sums["text"] = sums["text"] + given["text"].mask.shape[1] * torch.tensor([1.0, 0, 0])
        if self.how == "blind":
            sums["text"] = torch.ones_like(sums["text"])
        present = {n: s.mask.any(1, keepdim=True) for n, s in given.items()}
        length = 2.0 if self.how == "length" else 1.0
        return {n: Embedded(length * F.normalize(x, dim=1)[:, None], present[n]) for n, x in sums.items()
                if self.how != "lacking" or n == "text"}  # fmt: skip


@pytest.mark.parametrize("how", ["other input", "neighbours", "padding", "length", "lacking", "blind"])
def test_the_checker_finds(how: str) -> None:
    check_embeds(lambda: _Cheat("no"), streams(4), None)
    with pytest.raises(AssertionError):
        check_embeds(lambda: _Cheat(how), streams(4), None)


def test_a_prediction_is_how_well_the_inputs_fit() -> None:
    part, given = task((1, 2)).eval(), streams(3, (1, 2))
    given["text"] = without(given["text"], 2, [(0, 1), (2, 0), (2, 1)])
    found = {name: value.detach() for name, value in part.respond(given, None, asked=None).items()}
    u, v = found["vectors.picture"][:, :, 0], found["vectors.text"][:, :, 0]
    said = [p.value for p in part.predict(found, [Row(i) for i in range(3)])]
    told_values = [float(u[0, 0] @ v[0, 0]), float((v[1] @ u[1, 0]).mean())]
    assert said[:2] == pytest.approx(told_values, abs=1e-6)
    assert said[2] is None


# Past rows


def test_past_rows_are_negatives_in_training_alone() -> None:
    part, asked = task(queue=5), [target([[10 * k + i] for i in range(3)], [[10 * k + 5 + i] for i in range(3)])
                                  for k in range(3)]  # fmt: skip
    given = [streams(3, seed=k) for k in range(3)]
    part.train()
    plain = task().train()
    first = losses(part, given[0], asked[0])
    torch.testing.assert_close(first, losses(plain, given[0], asked[0]))  # there is nothing past yet
    losses(part, given[1], asked[1])
    found = losses(part, given[2], asked[2])
    kept = [(0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]  # the first row of all has given way
    past = {n: Stream(*(torch.cat([getattr(given[k][n], x)[i : i + 1] for k, i in kept]) for x in ("tokens", "mask")))
            for n in part.spaces}  # fmt: skip
    whole = {n: Stream(torch.cat([given[2][n].tokens, past[n].tokens]), torch.cat([given[2][n].mask, past[n].mask]))
             for n in part.spaces}  # fmt: skip
    ids = [[30 + i for i in range(3)] + [10 * k + i for k, i in kept]]
    everyone = target([[i] for i in ids[0]], [[i + 500] for i in ids[0]])
    torch.testing.assert_close(found, losses(plain, whole, everyone)[:3])
    before = {k: v.clone() for k, v in part.state_dict().items()}
    part.eval()
    torch.testing.assert_close(losses(part, given[2], asked[2]), losses(plain, given[2], asked[2]))
    assert all(torch.equal(v, before[k]) for k, v in part.state_dict().items())
    again = task(queue=5).train()
    again.load_state_dict(before)
    torch.testing.assert_close(losses(again, given[1], asked[1]), losses(part.train(), given[1], asked[1]))


def test_past_rows_that_show_the_same_are_no_negatives_and_gradients_live() -> None:
    part, given = task(queue=4).train(), streams(3)
    asked = distinct(3)
    losses(part, given, asked)
    found = losses(part, given, asked)  # the very same rows: each is masked for itself
    torch.testing.assert_close(found[0], losses(task().train(), _twice(given), _both(asked))[0])
    found.sum().backward()  # the memory was written to in the meantime


def _twice(given: Streams) -> Streams:
    return {n: Stream(torch.cat([s.tokens, s.tokens]), torch.cat([s.mask, s.mask])) for n, s in given.items()}


def _both(asked: Target) -> Target:
    return Target({k: torch.cat([v, v]) for k, v in asked.data.items()}, torch.cat([asked.present, asked.present]))


# Several processes


def test_rows_of_all_processes_with_their_gradient() -> None:
    """Two processes with 3 and 2 rows: what `gather` gives is put together by hand."""
    part, given = task((1, 2)), streams(5, (1, 2))
    shown = target([[1], [2], [1], [4], [5]], [[11, 12], [13, 14], [15, 16], [17, 13], [19, 20]])
    whole = losses(part, given, shown)
    whole.sum().backward()
    wanted = [p.grad.clone() for p in part.parameters()]
    part.zero_grad()
    total = torch.zeros(())
    for mine, rest in ((torch.arange(3), torch.arange(3, 5)), (torch.arange(3, 5), torch.arange(3))):
        sent: dict[int, list[Tensor]] = {0: [], 1: []}
        asked, answers = [], []
        for process, at in enumerate((mine, rest)):
            asked.append(Target({k: v[at] for k, v in shown.data.items()}, shown.present[at]))
            answers.append(part({n: Stream(s.tokens[at], s.mask[at]) for n, s in given.items()}, None, None))
            part.loss(answers[process], asked[process], partial(_send, sent[process]))
        both = iter(zip(*sent.values(), strict=True))
        found = part.loss(answers[0], asked[0], partial(_receive, both))
        torch.testing.assert_close(found, whole[mine])
        total = total + found.sum()
    total.backward()
    for p, grad in zip(part.parameters(), wanted, strict=True):
        torch.testing.assert_close(p.grad, grad, atol=1e-5, rtol=1e-4)


def _send(sent: list[Tensor], x: Tensor) -> Tensor:
    """The process's own rows, as if there were no others, but the largest process has three."""
    sent.append(x)
    return torch.tensor([3]) if x.shape == (1,) and not x.is_floating_point() else x


def _receive(both: Iterator[tuple[Tensor, Tensor]], x: Tensor) -> Tensor:
    return torch.cat(next(both))


# What is refused; groups


@pytest.mark.parametrize(
    ("settings", "where"),
    [({"between": ("picture",)}, "between"), ({"between": ("picture", "pictures")}, "between")],
)
def test_mistakes_say_where(settings: dict, where: str) -> None:
    with pytest.raises(SpecError) as error:
        task(**settings)
    assert error.value.where == where


def test_between_chooses_inputs() -> None:
    fields = {n: {"columns": 1} for n in "abc"}
    part = Retrieve(inputs=("a", "b", "c"), width_in=D, fields=fields, between=("c", "a"))
    assert part.spaces == ("c", "a")


def test_equal_values_are_a_group() -> None:
    read = Group()
    assert read.fit(["a", None, "b"]) == {"rows": 2}
    number = {repr(v): int(read(v)["group"]) for v in ("a", "b", 1, 2.5, True, "1")}
    assert len(set(number.values())) == 6
    assert min(number.values()) >= 0
    assert read(1.0)["group"] == read(np.int64(1))["group"] == number["1"]
    assert number["'a'"] == 6253945273291539046, "the same in every process, on every machine"
    with pytest.raises(BadCell):
        read(None)
