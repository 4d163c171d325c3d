"""An index in a Qdrant collection, for a cluster: the same rows, filters and searches; Qdrant makes it fast and safe.

A row is a point, named by a digest of its id, so that writing it twice is writing it once. Words are a sparse vector
that Qdrant weighs by their rarity, which comes to BM25 with lengths compared to LENGTH. What the index is stands in a
collection of its own beside it, `NAME-about`.
"""

from __future__ import annotations

import base64
import json
import os
import re
import uuid
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from polymodal.core.catalog import need
from polymodal.core.errors import RunError, UserError
from polymodal.core.schema import Json
from polymodal.data.cells import digest
from polymodal.data.digests import Digests
from polymodal.serve.index.filters import WHERE, All, Any_, Filter, Is, Not
from polymodal.serve.index.place import Found, Gone, Key, Rows

ADDRESS = re.compile(r"qdrant(s?)://([^/:]+)(?::(\d+))?/([A-Za-z0-9_-]{1,200})")
KEY = "QDRANT_API_KEY"  # in the environment
OURS = uuid.UUID("6f1d3b7e-64a5-5e0e-9a3e-5f0c5b1c8a11")
AT_ONCE = 256  # points in a request
EXACT = 1 << 53  # below it floats, by which Qdrant orders numbers, hold every whole number
SATURATES, BY_LENGTH, LENGTH = 1.2, 0.75, 32  # BM25's k1 and b, and a usual number of words


