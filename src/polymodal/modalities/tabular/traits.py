"""The values of a table's columns, as they were written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from polymodal.core.contracts import Field
from polymodal.core.traits import Names, Traits, numbers
from polymodal.modalities.tabular.cells import category, is_missing, number


def values_of(records: Sequence[Mapping[str, object]], field: Field) -> Traits:
    """Every column by its name: numbers as they are, not scaled, or categories."""
    found: Traits = {}
    for column in field["numeric"]:
        cells = [record.get(column["column"]) for record in records]
        found[column["column"]] = numbers(np.nan if is_missing(c) else number(c) for c in cells)
    for column in field["categorical"]:
        cells = [record.get(column["column"]) for record in records]
        found[column["column"]] = Names([None if is_missing(c) else category(c) for c in cells])
    return found
