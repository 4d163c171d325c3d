"""What can be told of a series at once: how long it is, and each channel's level, spread and gaps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from polymodal.core.traits import Traits, numbers

MOST = 8  # channels, the first ones


def told(series: Sequence[Float[np.ndarray, "_T _C"]], names: Sequence[Any] | None) -> Traits:
    """`steps`; `gaps`, the share of missing values; of each channel `level`, its mean, and `spread`, its deviation."""
    found: Traits = {
        "steps": numbers(len(values) for values in series),
        "gaps": numbers(np.isnan(values).mean() for values in series),
    }
    channels = min((values.shape[1] for values in series), default=0)
    for at in range(min(MOST, channels)):
        known = [values[:, at][~np.isnan(values[:, at])] for values in series]
        name = names[at] if names else str(at)
        found[f"level of {name}"] = numbers(one.mean() if len(one) else np.nan for one in known)
        found[f"spread of {name}"] = numbers(one.std() if len(one) else np.nan for one in known)
    return found
