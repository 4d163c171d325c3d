"""Collating against a loop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymodal.data.collate import collate


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=6), st.sampled_from(["int64", "float32", "uint8"]))
def test_ragged_arrays_are_padded_with_zeros(lengths: list[int], dtype: str) -> None:
    rng = np.random.default_rng(sum(lengths))
    samples = [{"x": rng.integers(1, 9, (n, 2)).astype(dtype), "y": np.float32(n)[None]} for n in lengths]
    made = collate(samples, frozenset({"x"}))
    assert set(made) == {"x", "x_mask", "y"}
    longest = max([*lengths, 1])
    assert made["x"].shape == (len(lengths), longest, 2)
    assert made["x"].dtype == dtype
    assert made["x_mask"].dtype == bool
    for i, sample in enumerate(samples):
        n = len(sample["x"])
        assert np.array_equal(made["x"][i, :n], sample["x"])
        assert not made["x"][i, n:].any()
        assert made["x_mask"][i].tolist() == [True] * n + [False] * (longest - n)
        assert made["y"][i] == sample["y"]


@pytest.mark.parametrize(
    "other", [{"x": np.zeros(3)}, {"x": np.zeros(2, np.int64)}, {"y": np.zeros(2)}, {"x": np.zeros((2, 1))}]
)
def test_samples_of_different_form_are_refused(other: dict) -> None:
    with pytest.raises(ValueError, match="samples differ"):
        collate([{"x": np.zeros(2)}, other])
