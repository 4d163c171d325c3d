"""Parquet: a column is read when it is first needed; a big one goes to a memory-mapped file, row group by row group."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from polymodal.core.errors import TableError
from polymodal.data.columns import ArrowColumn, Contents, LazyColumn, check_names

IN_MEMORY = 256 << 20  # bytes of a column, unpacked; a bigger one is memory-mapped


def read_parquet(path: Path) -> Contents:
    """Columns of a Parquet file. Raises TableError for a file that is none, at once or when a column is first read."""
    try:
        file = pq.ParquetFile(path, memory_map=True)
    except (pa.ArrowException, OSError) as error:
        raise _broken(path, error) from None
    rows, names = file.metadata.num_rows, file.schema_arrow.names
    check_names(names, str(path))

    def lazily(name: str) -> LazyColumn:
        return LazyColumn(rows, lambda: _load(path, file, name))

    return Contents({name: lazily(name) for name in names}, {})


def _load(path: Path, file: pq.ParquetFile, name: str) -> ArrowColumn:
    try:
        if _size(file, name) <= IN_MEMORY:
            return ArrowColumn(file.read([name]).column(name))
        return ArrowColumn(_mapped(file, name))
    except (pa.ArrowException, OSError) as error:
        raise _broken(path, error) from None


def _size(file: pq.ParquetFile, name: str) -> int:
    groups = (file.metadata.row_group(g) for g in range(file.metadata.num_row_groups))
    chunks = (group.column(c) for group in groups for c in range(group.num_columns))
    return sum(
        c.total_uncompressed_size for c in chunks if c.path_in_schema.partition(".")[0] == name.partition(".")[0]
    )


def _mapped(file: pq.ParquetFile, name: str) -> pa.ChunkedArray:
    """The column out of a temporary Arrow file that has no name any more: it is gone when the process is."""
    schema = pa.schema([file.schema_arrow.field(name)])
    with tempfile.NamedTemporaryFile(suffix=".arrow") as spill:
        with pa.ipc.new_file(spill.name, schema) as out:
            for batch in file.iter_batches(batch_size=1024, columns=[name]):
                out.write_batch(batch.select([name]).cast(schema))
        return pa.ipc.open_file(pa.memory_map(spill.name)).read_all().column(name)


def _broken(path: Path, error: Exception) -> TableError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return TableError(str(path), f"cannot be read as Parquet: {reason}", advice="write the file again")
