"""What of an index on disk counts: written last, whole or not at all; whatever came after it never was.

A commit writes files, makes them last through a loss of power, and then replaces `index.json`, which says up to where
they count. A process that is killed, or a machine that loses its power, leaves files that no `index.json` names.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from polymodal.core.errors import RunError, UserError
from polymodal.core.schema import Json
from polymodal.work.folder import read_json, sync_folder, write_json

FORMAT = 1
NAME, LOCK, TABLE, NEAR, LEDGER = "index.json", "lock", "rows.lance", "near", "ledger.jsonl"
KEPT = "free some space: what was written before counts, and the same command goes on from there"


class State(NamedTuple):
    """Up to where the files of an index count."""

    version: int  # of the LanceDB table
    serial: int = 0  # the number of the next row that is written; every row has its own, and none is used twice
    rows: int = 0
    generation: int = 0  # of the files in `near`; a new one when all rows were written anew
    near: dict[str, Json] = {}  # noqa: RUF012  by space: what `near.Made` says of the approximate index


def load(folder: Path) -> tuple[dict[str, Json], State]:
    """What the index is, and its state. Raises RunError for a folder that is none."""
    if not (folder / NAME).is_file():
        problem = "is no index" if folder.is_dir() else "no such index"
        raise RunError(str(folder), problem, advice=f"polymodal index RUN TABLE --out {folder}")
    plain = read_json(folder / NAME)
    if not isinstance(plain, dict) or not isinstance(plain.get("about"), dict) or "state" not in plain:
        raise RunError(str(folder / NAME), "does not describe an index", advice="take a copy of the index")
    own = plain["state"] if plain.get("format") == FORMAT else None
    if not isinstance(own, dict) or not set(own) <= set(State._fields) or "version" not in own:
        raise RunError(str(folder), "the index has another format", given=plain.get("format"),
                       advice="the version of polymodal that wrote it, or index the table anew")  # fmt: skip
    return plain["about"], State(**own)


def save(folder: Path, about: dict[str, Json], state: State) -> None:
    write_json(folder / NAME, {"format": FORMAT, "about": about, "state": state._asdict()})


class Synced:
    """Files under a folder that will last through a loss of power: every new one is told to the disk once."""

    def __init__(self, folder: Path, known: bool = True) -> None:
        self.folder = folder
        self.known = set(_files(folder)) if known else set()

    def sync(self) -> None:
        """All files that are new since, and the folders that hold them."""
        fresh = [path for path in _files(self.folder) if path not in self.known]
        for path in fresh:
            _flush(path)
        for parent in {up for path in fresh for up in _up_to(path, self.folder)}:
            sync_folder(Path(parent))
        self.known.update(fresh)


def _files(folder: Path) -> Iterator[str]:
    for place, _, names in os.walk(folder):
        yield from (os.path.join(place, name) for name in names)


def _up_to(path: str, folder: Path) -> Iterator[str]:
    place, top = os.path.dirname(path), str(folder.parent)
    while len(place) >= len(top):
        yield place
        place = os.path.dirname(place)


def _flush(path: str) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Only one process writes. Raises UserError while another one does; the lock ends with its process."""
    handle = _lock(folder)
    if handle is None:
        raise UserError(str(folder), "another process is writing this index", advice="wait until it is done")
    try:
        yield
    finally:
        os.close(handle)


def _lock(folder: Path) -> int | None:
    """A handle that holds the lock; None when another process holds it."""
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # a system without it: there two writers are not kept apart
        return handle
    except OSError:
        os.close(handle)
        return None
    return handle


def beyond(table: Path, version: int) -> list[Path]:
    """The manifests of versions of a LanceDB table that are newer than the one that counts.

    A manifest is named by its version, counted down from 2^64 - 1 so that the newest is listed first.
    """
    found = []
    for path in (table / "_versions").glob("*.manifest"):
        number = path.name.removesuffix(".manifest")
        if number.isdigit():
            own = (1 << 64) - 1 - int(number) if len(number) == 20 else int(number)
            found += [path] if own > version else []
    return found


def roll_back(folder: Path, state: State) -> None:
    """Take away what was begun after `state`, and never counted; the caller holds the lock."""
    newer = beyond(folder / TABLE, state.version)
    for path in newer:
        path.unlink()
    if newer:
        sync_folder(folder / TABLE / "_versions")


def mend(folder: Path, state: State) -> None:
    """As `roll_back`, for readers: only where there is something to mend, nobody writes, and the folder lets us."""
    try:
        if beyond(folder / TABLE, state.version) and (handle := _lock(folder)) is not None:
            try:
                roll_back(folder, load(folder)[1])
            finally:
                os.close(handle)
    except PermissionError:
        return
    except OSError as error:
        if error.errno != errno.EROFS:
            raise


def stamp(folder: Path) -> Any:
    """Changes when `index.json` does."""
    found = os.stat(folder / NAME)
    return found.st_mtime_ns, found.st_ino, found.st_size
