"""Searches against enumerating everything, beams in plain Python, `generate` of transformers, and chi-square."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from polymodal.core.errors import SpecError
from polymodal.core.search import Said, Search, decode, stream
from polymodal.core.search.beam import beam
from polymodal.core.search.draw import draw, shares
from polymodal.core.search.speaker import Lips, Remembering
from polymodal.core.streams import State, Stream

END = 1


class Table(nn.Module):
    """A decoder that looks its scores up: by the row, the last two tokens and the place. It counts what it does."""

    def __init__(self, size: int, rows: int, spread: float = 2.0, seed: int = 0) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(seed)
        self.scores = spread * torch.randn(rows, 8, size + 1, size + 1, size, generator=g)
        self.size, self.steps = size, 0

    def forward(self, memory: Stream, ids: Tensor) -> Tensor:
        row = memory.tokens[:, 0, 0].long()[:, None]
        before = torch.cat([torch.full_like(ids[:, :1], self.size), ids[:, :-1]], 1)
        return self.scores[row, torch.arange(ids.shape[1])[None] % 8, before, ids]

    def begin(self, memory: Stream, longest: int) -> State:
        row = memory.tokens[:, 0, 0].long()
        return State({"last": torch.full_like(row, self.size)}, {"row": row}, 0)

    def step(self, state: State, ids: Tensor) -> tuple[Tensor, State]:
        self.steps += 1
        found = self.scores[state.fixed["row"], state.at % 8, state.past["last"], ids]
        return found, State({"last": ids}, state.fixed, state.at + 1)

    def look(self, memory: Stream, ids: Tensor) -> None:
        return None

    def sums(self, row: int, ids: tuple[int, ...], banned: tuple[int, ...] = (), early: int = 0) -> float:
        """The log-probability of a sentence, in plain Python."""
        total, before, last = 0.0, self.size, self.size
        for at, token in enumerate(ids):
            scores = self.scores[row, at % 8, before, last].tolist()
            shut = {*banned, *([END] if at < early else [])}
            whole = sum(math.exp(s) for t, s in enumerate(scores) if t not in shut)
            total += -math.inf if token in shut else scores[token] - math.log(whole)
            before, last = last, token
        return total


def memories(rows: int) -> Stream:
    return Stream(torch.arange(rows, dtype=torch.float32)[:, None, None], torch.ones(rows, 1, dtype=torch.bool))


def starts(table: Table, rows: int) -> Tensor:
    return torch.full((rows,), table.size)


def sentences(size: int, longest: int) -> list[tuple[int, ...]]:
    """All that can be said: tokens, then the end, or as many as there may be."""
    words = [t for t in range(size) if t != END]
    ended = [(*s, END) for n in range(longest) for s in itertools.product(words, repeat=n)]
    return ended + list(itertools.product(words, repeat=longest))


def said(found: Said, row: int) -> tuple[int, ...]:
    return tuple(found.ids[row, : int(found.length[row])].tolist())


@pytest.mark.parametrize("alpha", [-1.0, 0.0, 0.7, 2.0])
@pytest.mark.parametrize("cached", [True, False])
def test_enough_beams_find_the_best_of_all_sentences(alpha: float, cached: bool) -> None:
    table, rows, longest = Table(4, 5), 5, 4
    search = Search("beam", longest, beams=40, length_penalty=alpha)
    found = decode(table, memories(rows), starts(table, rows), end=END, search=search, cached=cached)
    for row in range(rows):
        best = max(sentences(4, longest), key=lambda s: table.sums(row, s) / len(s) ** alpha)
        assert said(found, row) == best
        assert float(found.score[row]) == pytest.approx(table.sums(row, best) / len(best) ** alpha, rel=1e-5)


def plain_beam(table: Table, row: int, search: Search, banned: tuple[int, ...]) -> tuple[tuple[int, ...], float]:
    """One row, one beginning at a time, to the very end: the likeliest K continuations end or are kept."""
    alive: list[tuple[int, ...]] = [()]
    best: tuple[tuple[int, ...], float] = ((), -math.inf)

    def sums(ids: tuple[int, ...]) -> float:
        return table.sums(row, ids, banned, search.min_tokens)

    for length in range(1, search.longest + 1):
        more = sorted(((*b, t) for b in alive for t in range(table.size)), key=sums, reverse=True)
        for ids in more[: search.beams]:
            if (ids[-1] == END or length == search.longest) and sums(ids) / length**search.length_penalty > best[1]:
                best = ids, sums(ids) / length**search.length_penalty
        alive = [ids for ids in more if ids[-1] != END and sums(ids) > -math.inf][: search.beams]
    return best


@pytest.mark.parametrize("beams", [1, 2, 3])
@pytest.mark.parametrize("alpha", [-0.5, 0.0, 1.0])
@pytest.mark.parametrize(("banned", "early"), [((), 0), ((0, 3), 2)])
def test_beams_equal_plain_python(beams: int, alpha: float, banned: tuple[int, ...], early: int) -> None:
    table, rows = Table(6, 8, seed=beams), 8
    search = Search("beam", 7, beams=beams, length_penalty=alpha, min_tokens=early)
    found = decode(table, memories(rows), starts(table, rows), end=END, banned=banned, search=search)
    for row in range(rows):
        ids, score = plain_beam(table, row, search, banned)
        assert said(found, row) == ids
        assert float(found.score[row]) == pytest.approx(score, rel=1e-5)
        assert (found.ids[row, len(ids) :] == END).all()


def test_beams_stop_when_nothing_can_change() -> None:
    table = Table(6, 3)
    table.scores[..., END] += 9.0  # nearly sure to end
    search = Search("beam", 50, beams=3, length_penalty=0.0)
    decode(table, memories(3), starts(table, 3), end=END, search=search)
    assert table.steps < 5
    table.steps = 0
    table.scores[..., END] -= 40.0  # nearly sure not to
    decode(table, memories(3), starts(table, 3), end=END, search=search)
    assert table.steps == 50


def test_a_longer_sentence_may_win_where_length_costs() -> None:
    table = Table(3, 1)
    table.scores[:] = torch.tensor([4.0, 2.0, -9.0])  # log p(end) = -2.1: one token costs 2.1
    table.scores[0, 1] = torch.tensor([-9.0, 4.0, -9.0])  # the second token is the end for sure: both cost 0.1 · 2
    search = Search("beam", 40, beams=2, length_penalty=-1.0)
    found = decode(table, memories(1), starts(table, 1), end=END, search=search)
    assert said(found, 0) == plain_beam(table, 0, search, ())[0] == (0, END)


def test_one_beam_is_greedy() -> None:
    table = Table(5, 6)
    greedy = Search("greedy", 9, beams=1, length_penalty=0.0)
    one, two = (decode(table, memories(6), starts(table, 6), end=END, search=greedy._replace(way=way))
                for way in ("greedy", "beam"))  # fmt: skip
    assert [said(one, row) for row in range(6)] == [said(two, row) for row in range(6)]
    torch.testing.assert_close(one.score, two.score)


def test_greedy_takes_the_likeliest_at_every_step() -> None:
    table, rows = Table(6, 8), 8
    table.scores[..., END] += 2.0
    search = Search("greedy", 6, min_tokens=2)
    found = decode(table, memories(rows), starts(table, rows), end=END, banned=(0,), search=search)
    assert len(set(found.length.tolist())) > 2
    for row in range(rows):
        ids: tuple[int, ...] = ()
        while len(ids) < 6 and ids[-1:] != (END,):
            ids = max(((*ids, t) for t in range(6)), key=lambda s: table.sums(row, s, (0,), 2))
        assert said(found, row) == ids
        assert float(found.score[row]) == pytest.approx(table.sums(row, ids, (0,), 2), rel=1e-5)


def test_only_what_was_said_is_reordered() -> None:
    table = Table(6, 4)
    speaker = Remembering(table, memories(4), 5, 3)
    fixed = speaker.state.fixed["row"]
    speaker.next(torch.arange(12) % 6)
    speaker.turn(torch.arange(12).view(4, 3).flip(1).flatten())
    assert speaker.state.fixed["row"] is fixed
    assert speaker.state.past["last"].tolist() == (torch.arange(12) % 6).view(4, 3).flip(1).flatten().tolist()
    assert beam(Remembering(table, memories(4), 5, 3), Lips(END, (), 0), starts(table, 4), END, Search("beam", 5, 3))


class GPT(nn.Module):
    """A tiny model of transformers as a decoder, which remembers the words and reads them again."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import GPT2Config, GPT2LMHeadModel

        torch.manual_seed(3)
        config = GPT2Config(vocab_size=9, n_embd=16, n_layer=2, n_head=2, n_positions=32, initializer_range=0.6,
                            tie_word_embeddings=False, bos_token_id=None, eos_token_id=None)  # fmt: skip
        self.core = GPT2LMHeadModel(config).eval()

    def forward(self, memory: Stream, ids: Tensor) -> Tensor:
        return self.core(ids).logits

    def begin(self, memory: Stream, longest: int) -> State:
        return State({"ids": torch.empty(len(memory.mask), 0, dtype=torch.long)}, {}, 0)

    def step(self, state: State, ids: Tensor) -> tuple[Tensor, State]:
        said = torch.cat([state.past["ids"], ids[:, None]], 1)
        return self.core(said).logits[:, -1], State({"ids": said}, {}, state.at + 1)

    def look(self, memory: Stream, ids: Tensor) -> None:
        return None


