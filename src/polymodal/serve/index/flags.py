"""The command line of `polymodal index` and `polymodal search`. Free of heavy imports."""

from __future__ import annotations

from argparse import ArgumentParser


def add_index_flags(command: ArgumentParser) -> None:
    command.add_argument("run", metavar="RUN", help="the run folder; with --delete, nothing else is done with it")
    command.add_argument("table", metavar="TABLE", nargs="?", help="the rows: CSV, JSONL, Parquet, ...")
    command.add_argument("--out", required=True, metavar="INDEX", help="a folder, or qdrant://HOST:PORT/NAME")
    command.add_argument("--key", metavar="COLUMN", help="names the rows (their number in the table)")
    command.add_argument("--of", action="append", default=[], metavar="INPUT",
                         help="what is embedded; all that the run can when not given (repeatable)")  # fmt: skip
    command.add_argument("--keep", metavar="A,B,…", help="columns to filter by and to show (all of text and numbers)")
    command.add_argument("--delete", metavar="TABLE|ID,…", help="take rows out: a table with the key's column, or ids")
    command.add_argument("--prune", action="store_true", help="take out rows that TABLE has no more")
    command.add_argument("--on-bad", choices=["fail", "skip", "missing"], help="what happens to rows with bad cells")
    command.add_argument("--ray", nargs="?", const="local", metavar="ADDRESS",
                         help="embed on the machines of a Ray cluster (on this one)")  # fmt: skip
    command.add_argument("--shards", type=int, metavar="N", help="with --ray: workers that embed (one a core)")
    command.add_argument("--trust", action="store_true", help="allow parts named by a dotted path (their code is run)")
    command.add_argument("--json", action="store_true", help="print one JSON object")
    command.add_argument("--quiet", action="store_true")


def add_search_flags(command: ArgumentParser) -> None:
    command.add_argument("index", metavar="INDEX", help="a folder, or qdrant://HOST:PORT/NAME")
    command.add_argument("query", nargs="*", metavar="QUERY", help="text, or a picture or sound by its path")
    command.add_argument("--ask", action="append", default=[], metavar="NAME=WHAT", help="for this input (repeatable)")
    command.add_argument("--weight", action="append", default=[], type=float, metavar="W",
                         help="of each query in turn (1); below 0: unlike it (repeatable)")  # fmt: skip
    command.add_argument("--like", action="append", default=[], metavar="ID", help="like this row (repeatable)")
    command.add_argument("--unlike", action="append", default=[], metavar="ID", help="less like this row (repeatable)")
    command.add_argument(
        "--words", dest="having", metavar="TEXT", help="rows with these words, joined with what is like it"
    )
    command.add_argument("--where", metavar="FILTER", help="only rows that pass: \"price < 50 and brand = 'x'\"")
    command.add_argument("--in", dest="space", metavar="INPUT", help="what of the rows is compared (the index's first)")
    command.add_argument("-k", type=int, default=10, help="rows to find (10)")
    command.add_argument("--offset", type=int, default=0, metavar="N", help="after the first N (0)")
    command.add_argument("--exact", action="store_true", help="compare with every row")
    command.add_argument("--run", metavar="RUN", help="where the run of the index is now")
    command.add_argument("--trust", action="store_true", help="allow parts named by a dotted path (their code is run)")
    command.add_argument("--json", action="store_true", help="print one JSON object")