class QdrantPlace:
    """An index in the collection `name` of a Qdrant client."""

    def __init__(self, client: Any, name: str) -> None:
        self.client, self.name = client, name
        self.local = type(client._client).__name__ == "QdrantLocal"  # in this process: nothing is indexed there
        self._about = self._read_about()
        self.columns: dict[str, str] = {c["name"]: c["type"] for c in self._about["columns"]}
        self.stored = {column: f"c{at}" for at, column in enumerate(self.columns)}
        self.width = int(self._about["width"])

    @classmethod
    def open(cls, address: str, about: Mapping[str, Json] | None = None) -> QdrantPlace:
        """At `qdrant://host:port/name` (`qdrants://` over TLS); made, with `about`, when it is not there yet."""
        found = ADDRESS.fullmatch(address)
        if found is None:
            raise UserError("INDEX", "is no address of a Qdrant collection", given=address,
                            advice="qdrant://localhost:6333/products")  # fmt: skip
        need("qdrant_client", "an index in Qdrant", "index")
        from qdrant_client import QdrantClient

        secure, host, port, name = found.groups()
        client = QdrantClient(url=f"http{secure}://{host}:{port or 6333}", api_key=os.environ.get(KEY), timeout=60,
                              check_compatibility=False)  # fmt: skip
        with _Asking(address):
            if about is not None and not client.collection_exists(f"{name}-about"):
                return cls.create(client, name, about)
            return cls(client, name)

    @classmethod
    def create(cls, client: Any, name: str, about: Mapping[str, Json]) -> QdrantPlace:
        """A new, empty index; it counts when what it is has been written, last."""
        from qdrant_client import models

        if client.collection_exists(name):
            client.delete_collection(name)
        cosine = models.VectorParams(size=int(about["width"]), distance=models.Distance.COSINE)
        client.create_collection(
            name, vectors_config={f"v{at}": cosine for at in range(len(about["spaces"]))},
            sparse_vectors_config={"words": models.SparseVectorParams(modifier=models.Modifier.IDF)},
        )  # fmt: skip
        one = models.VectorParams(size=1, distance=models.Distance.DOT)
        client.create_collection(f"{name}-about", vectors_config=one)
        whole = json.dumps(dict(about), ensure_ascii=False)
        client.upsert(f"{name}-about", [models.PointStruct(id=0, vector=[1.0], payload={"about": whole})], wait=True)
        return cls(client, name)

    def _read_about(self) -> dict[str, Json]:
        there = self.client.collection_exists(f"{self.name}-about")
        found = self.client.retrieve(f"{self.name}-about", [0]) if there else []
        if not found:
            raise RunError(f"qdrant: {self.name}", "no such index", advice="polymodal index RUN TABLE --out ADDRESS")
        return json.loads(found[0].payload["about"])

    @property
    def about(self) -> dict[str, Json]:
        return {**self._about, "count": self.client.count(self.name, exact=True).count}

    def nearest(self, space: int, vector: Float[np.ndarray, " E"], k: int, wanted: Filter | None, *,
                exact: bool = False) -> list[Found]:  # fmt: skip
        """See `Place`."""
        from qdrant_client import models

        found = self.client.query_points(self.name, query=vector.tolist(), using=f"v{space}", limit=k,
                                         query_filter=self._filter(wanted), with_payload=False,
                                         search_params=models.SearchParams(exact=True) if exact and not self.local
                                         else None)  # fmt: skip
        return [Found(str(one.id), float(one.score)) for one in found.points]

    def worded(self, words: list[str], k: int, wanted: Filter | None) -> list[Found]:
        """See `Place`."""
        from qdrant_client import models

        if not words:
            return []
        said = list(dict.fromkeys(map(_word, words)))
        query = models.SparseVector(indices=said, values=[1.0] * len(said))
        found = self.client.query_points(self.name, query=query, using="words", limit=k,
                                         query_filter=self._filter(wanted), with_payload=False)  # fmt: skip
        return [Found(str(one.id), float(one.score)) for one in found.points]

    def some(self, k: int, wanted: Filter | None) -> list[Key]:
        """See `Place`; in the order of the points' names."""
        found, _ = self.client.scroll(self.name, self._filter(wanted), limit=k, with_payload=False)
        return [str(one.id) for one in found]

    def keys(self, ids: Sequence[str]) -> list[Key | None]:
        """See `Place`."""
        points = [_point(one) for one in ids]
        there = {str(p.id) for some in _cut(points) for p in self.client.retrieve(self.name, some, with_payload=False)}
        return [point if point in there else None for point in points]

    def shown(self, keys: Sequence[Key]) -> list[tuple[str, dict[str, Json]]]:
        """See `Place`."""
        found = self._payloads(keys, ["id", *self.stored.values()])
        return [(one["id"], {name: self._cell(one.get(c), name) for name, c in self.stored.items()}) for one in found]

    def _cell(self, cell: Any, name: str) -> Json:
        return json.loads(cell) if self.columns[name] == "json" and cell is not None else cell

    def _payloads(self, keys: Sequence[Key], wanted: list[str]) -> list[dict[str, Any]]:
        found = {str(p.id): p.payload or {} for some in _cut(list(keys))
                 for p in self.client.retrieve(self.name, some, with_payload=wanted)}  # fmt: skip
        if any(key not in found for key in keys):
            raise Gone
        return [found[str(key)] for key in keys]

    def vectors(self, keys: Sequence[Key], space: int) -> Float[np.ndarray, "n E"]:
        """See `Place`."""
        out, place = np.zeros((len(keys), self.width), np.float32), {key: at for at, key in enumerate(keys)}
        for some in _cut(list(keys)):
            for point in self.client.retrieve(self.name, some, with_payload=False, with_vectors=[f"v{space}"]):
                own = (point.vector or {}).get(f"v{space}")
                if own is not None:
                    out[place[str(point.id)]] = own
        return out

    def preview(self, key: Key, picture: int) -> bytes | None:
        """See `Place`."""
        found = self._payloads([key], [f"p{picture}"])[0].get(f"p{picture}")
        return None if found is None else base64.b64decode(found)

    def ids(self) -> Iterator[str]:
        """See `Place`."""
        return (payload["id"] for payload in self._all(["id"]))

    def known(self) -> Digests:
        """See `Place`."""
        found = Digests()
        for payload in self._all(["id", "digest"]):
            found.add(digest(payload["id"]), int(payload["digest"]))
        return found

    def _all(self, wanted: list[str]) -> Iterator[dict[str, Any]]:
        begin: Any = None
        while True:
            found, begin = self.client.scroll(self.name, limit=1000, offset=begin, with_payload=wanted)
            yield from (one.payload for one in found)
            if begin is None:
                return

    def put(self, rows: Rows, *, fresh: bool) -> None:
        """See `Place`."""
        for some in _cut(list(range(len(rows.ids)))):
            self.client.upsert(self.name, [self._made(rows, at) for at in some], wait=True)

    def _made(self, rows: Rows, at: int) -> Any:
        from qdrant_client import models

        payload = {"id": rows.ids[at], "digest": int(rows.digests[at])}
        for (name, column), cells in zip(self.stored.items(), rows.cells, strict=True):
            cell = cells[at]
            if cell is not None:
                payload[column] = json.dumps(cell, ensure_ascii=False) if self.columns[name] == "json" else cell
        for number, pictures in enumerate(rows.previews):
            picture = pictures[at]
            if picture is not None:
                payload[f"p{number}"] = base64.b64encode(picture).decode()
        vector: dict[str, Any] = {f"v{n}": own[at].tolist() for n, own in enumerate(rows.vectors) if own[at].any()}
        vector["words"] = models.SparseVector(**_weighed(rows.words[at]))
        return models.PointStruct(id=_point(rows.ids[at]), vector=vector, payload=payload)

    def delete(self, ids: Sequence[str]) -> int:
        """See `Place`."""
        there = [key for key in self.keys(ids) if key is not None]
        there = list(dict.fromkeys(there))
        for some in _cut(there):
            self.client.delete(self.name, some, wait=True)
        return len(there)

    def finish(self) -> None:
        """Qdrant indexes by itself; columns are told to it, so that filters are fast."""
        kinds = {"text": "keyword", "integer": "integer", "number": "float", "boolean": "bool"}
        for name, kind in self.columns.items():
            if kind in kinds and not self.local:
                self.client.create_payload_index(self.name, self.stored[name], kinds[kind], wait=True)

    def _filter(self, wanted: Filter | None) -> Any:
        from qdrant_client import models

        return None if wanted is None else models.Filter(must=[self._condition(wanted)])

    def _condition(self, wanted: Filter) -> Any:
        from qdrant_client import models

        if isinstance(wanted, Not):
            return models.Filter(must_not=[self._condition(wanted.inner)])
        if isinstance(wanted, All | Any_):
            parts = [self._condition(part) for part in wanted.parts]
            return models.Filter(must=parts) if isinstance(wanted, All) else models.Filter(should=parts)
        return self._test(wanted)

    def _test(self, wanted: Is) -> Any:
        from qdrant_client import models

        column, kind = self.stored[wanted.column], self.columns[wanted.column]
        missing = models.IsEmptyCondition(is_empty=models.PayloadField(key=column))
        if wanted.sign == "missing":
            return missing
        if wanted.sign == "!=":
            return models.Filter(must_not=[missing, self._test(Is(wanted.column, "=", wanted.values))])
        if wanted.sign in ("=", "in"):
            return models.Filter(should=[_equal(column, kind, value) for value in wanted.values])
        if kind == "text":
            raise UserError(WHERE, "texts cannot be compared by order in Qdrant", given=wanted.column,
                            advice=f"{wanted.column} = '…', or a column of numbers")  # fmt: skip
        edge, value = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}[wanted.sign], float(wanted.values[0])
        if kind == "integer" and abs(value) >= EXACT:
            raise UserError(WHERE, "whole numbers from 2^53 on cannot be compared by order in Qdrant",
                            given=wanted.values[0], advice="a smaller number")  # fmt: skip
        return models.FieldCondition(key=column, range=models.Range(**{edge: value}))


