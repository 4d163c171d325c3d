"""The log of served predictions: JSON lines, and their files by content, in a folder of bounded size."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import threading
import time
from pathlib import Path
from typing import Any

from polymodal.core.errors import saving
from polymodal.serve.http.bodies import Cells
from polymodal.serve.http.gate import stamp
from polymodal.serve.http.problems import finite
from polymodal.work.predict import Line

PIECE = 16 << 20  # bytes of lines in one file
WAITING = 1000  # predictions that wait to be written; what comes then is dropped, and counted
KINDS = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpg", b"GIF8": "gif", b"BM": "bmp", b"fLaC": "flac", b"OggS": "ogg",
         b"ID3": "mp3", b"\xff\xfb": "mp3", b"\x93NUM": "npy"}  # fmt: skip


class Journal:
    """Writes in a thread of its own, `FOLDER/predictions-*.jsonl` and `FOLDER/files/SHA256.ending`.

    A line: `time`, `id` of the request, `n`, the row's number in it, `row`, column -> cell, a file as its path in the
    folder, `files`, the columns that are files, `answers`, as `predict` gives them, and `error`. Beyond `most` bytes
    the oldest lines go, and files that no later line used.
    """

    def __init__(self, folder: Path, most: int, dropped: Any) -> None:
        self.folder, self.most, self.dropped = folder, most, dropped
        with saving(folder):
            (folder / "files").mkdir(parents=True, exist_ok=True)
        self.waiting: queue.Queue[list[dict[str, Any]] | None] = queue.Queue(WAITING)
        self.file: Any = None
        self.written = self.since = 0
        self.thread = threading.Thread(target=self._work, name="journal", daemon=True)
        self.thread.start()

    def note(self, id: str, rows: list[Cells], lines: list[Line]) -> None:
        """Returns at once."""
        told = [{"time": stamp(), "id": id, "n": at, "row": row, "answers": line}
                for at, (row, line) in enumerate(zip(rows, lines, strict=True))]  # fmt: skip
        try:
            self.waiting.put_nowait(told)
        except queue.Full:
            self.dropped.inc(len(rows))

    def close(self) -> None:
        """All that waits is written."""
        self.waiting.put(None)
        self.thread.join(30)

    def _work(self) -> None:
        while (told := self.waiting.get()) is not None:
            try:
                for line in told:
                    self._write(line)
                self.file.flush()
            except OSError:  # the disk is full, or the folder gone: serving goes on
                self.dropped.inc(len(told))
                self._let_go()
        self._let_go()

    def _write(self, line: dict[str, Any]) -> None:
        row, files = {}, []
        for column, cell in line["row"].items():
            row[column] = self._stored(cell) if isinstance(cell, bytes) else cell
            files += [column] if isinstance(cell, bytes) else []
        answers = {k: v for k, v in line["answers"].items() if k not in ("row", "error", "reason")}
        plain = {**line, "row": row, "files": files, "answers": answers, "error": line["answers"]["error"]}
        text = json.dumps(finite(plain)) + "\n"
        if self.file is None or self.written > PIECE:
            self._turn()
        self.file.write(text)
        self.written += len(text)
        self.since += len(text)
        if self.since > max(1 << 16, self.most // 20):
            self._prune()

    def _stored(self, cell: bytes) -> str:
        """Written once, whole or not at all; a file that is there is marked as used now."""
        name = f"files/{hashlib.sha256(cell).hexdigest()}.{ending(cell)}"
        place = self.folder / name
        try:
            os.utime(place)
        except FileNotFoundError:
            fresh = place.with_name(f".{place.name}.{os.getpid()}")
            fresh.write_bytes(cell)
            os.replace(fresh, place)
            self.since += len(cell)
        return name

    def _turn(self) -> None:
        """A new file of lines."""
        self._let_go()
        now = time.time()
        began = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}-{int(now % 1 * 1e6):06d}"
        name = f"predictions-{began}-{os.getpid()}.jsonl"
        self.file = open(self.folder / name, "a", encoding="utf-8")  # noqa: SIM115  until the next one
        self.written = 0

    def _let_go(self) -> None:
        if self.file is not None:
            with contextlib.suppress(OSError):
                self.file.close()
            self.file = None

    def _prune(self) -> None:
        """The oldest lines and files go until the rest fits."""
        self.since = 0
        pieces = sorted(self.folder.glob("predictions-*.jsonl"))
        sizes = {p: _size(p) for p in [*pieces, *(self.folder / "files").iterdir()]}
        total = sum(sizes.values())
        if total > self.most and len(pieces) < 2:
            self._turn()
        current = None if self.file is None else Path(self.file.name)
        for piece in pieces:
            if total <= self.most:
                return
            if piece == current:
                continue
            oldest = _changed(piece)
            total -= _gone(piece, sizes)
            for file in [f for f in sizes if f.parent.name == "files" and f.exists() and _changed(f) <= oldest]:
                total -= _gone(file, sizes)


def ending(cell: bytes) -> str:
    """What a file is, by its first bytes; for people and tables, readers look themselves."""
    if cell[:4] == b"RIFF":
        return {b"WAVE": "wav", b"WEBP": "webp", b"AVI ": "avi"}.get(cell[8:12], "bin")
    if cell[4:8] == b"ftyp":
        return "mp4"
    return next((name for start, name in KINDS.items() if cell.startswith(start)), "bin")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _gone(path: Path, sizes: dict[Path, int]) -> int:
    with contextlib.suppress(OSError):
        path.unlink()
    return sizes[path]
