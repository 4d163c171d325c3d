"""Tables against the csv module, pandas, json and pyarrow; bad files against what a person should be told."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymodal.core.errors import SpecError, TableError
from polymodal.data import delimited, lines, spill
from polymodal.data.tables import Table, open_table

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


def cells(table: Table) -> list[list[object]]:
    return [[table.cell(r, c) for c in table.columns] for r in range(len(table))]


def put(folder: Path, name: str, data: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(TEXT, min_size=1, max_size=4), min_size=1, max_size=8), st.sampled_from([",", "\t"]))
def test_csv_is_what_the_csv_module_reads(tmp_path_factory: pytest.TempPathFactory, rows: list, delimiter: str) -> None:
    """Any text, odd characters and ragged rows included: the same records, ragged ones broken and in their place."""
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter).writerows([["a", "b", "c"], *rows])
    path = tmp_path_factory.mktemp("t") / ("t.csv" if delimiter == "," else "t.tsv")
    path.write_bytes(out.getvalue().encode())
    table = open_table(path)
    expected = [r for r in csv.reader(io.StringIO(out.getvalue(), newline=""), delimiter=delimiter) if r][1:]
    assert len(table) == len(expected)
    for number, record in enumerate(expected):
        ragged = len(record) != 3
        assert (number in table.broken) == ragged
        assert [table.cell(number, c) for c in "abc"] == ([None] * 3 if ragged else [t or None for t in record])
    for at, name in enumerate("abc"):
        assert table.column(name) == [row[at] for row in cells(table)]


def test_csv_as_pandas_reads_it(tmp_path: Path) -> None:
    text = '\ufeffname,"a ""q""",n\r\n"x\r\ny",中文,1\r\n\r\n,"1,5",\r\n'
    table = open_table(put(tmp_path, "t.csv", text))
    frame = pd.read_csv(tmp_path / "t.csv", dtype=str, encoding="utf-8-sig")
    assert table.columns == list(frame.columns)
    assert cells(table) == [[None if v is None or v != v else v for v in row] for row in frame.values.tolist()]
    assert table.root == tmp_path
    assert not table.broken


@pytest.mark.parametrize("rows", [delimited.CHUNK - 1, delimited.CHUNK, delimited.CHUNK + 1])
def test_csv_across_chunks(tmp_path: Path, rows: int) -> None:
    body = "".join(f"{i},é{i}\n" for i in range(rows))
    data = f"a,b\n{body}1,2,3\n".encode() + b"1,\xff\n"
    table = open_table(put(tmp_path, "t.csv.gz", gzip.compress(data, 1)))
    assert len(table) == rows + 2
    assert table.cell(rows - 1, "b") == f"é{rows - 1}"
    assert sorted(table.broken) == [rows, rows + 1]


def test_an_undecodable_row_is_broken_and_keeps_its_place(tmp_path: Path) -> None:
    table = open_table(put(tmp_path, "t.csv", b"a,b\n1,x\n2,\xff\n3,\xc3\xa9\n"))
    assert cells(table) == [["1", "x"], [None, None], ["3", "é"]]
    assert "0xff" in table.broken[1]


def test_another_encoding_is_named_by_line_and_byte(tmp_path: Path) -> None:
    path = put(tmp_path, "t.csv", "a,b\nx,caf\u00e9\ny,\u00fcber\n".encode("latin-1"))
    with pytest.raises(TableError, match=r"line 2, byte 6: is not utf-8") as caught:
        open_table(path)
    assert "0xe9" in str(caught.value)
    assert "data.encoding" in str(caught.value)
    assert cells(open_table(path, encoding="latin-1")) == [["x", "café"], ["y", "über"]]


@pytest.mark.parametrize("encoding", ["gb18030", "utf-16", "shift_jis", "big5"])
def test_other_encodings(tmp_path: Path, encoding: str) -> None:
    path = put(tmp_path, "t.csv", 'a,b\n"中,文",1\n日本,2\n'.encode(encoding))
    assert cells(open_table(path, encoding=encoding)) == [["中,文", "1"], ["日本", "2"]]
    with pytest.raises(TableError, match=r"data\.encoding"):
        open_table(path)