def _equal(column: str, kind: str, value: Any) -> Any:
    from qdrant_client import models

    whole = isinstance(value, int | str) or float(value).is_integer()
    if kind == "number" or not whole:
        return models.FieldCondition(key=column, range=models.Range(gte=float(value), lte=float(value)))
    value = int(value) if kind == "integer" else value
    return models.FieldCondition(key=column, match=models.MatchValue(value=value))


def _point(id: str) -> str:
    return str(uuid.uuid5(OURS, id))


def _word(word: str) -> int:
    return zlib.crc32(word.encode("utf-8", "surrogatepass"))


def _weighed(words: str) -> dict[str, list]:
    """The words of a row as a sparse vector: how much each says, without its rarity."""
    counts = Counter(map(_word, words.split()))
    longer = SATURATES * (1 - BY_LENGTH + BY_LENGTH * sum(counts.values()) / LENGTH)
    return {"indices": list(counts), "values": [n * (SATURATES + 1) / (n + longer) for n in counts.values()]}


def _cut(listed: list[Any]) -> Iterator[list[Any]]:
    return (listed[at : at + AT_ONCE] for at in range(0, len(listed), AT_ONCE))


class _Asking:
    """A server that is not there or says no, as an error for people."""

    def __init__(self, address: str) -> None:
        self.address = address

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: object) -> None:
        if error is not None and type(error).__module__.startswith("qdrant_client"):
            raise UserError(self.address, f"Qdrant cannot be asked: {str(error).splitlines()[0]}",
                            advice=f"is it running there? a key stands in {KEY}") from None  # fmt: skip
