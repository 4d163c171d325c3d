"""Stacking samples into arrays with the cells first; ragged ones are padded and get a mask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from polymodal.core.contracts import Sample

MASK = "_mask"


def collate(samples: Sequence[Sample], ragged: frozenset[str] = frozenset()) -> dict[str, np.ndarray]:
    """Samples of the same names -> arrays [N, ...].

    An array named in `ragged` is padded with zeros along its first axis to the longest, [N, T, ...], and comes with
    `<name>_mask` [N, T], True where it is real. Raises ValueError where samples differ in names, shapes or dtypes.
    """
    names = list(samples[0])
    if any(s.keys() != samples[0].keys() for s in samples):
        raise ValueError(f"samples differ in names: {sorted({n for s in samples for n in s} - set(names)) or names}")
    stacked: dict[str, np.ndarray] = {}
    for name in names:
        arrays = [s[name] for s in samples]
        if len({a.dtype for a in arrays}) > 1 or len({a.shape[name in ragged :] for a in arrays}) > 1:
            raise ValueError(
                f"samples differ in the form of {name!r}: {sorted({f'{a.dtype}{a.shape}' for a in arrays})}"
            )
        if name in ragged:
            lengths = np.array([len(a) for a in arrays])
            stacked[name], stacked[name + MASK] = pad(np.concatenate(arrays), np.cumsum(lengths) - lengths, lengths)
        else:
            stacked[name] = np.stack(arrays)
    return stacked


def pad(flat: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pieces of `flat` [total, ...], by where they start and how long they are -> ([N, T, ...], mask [N, T])."""
    longest = max(int(lengths.max()), 1)
    if (lengths == longest).all() and (starts == longest * np.arange(len(starts))).all() and len(flat) == lengths.sum():
        return flat.reshape(len(lengths), longest, *flat.shape[1:]), np.ones((len(lengths), longest), bool)
    steps = np.arange(longest)
    mask = steps < lengths[:, None]
    padded = np.zeros((*mask.shape, *flat.shape[1:]), flat.dtype)
    padded[mask] = flat[(starts[:, None] + steps)[mask]]
    return padded, mask