def test_unknown_encoding(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="is not known"):
        open_table(put(tmp_path, "t.csv", "a\n1\n"), encoding="utf-99")


def test_an_open_quote_swallows_no_rows(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="line 3: a quote that opens here is never closed"):
        open_table(put(tmp_path, "t.csv", 'a,b\n1,x\n2,"y\n3,z\n4,w\n'))
    table = open_table(put(tmp_path, "u.csv", 'a,b\n1,x\n2,"cut o'))
    assert cells(table) == [["1", "x"], [None, None]]
    assert table.broken == {1: "a quote is never closed"}
    assert cells(open_table(put(tmp_path, "v.csv", 'a,b\n1,5" pipe\n'))) == [["1", '5" pipe']]


def test_a_long_cell(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    assert len(open_table(put(tmp_path, "t.csv", f"a,b\n1,{'x' * 200_000}\n")).cell(0, "b")) == 200_000  # type: ignore[arg-type]
    assert csv.field_size_limit() == before


BAD_FILES = {
    "empty.csv": (b"", "is empty"),
    "rows.csv": (b"a,b\n", "has no rows"),
    "blank.csv": (b"\na,b\n1,2\n", "no header"),
    "numbers.csv": (b"1,2\n3,4\n", "no header"),
    "twice.csv": (b"a,b,a\n1,2,3\n", "two columns have one name"),
    "cut.csv.gz": (gzip.compress(bytes(range(32, 127)) * 2)[:40], "gzip"),
    "no.csv.gz": (b"a,b\n1,2\n", "gzip"),
    "empty.jsonl": (b"", "is empty"),
    "lists.jsonl": (b"[1]\n[2]\n", "no line is a JSON object"),
    "junk.parquet": (b"PAR1junk", "cannot be read as Parquet"),
    "t.xlsx": (b"PK", "no table has this ending"),
    "noending": (b"a", "no table has this ending"),
    "x-images-idx3-ubyte": (b"\x00\x00\x08\x03\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00\x00\x01\x07", "1 bytes long"),
    "y-images-idx3-ubyte": (b"\x89PNG1234", "wrong magic number"),
    "z-images-idx3-ubyte.gz": (gzip.compress(b"\x00\x00\x08\x03\x00")[:-9], "cannot be read"),
    "h-images-idx3-ubyte": (b"\x00\x00\x08\x03\x00\x00", "ends within its header"),
    "e-images-idx3-ubyte": (b"", "wrong magic number"),
    "l-labels-idx1-ubyte": (b"\x00\x00\x08\x01\x00\x00\x00\x01\x05", "holds labels"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_say_what_is_wrong(tmp_path: Path, name: str) -> None:
    data, problem = BAD_FILES[name]
    path = put(tmp_path, name, data)
    with pytest.raises(TableError, match=problem) as caught:
        open_table(path)
    assert name in str(caught.value)


def test_missing_file_and_empty_folders(tmp_path: Path) -> None:
    put(tmp_path, "train.csv", "a\n1\n")
    with pytest.raises(TableError, match=r"no such file\n  try:   'train.csv'"):
        open_table(tmp_path / "trian.csv")
    with pytest.raises(TableError, match="no such file"):
        open_table(tmp_path / "nowhere" / "x.csv")
    with pytest.raises(TableError, match="no class folders"):
        open_table(tmp_path)
    (tmp_path / "cats").mkdir()
    with pytest.raises(TableError, match="cats: is a class folder without files"):
        open_table(tmp_path)


def test_class_folders(tmp_path: Path) -> None:
    for name in ("dog/b.png", "cat/2.png", "cat/1.png", "cat/.hidden", ".git/x"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        put(tmp_path, name, "x")
    table = open_table(tmp_path)
    assert cells(table) == [["cat/1.png", "cat"], ["cat/2.png", "cat"], ["dog/b.png", "dog"]]
    assert table.root == tmp_path


@pytest.mark.parametrize("chunk", [2, 100])
def test_jsonl_is_what_json_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(lines, "CHUNK", chunk)
    rows = [
        {"t": "中", "n": 1, "mix": 1, "f": 1.5, "b": True, "big": 1},
        {"t": "", "n": None, "mix": "1", "l": ["a", 1], "big": 2**70},
        {"t": "c", "n": 3, "mix": 1.0, "d": {"x": [1]}, "f": math.nan},
        {"late": 7, "mix": None, "l": []},
    ]
    put(tmp_path, "t.jsonl", "\n".join(json.dumps(r, ensure_ascii=False) for r in rows) + "\n\n")
    table = open_table(tmp_path / "t.jsonl")
    assert table.columns == ["t", "n", "mix", "f", "b", "big", "l", "d", "late"]
    for name in table.columns:
        wanted = [r.get(name) for r in rows]
        wanted = [None if w == "" or w != w else w for w in wanted]
        assert table.column(name) == wanted == [table.cell(i, name) for i in range(4)]
        assert [type(c) for c in table.column(name)] == [type(w) for w in wanted]


def test_jsonl_with_broken_lines(tmp_path: Path) -> None:
    data = b'{"a": 1}\n{"a": 2\n[3]\n{"a": "\xff"}\n{"a": "\\ud800"}\n' + b"[" * 100_000 + b"\n" + b'{"a": 5}\n'
    table = open_table(put(tmp_path, "t.ndjson", data))
    assert table.column("a") == [1, None, None, None, None, None, 5]
    reasons = ["is no valid JSON", "is no JSON object", "0xff", "half a character", "nested"]
    assert list(table.broken) == [1, 2, 3, 4, 5]
    for found, wanted in zip(table.broken.values(), reasons, strict=True):
        assert wanted in found


@pytest.mark.parametrize("limit", [-1, 1 << 28])
def test_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """In memory and on disk alike, over several row groups."""
    monkeypatch.setattr(spill, "IN_MEMORY", limit)
    on_disk: list[spill.BlockColumn] = []
    real = spill.BlockColumn.__init__
    monkeypatch.setattr(spill.BlockColumn, "__init__", lambda self, on: (on_disk.append(self), real(self, on))[1])
    made = pa.table({
        "image": [{"bytes": b"12", "path": None}, {"bytes": None, "path": "x.png"}, None],
        "a.b": pa.array(["x", "", None]).dictionary_encode(),
        "a": pa.array([1.5, math.nan, None]),
        "day": pa.array([0, None, 1], pa.date32()),
        "time": pa.array([0, None, 1_500_000_000], pa.timestamp("s")),
        "price": pa.array([Decimal("125.00"), None, Decimal("-5.00")]),
        "list": [["a", "b"], [], None],
    })  # fmt: skip
    pq.write_table(made, tmp_path / "t.parquet", row_group_size=1)
    table = open_table(tmp_path / "t.parquet")
    assert table.columns == made.column_names
    assert table.column("image") == [b"12", "x.png", None]
    assert table.column("a.b") == ["x", None, None]
    assert table.column("a") == [1.5, None, None]
    assert table.column("day") == ["1970-01-01", None, "1970-01-02"]
    assert table.column("time") == ["1970-01-01T00:00:00", None, "2017-07-14T02:40:00"]
    assert table.column("price") == [125.0, None, -5.0]
    assert table.column("list") == [["a", "b"], [], None]
    assert cells(table) == [[table.column(c)[r] for c in table.columns] for r in range(3)]
    assert len(on_disk) == (7 if limit < 0 else 0)


def test_parquet_reads_only_what_is_asked_for(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1, 2], "b": ["x" * 5000, "y" * 5000]}), tmp_path / "t.parquet", compression="none")
    table = open_table(tmp_path / "t.parquet")
    assert table.column("a") == [1, 2]
    data = bytearray((tmp_path / "t.parquet").read_bytes())
    page = pq.read_metadata(tmp_path / "t.parquet").row_group(0).column(1).dictionary_page_offset
    data[page : page + 8] = b"\xff" * 8
    table = open_table(put(tmp_path, "broken.parquet", bytes(data)))
    assert table.column("a") == [1, 2]
    with pytest.raises(TableError, match=r"broken\.parquet: cannot be read as Parquet"):
        table.column("b")


def test_memory_sources_agree() -> None:
    values = {"t": ["a", "", None], "n": [1, 2, 3], "f": [0.5, math.nan, None], "b": [True, False, None]}
    rows = [{k: v[i] for k, v in values.items()} for i in range(3)]
    frame = pd.DataFrame(values)
    frame["n"] = frame["n"].astype("Int64")
    sources = [values, rows, pa.table(values), pd.DataFrame(values, dtype=object), frame]
    for source in sources:
        table = open_table(source)
        assert table.columns == list("tnfb")
        assert cells(table) == [["a", 1, 0.5, True], [None, 2, None, False], [None, 3, None, None]], type(source)
        assert table.root is None


def test_frames_hold_anything() -> None:
    arrays = [np.zeros((2, 2), np.uint8), np.ones((3, 1), np.float32)]
    frame = pd.DataFrame({
        "array": arrays, "path": [Path("a/b.png"), None], "day": pd.to_datetime(["2024-01-02", None]),
        "kind": pd.Categorical(["x", None]), "mixed": [1, "1"], "lists": [["a"], []],
    }, index=[5, 5])  # fmt: skip
    table = open_table(frame, root="here")
    assert all(table.cell(i, "array") is a for i, a in enumerate(arrays))
    assert table.column("path") == ["a/b.png", None]
    assert table.column("day") == ["2024-01-02T00:00:00", None]
    assert table.column("kind") == ["x", None]
    assert table.column("mixed") == [1, "1"]
    assert table.column("lists") == [["a"], []]
    assert table.root == Path("here")


def test_a_stack_of_arrays_is_a_column() -> None:
    stack = np.arange(24, dtype=np.uint8).reshape(3, 2, 4)
    table = open_table({"image": stack, "y": np.array([1, 2, 3])})
    assert np.array_equal(table.cell(1, "image"), stack[1])
    assert table.cell(2, "y") == 3
    assert type(table.cell(2, "y")) is int


@pytest.mark.parametrize("source", [{}, [], {"a": []}, {"a": [1], "b": [1, 2]}, 3, pd.DataFrame({"a": []})])
def test_bad_memory(source: object) -> None:
    with pytest.raises(TableError):
        open_table(source)


def test_idx(tmp_path: Path, real_data: Path) -> None:
    table = open_table(real_data / "mnist" / "t10k-images-idx3-ubyte.gz")
    assert (len(table), table.columns) == (10000, ["image", "label"])
    raw = gzip.decompress((real_data / "mnist" / "t10k-images-idx3-ubyte.gz").read_bytes())
    last = np.frombuffer(raw[-784:], np.uint8).reshape(28, 28)
    assert np.array_equal(table.cell(9999, "image"), last)
    assert [table.cell(i, "label") for i in range(5)] == [7, 2, 1, 0, 4]  # as everybody knows them


def test_idx_unpacked_and_without_labels(tmp_path: Path) -> None:
    pixels = np.arange(12, dtype=np.uint8)
    put(tmp_path, "a-images-idx3-ubyte", b"\0\0\x08\x03\0\0\0\x02\0\0\0\x02\0\0\0\x03" + pixels.tobytes())
    table = open_table(tmp_path / "a-images-idx3-ubyte")
    assert table.columns == ["image"]
    assert np.array_equal(table.cell(1, "image"), pixels.reshape(2, 2, 3)[1])
    put(tmp_path, "a-labels-idx1-ubyte.gz", gzip.compress(b"\0\0\x08\x01\0\0\0\x03abc"))
    with pytest.raises(TableError, match="beside 2 pictures"):
        open_table(tmp_path / "a-images-idx3-ubyte")
    put(tmp_path, "b-images-idx3-ubyte", b"\0\0\x0c\x02\0\0\0\x02\0\0\0\x01" + np.array([1, -2], ">i4").tobytes())
    assert open_table(tmp_path / "b-images-idx3-ubyte").cell(1, "image").tolist() == [-2]  # type: ignore[attr-defined]


def test_need_names_the_nearest() -> None:
    table = open_table({"photo": ["x"], "label": ["y"]})
    table.need(["photo", "label"], "inputs")
    with pytest.raises(TableError, match=r"inputs\.p\.column: no column of this name(.|\n)*'photo'"):
        table.need(["foto"], "inputs.p.column")
