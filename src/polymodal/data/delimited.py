"""CSV and TSV: the records are those of Python's `csv` module; broken ones keep their place."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from polymodal.core.errors import SpecError, TableError
from polymodal.data.columns import Contents, check_names, texts
from polymodal.data.spill import ColumnPile, Spill

CHUNK = 8192  # rows that are turned into Arrow memory at once ...
CELLS, LETTERS = 1 << 17, 1 << 22  # ... or fewer, when they have so many cells or letters
LONGEST = 1 << 30  # characters in one cell


def read_delimited(path: Path, delimiter: str, encoding: str = "utf-8") -> Contents:
    """Text columns of a table with a header. Rows of the wrong length and undecodable ones are broken rows.

    Raises TableError for a file without a header or rows, in another encoding, or with a quote that is never closed.
    """
    kept: list[str] = []
    with open_text(path, encoding) as file, _long_cells():
        rows = csv.reader(_remember(file, kept), delimiter=delimiter)
        header = _header(path, next(rows, None))
        pile = _Pile(len(header))
        tail: list[str] = []
        start = end = rows.line_num
        for row in rows:
            if row:
                tail, start, end = kept.copy(), end + 1, rows.line_num
                pile.add(row)
            end = rows.line_num
            kept.clear()
        if _is_open(tail, delimiter):
            if len(tail) > 1:
                raise TableError(f"{path}, line {start}", "a quote that opens here is never closed",
                                 advice='close it, or write "" for a quote inside a quoted cell')  # fmt: skip
            pile.spoil("a quote is never closed")
    pile.flush()
    if pile.undecodable:
        check_encoding(path, encoding, pile.undecodable, pile.count)
    return Contents({n: column.done() for n, column in zip(header, pile.columns, strict=True)}, pile.broken)


class _Pile:
    """Rows on their way into Arrow memory."""

    def __init__(self, width: int) -> None:
        self.width, self.count, self.undecodable, self.letters = width, 0, 0, 0
        self.rows: list[list] = []
        spill = Spill()
        self.columns = [ColumnPile(spill) for _ in range(width)]
        self.broken: dict[int, str] = {}

    def add(self, row: list) -> None:
        if len(row) != self.width:
            self.broken[self.count] = f"has {len(row)} cells where the header has {self.width}"
            row = [None] * self.width
        else:
            self.letters += sum(map(len, row))
        self.rows.append(row)
        self.count += 1
        if len(self.rows) >= min(CHUNK, CELLS // self.width + 1) or self.letters > LETTERS:
            self.flush()

    def spoil(self, reason: str) -> None:
        """The last row is broken after all."""
        if self.rows:
            self.rows[-1] = [None] * self.width
        self.broken[self.count - 1] = reason

    def flush(self) -> None:
        try:
            self._put()
        except UnicodeEncodeError:
            first = self.count - len(self.rows)
            for number, row in enumerate(self.rows):
                reason = undecodable("".join(c for c in row if c))
                if reason:
                    self.undecodable += 1
                    self.broken[first + number] = reason
                    self.rows[number] = [None] * self.width
            self._put()
        self.rows, self.letters = [], 0

    def _put(self) -> None:
        made = [texts(cells) for cells in zip(*self.rows, strict=True)]
        for column, cells in zip(self.columns, made, strict=False):  # no rows make no cells
            column.append(cells)


def undecodable(text: str) -> str:
    """Why the text is broken when it holds bytes that were not of the encoding, else ''."""
    for letter in text:
        if "\udc80" <= letter <= "\udcff":
            return f"is not in the table's encoding (byte 0x{ord(letter) - 0xDC00:02x}); see data.encoding"
        if "\ud800" <= letter <= "\udfff":
            return "holds half a character (a lone surrogate)"
    return ""


def _header(path: Path, row: list[str] | None) -> list[str]:
    if not row:
        problem = "is empty" if row is None else "has no header: the first line is blank"
        raise TableError(str(path), problem, advice="the first line names the columns")
    if undecodable("".join(row)):
        raise TableError(f"{path}, line 1", undecodable("".join(row)), advice=_ENCODINGS)
    names = [name or f"column {n}" for n, name in enumerate(row, 1)]
    check_names(names, str(path))
    if all(_is_number(name) for name in row):
        raise TableError(str(path), "has no header: the first line holds numbers", given=",".join(row),
                         advice="put a line with the names of the columns before it")  # fmt: skip
    return names


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _remember(file: Iterable[str], kept: list[str]) -> Iterator[str]:
    for line in file:
        kept.append(line)
        yield line


def _is_open(lines: list[str], delimiter: str) -> bool:
    """Whether the record ends inside a quoted cell."""
    try:
        for _ in csv.reader(lines, delimiter=delimiter, strict=True):
            pass
    except csv.Error as error:
        return "end of data" in str(error)
    return False


@contextmanager
def _long_cells() -> Iterator[None]:
    before = csv.field_size_limit(LONGEST)
    try:
        yield
    finally:
        csv.field_size_limit(before)


_ENCODINGS = "data.encoding: gb18030 (Chinese), cp1252 or latin-1 (western Europe), utf-16, …; or save it as UTF-8"


@contextmanager
def open_text(path: Path, encoding: str, newline: str | None = "") -> Iterator[io.TextIOWrapper]:
    """The lines of a text file, unpacked if its name ends in .gz; undecodable bytes come as lone surrogates."""
    try:
        name = codecs.lookup(encoding).name
    except LookupError:
        raise SpecError("data.encoding", "is not known", given=encoding, advice=_ENCODINGS) from None
    name = "utf-8-sig" if name == "utf-8" else name
    try:
        raw: Any
        with open_bytes(path) as raw:
            yield io.TextIOWrapper(raw, name, errors="surrogateescape", newline=newline)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise TableError(str(path), f"is no whole gzip file: {error}", advice="fetch or pack it again") from None
    except UnicodeError as error:
        raise TableError(str(path), f"is not {encoding}: {error}", advice=_ENCODINGS) from None
    except OSError as error:
        raise TableError(str(path), f"cannot be read: {error.strerror}", advice="check the path") from None


def open_bytes(path: Path) -> io.BufferedIOBase:
    return gzip.GzipFile(path) if path.suffix == ".gz" else open(path, "rb")


def check_encoding(path: Path, encoding: str, bad: int, rows: int) -> None:
    """Raise TableError where not a few bytes but the whole file is in another encoding."""
    name, good, first = codecs.lookup(encoding).name, 0, (0, 0, 0)
    with open_bytes(path) as file:
        for number, line in enumerate(file, 1):
            try:
                good += not (line.isascii() or not line.decode(name))
            except UnicodeDecodeError as error:
                first = first if first[0] else (number, error.start + 1, line[error.start])
    if bad == rows or (bad > 1 and bad > good and bad * 100 > rows):
        where = f"{path}, line {first[0]}, byte {first[1]}"
        raise TableError(where, f"is not {encoding}", given=f"0x{first[2]:02x}", advice=_ENCODINGS)