@pytest.mark.parametrize(
    "settings", [{"beams": 4}, {"beams": 3, "length_penalty": 0.0}, {"beams": 5, "length_penalty": 0.5}]
)
def test_beams_equal_generate_of_transformers(settings: dict[str, Any]) -> None:
    decoder, first = GPT(), torch.arange(2, 9)
    search = Search("beam", 12, **settings)
    found = decode(decoder, memories(7), first, end=END, search=search)
    with torch.no_grad():
        theirs = decoder.core.generate(
            first[:, None], attention_mask=torch.ones(7, 1, dtype=torch.long), max_new_tokens=12, do_sample=False,
            num_beams=search.beams, length_penalty=search.length_penalty, early_stopping="never", eos_token_id=END,
            pad_token_id=END, return_dict_in_generate=True, output_scores=True, use_cache=False,
        )  # fmt: skip
    ids = theirs.sequences[:, 1:]
    assert found.length.unique().numel() > 1, "some should end"
    for row in range(7):
        ours = said(found, row)
        assert tuple(ids[row, : len(ours)].tolist()) == ours
    torch.testing.assert_close(found.score, theirs.sequences_scores, rtol=1e-4, atol=1e-5)


SCORES = torch.randn(40, 12, generator=torch.Generator().manual_seed(0)).mul(2).log_softmax(1)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_nucleus_equals_sorting_by_hand(share: float, temperature: float) -> None:
    found = shares(SCORES, Search("sample", 1, temperature=temperature, top_p=share))
    for row, scores in enumerate(SCORES.tolist()):
        p = [math.exp(s / temperature) for s in scores]
        p = [x / sum(p) for x in p]
        kept: list[int] = []
        for token in sorted(range(len(p)), key=lambda t: -p[t]):
            kept.append(token)
            if sum(p[t] for t in kept) >= share:
                break
        whole = sum(p[t] for t in kept)
        expected = [p[t] / whole if t in kept else 0.0 for t in range(len(p))]
        assert found[row].tolist() == pytest.approx(expected, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("count", [1, 3, 12, 50])
def test_the_likeliest_tokens_stay(count: int) -> None:
    found = shares(SCORES, Search("sample", 1, top_k=count))
    assert ((found > 0).sum(1) == min(count, 12)).all()
    for p, scores in zip(found, SCORES, strict=True):
        assert set(p.nonzero()[:, 0].tolist()) == set(scores.topk(min(count, 12)).indices.tolist())
    torch.testing.assert_close(found.sum(1), torch.ones(40))


def test_first_the_likeliest_tokens_then_the_nucleus() -> None:
    p = torch.tensor([[0.4, 0.3, 0.2, 0.1]])
    found = shares(p.log(), Search("sample", 1, top_k=2, top_p=0.55))
    assert found[0].tolist() == pytest.approx([1.0, 0.0, 0.0, 0.0])  # 0.4 / 0.7 is more than 0.55; 0.4 is not


def test_a_chance_falls_on_a_token() -> None:
    scores = torch.tensor([[0.0, 0.25, 0.0, 0.5, 0.25, 0.0]]).log()
    for chance, token in ((0.0, 1), (0.2499, 1), (0.25, 3), (0.7499, 3), (0.75, 4), (1 - 2**-24, 4), (1.0, 4)):
        assert draw(scores, torch.tensor([chance]), Search("sample", 1)).tolist() == [token], chance


@pytest.mark.parametrize("search", [Search("sample", 1), Search("sample", 1, temperature=2.0, top_k=9, top_p=0.9)])
def test_frequencies_are_the_shares(search: Search) -> None:
    rows = 20_000
    chance = torch.rand(rows, generator=torch.Generator().manual_seed(1))
    counts = draw(SCORES[:1].expand(rows, -1), chance, search).bincount(minlength=12)
    expected = shares(SCORES[:1], search)[0].double()
    there = expected > 0
    assert not counts[~there].any()
    expected = expected[there] / expected[there].sum() * rows
    assert stats.chisquare(counts[there].numpy(), expected.numpy()).pvalue > 0.001


def test_sampling_is_a_function_of_the_draws() -> None:
    table, rows = Table(6, 8), 8
    draws = torch.rand(rows, 9, generator=torch.Generator().manual_seed(2))
    search = Search("sample", 9, temperature=1.3, top_p=0.95)
    found = decode(table, memories(rows), starts(table, rows), end=END, banned=(2,), search=search, draws=draws)
    for row in range(rows):
        ids: tuple[int, ...] = ()
        while len(ids) < 9 and ids[-1:] != (END,):
            scores = torch.tensor([[table.sums(row, (*ids, t), (2,)) for t in range(6)]]).log_softmax(1)
            ids = (*ids, int(draw(scores, draws[row, len(ids)][None], search)))
        assert said(found, row) == ids
        assert float(found.score[row]) == pytest.approx(table.sums(row, ids, (2,)), rel=1e-4)
    with pytest.raises(ValueError, match="draws"):
        decode(table, memories(rows), starts(table, rows), end=END, search=search)


@pytest.mark.parametrize("way", ["greedy", "beam", "sample"])
def test_a_sentence_is_cut_or_ends_early(way: Any) -> None:
    table, draws = Table(6, 3), torch.full((3, 4), 0.5)
    table.scores[0, ..., END], table.scores[1, ..., END] = -50.0, 50.0
    found = decode(table, memories(3), starts(table, 3), end=END, search=Search(way, 4), draws=draws)
    assert found.length[:2].tolist() == [4, 1]
    assert END not in said(found, 0)
    assert found.ids[1].tolist() == [END] * 4
    late = decode(table, memories(3), starts(table, 3), end=END, search=Search(way, 4, min_tokens=2), draws=draws)
    assert said(late, 1)[2:] == (END,)
    assert END not in said(late, 1)[:2]


@pytest.mark.parametrize("way", ["greedy", "sample"])
def test_token_by_token(way: Any) -> None:
    table, draws, search = Table(6, 5), torch.rand(5, 8), Search(way, 8)
    whole = decode(table, memories(5), starts(table, 5), end=END, search=search, draws=draws)
    grad = torch.is_grad_enabled()
    found = stream(table, memories(5), starts(table, 5), end=END, search=search, draws=draws)
    tokens = []
    for ids in found:
        assert torch.is_grad_enabled() == grad, "a stream changes nothing around it"
        tokens.append(ids)
    assert torch.equal(torch.stack(tokens, 1), whole.ids)


def test_beams_cannot_be_streamed() -> None:
    with pytest.raises(SpecError, match="token by token"):
        next(stream(Table(4, 1), memories(1), torch.tensor([4]), end=END, search=Search("beam", 3)))


@pytest.mark.parametrize(
    ("change", "where"),
    [({"way": "beem"}, "way"), ({"longest": 0}, "longest"), ({"beams": 0}, "beams"), ({"min_tokens": -1}, "min_tokens"),
     ({"temperature": 0.0}, "temperature"), ({"temperature": math.inf}, "temperature"), ({"top_p": 0.0}, "top_p"),
     ({"top_p": 1.1}, "top_p"), ({"top_k": -1}, "top_k"), ({"length_penalty": math.nan}, "length_penalty")],
)  # fmt: skip
def test_a_search_that_makes_no_sense(change: dict[str, Any], where: str) -> None:
    search = Search("greedy", 5)._replace(**change)
    with pytest.raises(SpecError) as error:
        decode(Table(4, 1), memories(1), torch.tensor([4]), end=END, search=search)
    assert error.value.where == f"search.{where}"


def test_the_advice_for_a_way_that_is_not_known() -> None:
    with pytest.raises(SpecError, match="beam"):
        Search("beem", 5).check()  # type: ignore[arg-type]
