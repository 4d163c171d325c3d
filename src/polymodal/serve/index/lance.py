"""An index in a folder: a LanceDB table that holds everything, and beside it what makes searching fast.

Every row has a number of its own, in the order of writing; a row that is replaced gets a new one. `near` holds vectors
at the places of these numbers, and approximate indexes; both can be made again from the table.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int

from polymodal.core.catalog import need
from polymodal.core.errors import RunError, UserError, saving
from polymodal.core.schema import Json
from polymodal.data.cells import digest
from polymodal.data.digests import Digests
from polymodal.serve.index import filters, near, state
from polymodal.serve.index.filters import Filter
from polymodal.serve.index.flat import Flat
from polymodal.serve.index.near import Made, Near
from polymodal.serve.index.place import Found, Gone, Key, Rows
from polymodal.serve.index.state import State

NAMES = 1000  # ids in one condition
SCATTERED = 64  # files of rows beyond which they are joined
OUTDATED = 200  # versions beyond which the old ones are cleared away
FOR_EVER = timedelta(days=36_500)
ROUNDS = 4  # of joining
TRIES = 5  # of reading while another process writes
WASTED = 0.5  # share of numbers that no row has any more, beyond which all are given anew
CARDS = 128 << 20  # bytes of kept columns, up to which they are held in memory
SAMPLE = 1000  # rows by which their size is told
FILTERS = 16  # filters whose rows are remembered
INDEXED = 20_000  # rows from which on ids and words have an index
TYPES: dict[str, pa.DataType] = {
    "text": pa.string(), "integer": pa.int64(), "number": pa.float64(), "boolean": pa.bool_(), "json": pa.string(),
}  # fmt: skip
T = TypeVar("T")


class Snapshot(NamedTuple):
    """An index as it was when a state began to count; searches of one moment see one snapshot."""

    state: State
    table: Any
    offsets: Int[np.ndarray, " serial"]  # number -> place in the table, -1 where there is no such row any more
    numbers: Int[np.ndarray, " count"]  # the other way round
    alive: list[Bool[np.ndarray, " serial"]]  # by space, which rows have a vector
    vectors: list[Any]  # by space, [serial, E]
    near: dict[int, Near]
    cards: pa.Table | None  # ids and kept columns in the order of `numbers`, where they are small
    passed: dict[str, Bool[np.ndarray, " serial"]]  # which rows pass the filters that were asked for lately


class LancePlace:
    """An index folder. `create` and `open` it; a writer holds `writing()` around all that it writes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._about, self._state = state.load(folder)
        self._stamp = state.stamp(folder)
        self._held: Snapshot | None = None
        self._lock = threading.RLock()
        self._synced: state.Synced | None = None
        self._opened: dict[str, Near] = {}
        self.spaces: list[str] = list(self._about["spaces"])
        self.columns: dict[str, str] = {c["name"]: c["type"] for c in self._about["columns"]}
        self.stored = {name: f"c{at}" for at, name in enumerate(self.columns)}
        self.width = int(self._about["width"])

    @classmethod
    def create(cls, folder: Path, about: dict[str, Json]) -> LancePlace:
        """A new, empty index. Raises UserError for a folder that holds something else."""
        ours = {state.LOCK, state.TABLE, state.NEAR, state.LEDGER}
        with saving(folder, RunError, state.KEPT):
            folder.mkdir(parents=True, exist_ok=True)
            others = sorted(p.name for p in folder.iterdir() if p.name not in ours and not p.name.startswith(".index"))
            if others:
                raise UserError(str(folder), "holds something else", given=others[:5], advice="an empty folder")
            with state.locked(folder):
                table = _connect(folder).create_table("rows", schema=schema_of(about), mode="overwrite")
                state.Synced(folder / state.TABLE, known=False).sync()
                state.save(folder, about, State(version=table.version))
        return cls(folder)

    @property
    def about(self) -> dict[str, Json]:
        self._follow()
        return {**self._about, "count": self._state.rows}

    # --- reading

    def _follow(self) -> None:
        """Look whether another process has written."""
        with self._lock:
            found = state.stamp(self.folder)
            if found != self._stamp:
                self._about, self._state = state.load(self.folder)
                self._stamp, self._held = found, None

    def _snapshot(self) -> Snapshot:
        with self._lock:
            self._follow()
            if self._held is None:
                self._held = self._read(self._state)
            return self._held

    def _reading(self, read: Callable[[Snapshot], T]) -> T:
        """Read; once more where files were cleared away under us because another process wrote."""
        for _ in range(TRIES):
            seen = self._state
            try:
                snapshot = self._snapshot()
                seen = snapshot.state
                return read(snapshot)
            except (OSError, RuntimeError, ValueError):
                self._follow()
                if self._state is seen:
                    raise
        return read(self._snapshot())

    def _read(self, now: State) -> Snapshot:
        state.mend(self.folder, now)
        table = self._table(now.version)
        held = table.search().select(["_n", "_has"]).to_arrow()
        numbers, has = held["_n"].to_numpy(), held["_has"].to_numpy()
        offsets = np.full(now.serial, -1, np.int64)
        offsets[numbers] = np.arange(len(numbers))
        alive = []
        for at in range(len(self.spaces)):
            mask = np.zeros(now.serial, bool)
            mask[numbers] = (has >> at) & 1 == 1
            alive.append(mask)
        vectors = [self._vectors_of(at, now, table) for at in range(len(self.spaces))]
        made = {self.spaces.index(name): Made(**one) for name, one in now.near.items()}
        opened = {}
        for at, one in made.items():
            try:
                opened[at] = self._opened.get(one.file) or Near.open(self.folder, one)
            except RunError:
                continue  # exact search needs none
        self._opened = {one.made.file: one for one in opened.values()}
        return Snapshot(now, table, offsets, numbers, alive, vectors, opened, self._cards(table, numbers), {})

    def _cards(self, table: Any, numbers: np.ndarray) -> pa.Table | None:
        """Ids and kept columns in the order of `numbers`; None where they are large."""
        wanted = ["_n", "_id", *self.stored.values()]
        some = table.search().select(wanted).limit(SAMPLE).to_arrow()
        if some.nbytes * len(numbers) > CARDS * max(1, len(some)):
            return None
        found = table.search().select(wanted).to_arrow().combine_chunks()
        return found if np.array_equal(found["_n"].to_numpy(), numbers) else None

    def _table(self, version: int | None = None) -> Any:
        return _connect(self.folder).open_table("rows", version=version)

    def _vectors_of(self, space: int, now: State, table: Any) -> Any:
        """From their own file; from the table where that is lost."""
        flat = self._flat(space, now)
        if flat.holds(now.serial):
            return flat.open(now.serial)
        whole = np.zeros((now.serial, self.width), np.float32)
        for numbers, own in self._stream(table, space):
            whole[numbers] = own
        return whole

    def _stream(self, table: Any, space: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Numbers and vectors of all rows, some at a time."""
        column = f"v{space}"
        for batch in table.search().select(["_n", column]).to_batches(batch_size=8192):
            yield batch["_n"].to_numpy(), _matrix(batch[column], self.width)

    def _flat(self, space: int, now: State) -> Flat:
        return Flat(self.folder, space, now.generation, self.width)

    def nearest(self, space: int, vector: Float[np.ndarray, " E"], k: int, wanted: Filter | None, *,
                exact: bool = False) -> list[Found]:  # fmt: skip
        """See `Place`."""

        def read(held: Snapshot) -> list[Found]:
            allowed = held.alive[space]
            if wanted is not None:
                allowed = allowed & self._passing(held, wanted)
            query, made = np.asarray(vector, np.float32), held.near.get(space)
            if exact or made is None:
                numbers, scores = near.exact(held.vectors[space], query, allowed, k)
            else:
                numbers, scores = made.search(held.vectors[space], query, allowed, k)
            return [Found(*one) for one in zip(numbers.tolist(), scores.tolist(), strict=True)]

        return self._reading(read)

    def _passing(self, held: Snapshot, wanted: Filter) -> Bool[np.ndarray, " serial"]:
        """By number, which rows pass."""
        where = filters.sql(wanted, self.stored)  # filters themselves are tuples: an `and` equals an `or`
        found = held.passed.get(where)
        if found is None:
            found = np.zeros(held.state.serial, bool)
            if held.cards is not None:
                found[held.numbers[filters.mask(wanted, held.cards, self.stored)]] = True
            else:
                found[held.table.search().where(where).select(["_n"]).to_arrow()["_n"].to_numpy()] = True
            if len(held.passed) >= FILTERS:
                held.passed.clear()
            held.passed[where] = found
        return found

    def worded(self, words: list[str], k: int, wanted: Filter | None) -> list[Found]:
        """By BM25 (Robertson and Zaragoza 2009), as LanceDB's full-text index has it. See `Place`."""

        def read(held: Snapshot) -> list[Found]:
            if not held.state.rows or not words:
                return []
            asked = held.table.search(_match(words), query_type="fts").select(["_n", "_score"]).limit(k)
            if wanted is not None:
                asked = asked.where(filters.sql(wanted, self.stored), prefilter=True)
            found = asked.to_arrow()
            order = np.lexsort((found["_n"].to_numpy(), -found["_score"].to_numpy()))
            return [Found(int(found["_n"][at].as_py()), float(found["_score"][at].as_py())) for at in order.tolist()]

        return self._reading(read)

    def some(self, k: int, wanted: Filter | None) -> list[Key]:
        """See `Place`."""

        def read(held: Snapshot) -> list[Key]:
            numbers = held.numbers if wanted is None else np.flatnonzero(self._passing(held, wanted))
            return np.sort(numbers)[:k].tolist()

        return self._reading(read)

    def keys(self, ids: Sequence[str]) -> list[Key | None]:
        """See `Place`."""

        def read(held: Snapshot) -> list[Key | None]:
            known: dict[str, int] = {}
            for condition in _conditions(ids):
                found = held.table.search().where(condition).select(["_id", "_n"]).to_arrow()
                known |= dict(zip(found["_id"].to_pylist(), found["_n"].to_pylist(), strict=True))
            return [known.get(one) for one in ids]

        return self._reading(read)

    def shown(self, keys: Sequence[Key]) -> list[tuple[str, dict[str, Json]]]:
        """See `Place`."""
        columns = list(self.stored.values())

        def read(held: Snapshot) -> list[tuple[str, dict[str, Json]]]:
            found = self._card(held, keys) if held.cards is not None else self._take(held, keys, ["_id", *columns])
            return [(row["_id"], {name: _shown(row[c], self.columns[name]) for name, c in self.stored.items()})
                    for row in found.to_pylist()]  # fmt: skip

        return self._reading(read)

    def vectors(self, keys: Sequence[Key], space: int) -> Float[np.ndarray, "n E"]:
        """See `Place`."""
        numbers = np.array(keys, np.int64)
        return self._reading(lambda held: np.array(held.vectors[space][numbers], np.float32))

    def preview(self, key: Key, picture: int) -> bytes | None:
        """See `Place`."""
        return self._reading(lambda held: self._take(held, [key], [f"p{picture}"])[0][0].as_py())

    def _card(self, held: Snapshot, keys: Sequence[Key]) -> pa.Table:
        """Ids and kept columns of the rows of these numbers."""
        assert held.cards is not None
        return held.cards.take(pa.array(self._places(held, keys)))

    def _places(self, held: Snapshot, keys: Sequence[Key]) -> np.ndarray:
        """Where the rows of these numbers are in the table. Raises Gone."""
        numbers = np.array(keys, np.int64)
        if (numbers >= len(held.offsets)).any() or (held.offsets[numbers] < 0).any():
            raise Gone
        return held.offsets[numbers]

    def _take(self, held: Snapshot, keys: Sequence[Key], columns: list[str]) -> pa.Table:
        """Columns of the rows of these numbers, in their order."""
        numbers = np.array(keys, np.int64)
        if not len(numbers):
            return pa.table({name: pa.array([], pa.string()) for name in columns})
        found = held.table.take_offsets(self._places(held, keys).tolist()).select([*columns, "_n"]).to_arrow()
        order = {number: at for at, number in enumerate(found["_n"].to_pylist())}
        return found.take([order[number] for number in numbers.tolist()])

    def ids(self) -> Iterator[str]:
        """See `Place`."""
        for batch in self._snapshot().table.search().select(["_id"]).to_batches():
            yield from batch["_id"].to_pylist()

    # --- writing

    def begin(self) -> None:
        """Take away what was begun and never counted; the caller holds the lock."""
        self._follow()
        state.roll_back(self.folder, self._state)
        self._held, self._synced = None, state.Synced(self.folder / state.TABLE)
        for at in range(len(self.spaces)):
            if not self._flat(at, self._state).holds(self._state.serial):
                self._again(at)

    def _again(self, space: int) -> None:
        """Write the vectors' own file once more from the table."""
        flat, now = self._flat(space, self._state), self._state
        for start in range(0, now.serial, near.AT_ONCE):
            flat.write(start, np.zeros((min(near.AT_ONCE, now.serial - start), self.width), np.float32))
        for numbers, own in self._stream(self._table(now.version), space):
            for run in np.split(np.arange(len(numbers)), 1 + np.flatnonzero(np.diff(numbers) != 1)):
                if len(run):
                    flat.write(int(numbers[run[0]]), own[run])

    def known(self) -> Digests:
        """See `Place`."""
        found = Digests()
        for batch in self._table(self._state.version).search().select(["_id", "_digest"]).to_batches():
            for one, own in zip(batch["_id"].to_pylist(), batch["_digest"].to_pylist(), strict=True):
                found.add(digest(one), own)
        return found

    def put(self, rows: Rows, *, fresh: bool) -> None:
        """One commit: vectors into their files, rows into the table, then the state. See `Place`."""
        now, count = self._state, len(rows.ids)
        if not count:
            return
        numbers = np.arange(now.serial, now.serial + count)
        for at, own in enumerate(rows.vectors):
            self._flat(at, now).write(now.serial, own)
        table = self._table()
        with _Writing(self.folder):
            batch = self._batch(rows, numbers)
            if fresh:
                table.add(batch)
            else:
                table.merge_insert("_id").when_matched_update_all().when_not_matched_insert_all().execute(batch)
        self._publish(table, serial=now.serial + count)

    def _batch(self, rows: Rows, numbers: np.ndarray) -> pa.Table:
        has = sum(mask.astype(np.int64) << at for at, mask in enumerate(rows.has))
        columns: list[Any] = [rows.ids, numbers, rows.digests, has, rows.words]
        for own, mask in zip(rows.vectors, rows.has, strict=True):
            columns.append(pa.FixedSizeListArray.from_arrays(pa.array(own.reshape(-1), pa.float32()), self.width,
                                                             mask=pa.array(~mask)))  # fmt: skip
        columns += [[_kept(cell, kind) for cell in cells]
                    for cells, kind in zip(rows.cells, self.columns.values(), strict=True)]  # fmt: skip
        columns += rows.previews
        schema = schema_of(self._about)
        return pa.table([c if isinstance(c, pa.Array) else pa.array(c, f.type) for c, f in
                         zip(columns, schema, strict=True)], schema=schema)  # fmt: skip

    def delete(self, ids: Sequence[str]) -> int:
        """See `Place`."""
        before, table = self._state.rows, self._table()
        with _Writing(self.folder):
            for condition in _conditions(ids):
                table.delete(condition)
        self._publish(table)
        return before - self._state.rows

    def _publish(self, table: Any, **changed: Any) -> None:
        """What was written counts from here on."""
        assert self._synced is not None, "begin() first"
        with saving(self.folder, RunError, state.KEPT):
            self._synced.sync()
        self._state = self._state._replace(version=table.version, rows=table.count_rows(), **changed)
        state.save(self.folder, self._about, self._state)
        self._stamp, self._held = state.stamp(self.folder), None

    def finish(self) -> None:
        """Join small files, bring the indexes of ids and words up to date, and the approximate ones. See `Place`."""
        with _Writing(self.folder):
            if self._state.rows and self._state.rows < (1 - WASTED) * self._state.serial:
                self._renumber()
            table = self._table()
            files, versions = table.stats()["fragment_stats"]["num_fragments"], len(table.list_versions())
            joined = files > SCATTERED or versions > OUTDATED
            if joined:
                self._join(table)
            if self._index(table):
                self._publish(table)
        made = self._nearer()
        if made != self._state.near:
            self._publish(table, near=made)
        if joined:  # what counted before is cleared away only when it does no more
            with _Writing(self.folder):
                table.optimize(cleanup_older_than=timedelta(milliseconds=1), delete_unverified=True)
            self._publish(table)
        self._sweep()

    def _join(self, table: Any) -> None:
        """Join small files, until there is nothing left to be joined, and let all of it count."""
        for _ in range(ROUNDS):
            before = table.version
            table.optimize(cleanup_older_than=FOR_EVER)
            self._publish(table)
            if table.version == before:
                return

    def _index(self, table: Any) -> bool:
        """Indexes of ids and words, where there are many rows and many that are not in them; whether any was made."""
        from lancedb.index import FTS, BTree

        there = {tuple(one.columns): one.name for one in table.list_indices()}
        words = FTS(base_tokenizer="whitespace", max_token_length=80)
        wanted = {"_id": BTree()} | ({"_words": words} if self._about["words"] else {})
        made = False
        for column, config in wanted.items():
            name = there.get((column,))
            left = self._state.rows if name is None else (table.index_stats(name).num_unindexed_rows or 0)
            if self._state.rows >= (INDEXED if column == "_id" else 1) and left > self._state.rows / 10:
                table.create_index(column, config=config, replace=True)
                made = True
        return made

    def _nearer(self) -> dict[str, Json]:
        """The approximate indexes of all spaces, made or grown where that is worth it."""
        held, found = self._snapshot(), {}
        for at, name in enumerate(self.spaces):
            alive, vectors, old = held.alive[at], held.vectors[at], held.near.get(at)
            if alive.sum() < near.WORTH:
                continue
            if old is None or alive.sum() > near.GROWN * old.made.rows:
                new = near.make(vectors, alive, near.sample(held.vectors, alive, at))
            elif alive[old.made.upto :].sum() > near.TAIL:
                new = near.grown(Near.open(self.folder, old.made), vectors, alive)
            else:
                found[name] = old.made._asdict()
                continue
            file = f"near-{at}-{held.state.generation}-{held.state.serial}.faiss"
            found[name] = near.save(new, self.folder, file)._asdict()
        return found

    def _renumber(self) -> None:
        """Write all rows anew, numbered without gaps: one version of the table, new files beside it."""
        now, table = self._state, self._table()
        fresh, schema = now._replace(generation=now.generation + 1, serial=now.rows, near={}), schema_of(self._about)

        def batches() -> Iterator[pa.RecordBatch]:
            serial = 0
            for batch in table.search().select(schema.names).to_batches(batch_size=4096):
                for at in range(len(self.spaces)):
                    self._flat(at, fresh).write(serial, _matrix(batch[f"v{at}"], self.width))
                place = batch.schema.get_field_index("_n")
                numbers = pa.array(np.arange(serial, serial + len(batch)), pa.int64())
                serial += len(batch)
                yield batch.set_column(place, schema.field("_n"), numbers)

        source = pa.RecordBatchReader.from_batches(schema, batches())
        new = _connect(self.folder).create_table("rows", source, schema=schema, mode="overwrite")
        self._publish(new, serial=fresh.serial, generation=fresh.generation, near={})

    def _sweep(self) -> None:
        """Clear away files in `near` that do not count."""
        now = self._state
        ours = {one["file"] for one in now.near.values()}
        ours |= {self._flat(at, now).path.name for at in range(len(self.spaces))}
        for path in (self.folder / state.NEAR).glob("*"):
            if path.name not in ours:
                path.unlink(missing_ok=True)


def _connect(folder: Path) -> Any:
    os.environ.setdefault("LANCEDB_LOG", "error")  # it would warn of tables that are new
    need("lancedb", "an index in a folder", "index")
    import lancedb

    return lancedb.connect(folder)


def schema_of(about: dict[str, Json]) -> pa.Schema:
    """The columns of the table: our own begin with `_`; v0 … are vectors, c0 … kept columns, p0 … small pictures."""
    vector = pa.list_(pa.float32(), int(about["width"]))
    fields = [("_id", pa.string()), ("_n", pa.int64()), ("_digest", pa.int64()), ("_has", pa.int64()),
              ("_words", pa.string()), *((f"v{at}", vector) for at in range(len(about["spaces"]))),
              *((f"c{at}", TYPES[c["type"]]) for at, c in enumerate(about["columns"])),
              *((f"p{at}", pa.binary()) for at in range(len(about["pictures"])))]  # fmt: skip
    return pa.schema(fields)


def _matrix(column: Any, width: int) -> np.ndarray:
    """Vectors [n, E]; zeros where there is none."""
    found = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    out = np.zeros((len(found), width), np.float32)
    out[found.is_valid().to_numpy(zero_copy_only=False)] = found.flatten().to_numpy().reshape(-1, width)
    return out


def _match(words: list[str]) -> Any:
    from lancedb.query import MatchQuery

    query: Any = MatchQuery
    return query(" ".join(words), "_words")


def _conditions(ids: Sequence[str]) -> Iterator[str]:
    for start in range(0, len(ids), NAMES):
        listed = ", ".join(filters.literal(one) for one in ids[start : start + NAMES])
        yield f"_id IN ({listed})"


def _kept(cell: Json, kind: str) -> Any:
    return json.dumps(cell, ensure_ascii=False) if kind == "json" and cell is not None else cell


def _shown(cell: Any, kind: str) -> Json:
    return json.loads(cell) if kind == "json" and cell is not None else cell


class _Writing:
    """What LanceDB says of a disk that refuses, as an error for people."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError | RuntimeError) and "No space" in str(error):
            raise RunError(str(self.folder), "cannot be written: no space left", advice=state.KEPT) from None
