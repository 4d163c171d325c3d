"""The cache gives back the same bytes, from memory and from disk, to the process that filled it and to its forks."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymodal.core.errors import UserError
from polymodal.data.cache import Cache, Loose, Packed
from polymodal.data.collate import collate

RAGGED = frozenset({"r"})


def samples_of(lengths: list[int], seed: int = 0) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [
        {"f": rng.random((3, 2), np.float32), "r": rng.integers(0, 99, (n, 2)), "s": np.array(n > 2), "e": np.zeros(0)}
        for n in lengths
    ]


def fill(cache: Cache, samples: list[dict], ragged: frozenset[str] | None) -> Packed | Loose:
    shelf = cache.shelf(("x",), None, ragged, 3)
    for number, sample in enumerate(samples):
        assert shelf.put(number * 7, sample) == number
    return shelf


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=20), st.sampled_from([0, 150, 400, 1 << 20]), st.randoms())
def test_packed_samples_are_gathered_as_collate_stacks_them(lengths: list[int], left: int, random) -> None:  # type: ignore[no-untyped-def]
    """All in memory, all on disk, or some here and some there."""
    samples = samples_of(lengths)
    cache = Cache(0)
    cache.left = left
    shelf = fill(cache, samples, RAGGED)
    assert isinstance(shelf, Packed)
    for _ in range(3):
        picked = random.choices(range(len(samples)), k=random.randint(1, 9))
        found, expected = shelf.gather(np.array(picked)), collate([samples[i] for i in picked], RAGGED)
        assert found.keys() == expected.keys()
        for name in expected:
            assert found[name].dtype == expected[name].dtype
            assert np.array_equal(found[name], expected[name])
            assert found[name].flags.writeable
    for number, sample in enumerate(samples):
        for name, value in shelf.sample(number).items():
            assert np.array_equal(value, sample[name])
    assert dict(shelf.slots.items()) == {n * 7: n for n in range(len(samples))}
    cache.close()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 5), max_size=6), min_size=1, max_size=6), st.sampled_from([0, 150, 400]))
def test_many_at_once_are_as_one_by_one(blocks: list[list[int]], left: int) -> None:
    """Wherever among them memory is full: what is in memory, what on disk, and what comes back."""
    shelves = []
    for at_once in (True, False):
        cache, first = Cache(0), 0
        cache.left = left
        shelf = cache.shelf(("x",), None, RAGGED, 3)
        for number, lengths in enumerate(blocks):
            samples, digests = samples_of(lengths, number), list(range(first, first + len(lengths)))
            if at_once:
                assert shelf.put_all(digests, samples) == digests
            else:
                assert [shelf.put(d, s) for d, s in zip(digests, samples, strict=True)] == digests
            first += len(lengths)
        shelves.append(shelf)
    for slot in range(first):
        one, other = (shelf.sample(slot) for shelf in shelves)
        assert all(np.array_equal(value, other[name]) for name, value in one.items())
    if first:
        one, other = (shelf.gather(np.arange(first)[::-1]) for shelf in shelves)  # type: ignore[union-attr]
        assert all(np.array_equal(value, other[name]) for name, value in one.items())
    assert shelves[0].cache.left >= 0


def test_cells_on_disk_are_not_resident(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are read, and neighbours in one go."""
    from polymodal.data import store as module

    reads: list[int] = []
    real = module.read_at
    monkeypatch.setattr(module, "read_at", lambda file, start, size: (reads.append(size), real(file, start, size))[1])
    shelf = fill(Cache(0), [{"x": np.full(10, i)} for i in range(50)], frozenset())
    assert isinstance(shelf, Packed)
    assert shelf.gather(np.arange(20, 40))["x"][:, 0].tolist() == list(range(20, 40))
    assert reads == [20 * 80]
    assert shelf.gather(np.array([3, 9, 4, 5]))["x"][:, 9].tolist() == [3, 9, 4, 5]
    assert reads[1:] == [80, 80, 160]


@pytest.mark.parametrize("left", [0, 100, 1 << 20])
def test_loose_samples_keep_any_form(left: int) -> None:
    rng = np.random.default_rng(0)
    samples = [{"x": rng.random((n, 3, n)), "y": np.arange(n, dtype=np.uint8), "z": np.array(True)} for n in range(6)]
    samples.append({"other": np.asfortranarray(rng.random((3, 4)))})
    cache = Cache(0)
    cache.left = left
    shelf = fill(cache, samples, None)
    for number, sample in enumerate(samples):
        found = shelf.sample(number)
        assert found.keys() == sample.keys()
        for name, value in sample.items():
            assert found[name].dtype == value.dtype
            assert np.array_equal(found[name], value)
    cache.close()


def test_the_limit_holds_and_the_disk_is_left_clean(tmp_path: Path) -> None:
    cache = Cache(1, tmp_path / "cache")
    shelf = fill(cache, [{"x": np.full(100_000, i, np.uint8)} for i in range(15)], frozenset())
    assert isinstance(shelf, Packed)
    assert cache.left == (1 << 20) - 10 * 100_000
    assert (tmp_path / "cache").is_dir()
    assert not list((tmp_path / "cache").iterdir())  # the file has no name
    assert shelf.gather(np.array([14, 3]))["x"][:, 0].tolist() == [14, 3]
    cache.close()
    assert not (tmp_path / "cache").exists()


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(UserError, match=r"data\.cache_mb: decoded cells cannot be kept"):
        fill(Cache(0, tmp_path / "cache"), [{"x": np.zeros(9)}], frozenset())


def test_samples_of_another_form_are_refused() -> None:
    for other in ({"x": np.zeros(3)}, {"x": np.zeros(2, np.float32)}, {"y": np.zeros(2)}):
        with pytest.raises(ValueError, match="samples differ"):
            fill(Cache(1), [{"x": np.zeros(2)}, other], frozenset())


def test_a_fork_reads_and_adds_nothing() -> None:
    cache = Cache(0)
    shelf = fill(cache, samples_of([1, 2, 3]), RAGGED)
    assert isinstance(shelf, Packed)
    expected = shelf.gather(np.arange(3))
    child = os.fork()
    if not child:
        same = all(np.array_equal(v, expected[n]) for n, v in shelf.gather(np.arange(3)).items())
        os._exit(0 if same and shelf.put(99, samples_of([1])[0]) == -1 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert shelf.put(99, samples_of([4])[0]) == 3
    assert len(shelf.gather(np.array([3]))["r"][0]) == 4
    cache.close()
