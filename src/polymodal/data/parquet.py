"""Parquet: a column is read when it is first needed, in portions; a long one goes to disk, in blocks."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from polymodal.core.errors import TableError
from polymodal.data.columns import Column, Contents, LazyColumn, check_names
from polymodal.data.spill import ColumnPile, Spill

PORTION = 1 << 22  # bytes of a column that are unpacked at once, roughly
MOST_ROWS = 4096
BUFFER = 1 << 20  # bytes of the file that are read at once: never a whole row group


def read_parquet(path: Path) -> Contents:
    """Columns of a Parquet file. Raises TableError for a file that is none, at once or when a column is first read."""
    try:
        file = pq.ParquetFile(path, buffer_size=BUFFER)
    except (pa.ArrowException, OSError) as error:
        raise _broken(path, error) from None
    rows, names = file.metadata.num_rows, file.schema_arrow.names
    check_names(names, str(path))
    spill = Spill()

    def lazily(name: str) -> LazyColumn:
        return LazyColumn(rows, lambda: _load(path, file, name, spill))

    return Contents({name: lazily(name) for name in names}, {})


def _load(path: Path, file: pq.ParquetFile, name: str, spill: Spill) -> Column:
    pile = ColumnPile(spill)
    rows = max(1, min(MOST_ROWS, PORTION * file.metadata.num_rows // max(1, _size(file, name))))
    try:
        for batch in file.iter_batches(batch_size=rows, columns=[name]):
            pile.append(batch.column(name))
    except (pa.ArrowException, OSError) as error:
        raise _broken(path, error) from None
    pa.default_memory_pool().release_unused()
    return pile.done()


def _size(file: pq.ParquetFile, name: str) -> int:
    groups = (file.metadata.row_group(g) for g in range(file.metadata.num_row_groups))
    chunks = (group.column(c) for group in groups for c in range(group.num_columns))
    return sum(
        c.total_uncompressed_size for c in chunks if c.path_in_schema.partition(".")[0] == name.partition(".")[0]
    )


def _broken(path: Path, error: Exception) -> TableError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return TableError(str(path), f"cannot be read as Parquet: {reason}", advice="write the file again")
