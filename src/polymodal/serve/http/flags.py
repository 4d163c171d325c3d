"""The command line of `polymodal serve`: a flag for every setting. Free of heavy imports."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from polymodal.serve.http.settings import ServeSettings, read_keys

NUMBERS: dict[str, tuple[str, str]] = {
    "batch": ("N", "rows that the model answers at once"),
    "wait_ms": ("MS", "how long a row waits for others when the model is idle"),
    "queue": ("N", "rows that may wait; beyond it 503"),
    "streams": ("N", "answers said token by token at once; beyond it 503"),
    "threads": ("N", "threads of torch in each worker (its own choice)"),
    "timeout": ("S", "seconds a request may wait for its answer"),
    "slow": ("S", "seconds a client may take to send its headers, or its body"),
    "connections": ("N", "open at once in each worker"),
    "body_mb": ("MB", "of a request"),
    "bodies_mb": ("MB", "of all requests at once"),
    "rows": ("N", "rows in a request"),
    "pixels": ("N", "pixels of a picture"),
    "seconds": ("S", "of a sound or a clip"),
    "text": ("N", "characters in a cell"),
    "tokens": ("N", "that a sentence may have"),
    "beams": ("N", "that a search for a sentence may have"),
    "hits": ("N", "that a search of the index may ask for"),
    "rate": ("N", "requests a second of one token, or one address (0: any number)"),
    "burst": ("N", "requests that may come at once before the rate counts"),
    "log_mb": ("MB", "that the log may hold"),
    "drain": ("S", "seconds between being told to stop and refusing connections"),
}
SAID = {"wait_ms": "--wait", "connections": "--max-connections", "body_mb": "--max-body", "bodies_mb": "--max-bodies",
        "rows": "--max-rows", "pixels": "--max-pixels", "seconds": "--max-seconds", "text": "--max-text",
        "tokens": "--max-tokens", "beams": "--max-beams", "hits": "--max-hits"}  # fmt: skip


def add_flags(command: ArgumentParser) -> None:
    """Every flag, with its default."""
    command.add_argument("run", metavar="RUN", help="the run folder")
    command.add_argument("index", nargs="?", metavar="INDEX", help="an index of it, to be searched")
    command.add_argument("--host", default="127.0.0.1", help="address to listen at (127.0.0.1; 0.0.0.0 for all)")
    command.add_argument("--port", type=int, default=8000, help="port to listen at (8000)")
    command.add_argument("--workers", type=int, default=1, metavar="N", help="processes that share the port (1)")
    command.add_argument("--token-file", metavar="FILE", help="bearer tokens, one a line; also POLYMODAL_TOKENS")
    command.add_argument("--origin", action="append", default=[], metavar="URL",
                         help="a page of another host that may ask (repeatable)")  # fmt: skip
    command.add_argument("--log", metavar="FOLDER", help="keep what was served there: `polymodal log` reads it")
    command.add_argument("--access-log", metavar="FILE", help="a line for every request (standard error), or `none`")
    command.add_argument("--trust", action="store_true", help="allow parts named by a dotted path (their code is run)")
    limits = command.add_argument_group("batches and limits")
    plain = ServeSettings()
    for name, (unit, about) in NUMBERS.items():
        default: Any = getattr(plain, name)
        kind = float if isinstance(default, float) else int
        told = about if default is None else f"{about} ({default:g})" if kind is float else f"{about} ({default})"
        limits.add_argument(SAID.get(name, f"--{name.replace('_', '-')}"), dest=name, type=kind, default=default,
                            metavar=unit, help=told)  # fmt: skip


def settings_of(options: Namespace) -> ServeSettings:
    """The settings that the flags say. Raises UserError."""
    numbers = {name: getattr(options, name) for name in NUMBERS}
    return ServeSettings(**numbers, keys=read_keys(options.token_file), origins=tuple(options.origin), log=options.log,
                         access_log=options.access_log).check()  # fmt: skip
