"""What `polymodal index` and `polymodal search` do; `load` opens a run."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from polymodal.core.errors import UserError, shorten
from polymodal.core.schema import Json
from polymodal.data.splits import cell_names
from polymodal.data.tables import open_table
from polymodal.serve.index.build import delete_rows
from polymodal.serve.index.hits import Hit, Query
from polymodal.serve.index.index import Index, open_index
from polymodal.serve.index.searcher import Searcher, input_of, run_of

SHOWN = 60  # characters of a cell


def index(options: Namespace, load: Callable[[], Any]) -> dict[str, Json]:
    """Take rows out, or put a table's rows in; what was done."""
    done: dict[str, Json] = {}
    if options.delete is not None:
        gone, left = delete_rows(options.out, _ids(options.delete, open_index(options.out)))
        done = {"deleted": gone, "count": left}
        print(f"{options.out}: {gone} rows taken out; the index holds {left}", file=sys.stderr)
    if options.table is None:
        if options.delete is None:
            raise UserError("TABLE", "is needed", advice="polymodal index run rows.csv --out index")
        return done
    run = load()
    keep = None if options.keep is None else [name.strip() for name in options.keep.split(",") if name.strip()]
    told = run.index(options.table, out=options.out, key=options.key, of=options.of, keep=keep, prune=options.prune,
                     on_bad=options.on_bad, ray=options.ray, shards=options.shards, quiet=options.quiet)  # fmt: skip
    print(f"{options.out}: {told.text()}", file=sys.stderr)
    return {**done, **told._asdict()}


def _ids(given: str, index: Index) -> list[str]:
    """Of a table's column of keys, or as they are listed."""
    if not Path(given).is_file():
        return [one.strip() for one in given.split(",") if one.strip()]
    table, key = open_table(given), index.about["key"]
    if key is None:
        raise UserError("--delete", "the index has no key that a table could name rows by", given=given,
                        advice="--delete with ids, 3,17,20")  # fmt: skip
    table.need([key], "--delete")
    return [one for one in cell_names(table, key).tolist() if one]


def search(options: Namespace, load: Callable[[Path], Any]) -> dict[str, Json]:
    """What was found, as plain JSON; as text it goes to standard output unless `options.json`."""
    index = open_index(options.index)
    asks = bool(options.query or options.ask)
    run = load(run_of(index, options.run)) if asks else None
    searcher = Searcher(run, index)
    found = searcher.search(_queries(options, run), k=options.k, where=options.where, words=options.having,
                            like=options.like, unlike=options.unlike, offset=options.offset, exact=options.exact,
                            space=options.space)  # fmt: skip
    if not options.json:
        print(text(found))
    return {"count": len(index), "hits": [hit._asdict() for hit in found]}


def _queries(options: Namespace, run: Any) -> list[Query]:
    asked = [(input_of(run, what), what) for what in options.query]
    for one in options.ask:
        name, _, what = one.partition("=")
        if not what:
            raise UserError("--ask", "needs NAME=WHAT", given=one, advice="picture=cat.jpg")
        asked.append((name, what))
    weights = [*options.weight, *[1.0] * len(asked)]
    if len(options.weight) > len(asked):
        raise UserError("--weight", f"{len(options.weight)} weights for {len(asked)} queries",
                        advice="one for each query, in their order")  # fmt: skip
    return [Query(name, what, weight) for (name, what), weight in zip(asked, weights, strict=False)]


def text(found: list[Hit]) -> str:
    """A line for each row: its score, its id, and what the index keeps of it."""
    width = max((len(hit.id) for hit in found), default=0)
    lines = [f"{hit.score:8.4f}  {hit.id:<{width}}  {_cells(hit)}" for hit in found]
    return "\n".join(lines) if lines else "nothing was found"


def _cells(hit: Hit) -> str:
    there = {name: cell for name, cell in hit.row.items() if cell is not None}
    return "  ".join(f"{name}={shorten(cell, SHOWN)}" for name, cell in there.items())
