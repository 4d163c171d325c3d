"""ROUGE-L: the longest common subsequence of what was said and a reference.

Source: Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004; β and the best of several references as
in `pycocoevalcap`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from polymodal.tasks.language.edits import distances

BETA = 1.2  # recall counts β² times as much as precision


def rouge_l(said: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> Float[np.ndarray, " n"]:
    """Per row `(1 + β²) P R / (R + β² P)`: P and R are the best of all references, not always of the same one.

    P is the share of the words said that are in the longest common subsequence, R that of the reference's words.
    """
    owner = np.repeat(np.arange(len(said)), np.array([len(row) for row in references], np.int64))
    flat = [sentence for row in references for sentence in row]
    ours, theirs = (
        np.array([len(said[i]) for i in owner.tolist()], np.int64),
        np.array([len(s) for s in flat], np.int64),
    )
    common = (ours + theirs - distances([said[i] for i in owner.tolist()], flat, substitution=2)) / 2
    precision, recall = np.zeros(len(said)), np.zeros(len(said))
    np.maximum.at(precision, owner, common / np.maximum(ours, 1))
    np.maximum.at(recall, owner, common / np.maximum(theirs, 1))
    below = recall + BETA**2 * precision
    return np.where(below > 0, (1 + BETA**2) * precision * recall / np.where(below > 0, below, 1.0), 0.0)
