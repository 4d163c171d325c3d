"""Archives: items of array files as cells; folders as cells; what is wrong with either."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymodal.core import npy
from polymodal.core.contracts import Archive
from polymodal.core.errors import BadCell, TableError
from polymodal.core.seeds import generator
from polymodal.data import archive as archives
from polymodal.data import arrays, cells
from polymodal.data.archive import Items, number_of
from polymodal.data.cache import Cache
from polymodal.data.cells import digest, natural, open_folder
from polymodal.data.check import inspect
from polymodal.data.dataset import Dataset, InputPlan
from polymodal.data.ledger import Ledger
from polymodal.data.loader import Loader
from polymodal.data.over_time import over_time
from polymodal.data.raw import RawCells
from polymodal.data.splits import Part
from polymodal.data.tables import open_table

LENGTHS = (3, 1, 4, 2)
EDGES = np.cumsum((0, *LENGTHS))
LONG = generator("archive").standard_normal((10, 2)).astype(np.float32)
BOX = np.arange(24, dtype=np.int16).reshape(4, 3, 2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.save(tmp_path / "box.npy", BOX)
    np.save(tmp_path / "fortran.npy", np.asfortranarray(BOX))
    np.save(tmp_path / "big_endian.npy", BOX.astype(">i2"))
    np.savez(tmp_path / "plain.npz", long=LONG, edges=EDGES, box=BOX)
    np.savez_compressed(tmp_path / "packed.npz", long=LONG, edges=EDGES, box=BOX)
    return tmp_path


@pytest.mark.parametrize("name", ["box.npy", "fortran.npy", "big_endian.npy", "plain.npz", "packed.npz"])
def test_items_of_one_length(folder: Path, name: str) -> None:
    items = Items(Archive(name, "box" if name.endswith("z") else None), folder)
    assert len(items) == 4
    for at in range(4):
        found = items[at]
        assert np.array_equal(found, BOX[at])
        assert found.dtype == BOX.dtype
        assert found.flags.c_contiguous
        assert type(found) is np.ndarray
        found[...] = 0  # a copy: the file keeps what it has
        assert np.array_equal(items[str(at)], BOX[at])


@pytest.mark.parametrize("name", ["plain.npz", "packed.npz"])
def test_items_between_offsets(folder: Path, name: str) -> None:
    items = Items(Archive(name, "long", "edges"), folder)
    assert len(items) == 4
    assert [len(items[at]) for at in range(4)] == list(LENGTHS)
    assert np.array_equal(np.concatenate([items[at] for at in range(4)]), LONG)


def test_what_is_not_packed_is_mapped(folder: Path) -> None:
    """No file of many gigabytes is read for one item, and no copy of a whole array is made."""
    for name, mapped in (("plain.npz", True), ("packed.npz", False)):
        found = arrays.open_array(folder / name, "long")
        base = found.base
        while base is not None and not isinstance(base, np.memmap):
            base = base.base if isinstance(base, np.ndarray) else None
        assert isinstance(base, np.memmap) == mapped
        assert not found.flags.writeable
        assert np.array_equal(found, LONG)


def test_tables_share_what_they_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    real = arrays.open_array
    monkeypatch.setattr(archives.arrays, "open_array", lambda *a, **k: (opened.append(a), real(*a, **k))[1])
    one, two = (Items(Archive("packed.npz", "long", "edges"), folder) for _ in range(2))
    assert np.array_equal(one[0], two[0])
    assert len(opened) == 2  # the array and its offsets, once
    np.savez_compressed(folder / "packed.npz", long=LONG + 1, edges=EDGES, more=BOX)
    assert np.array_equal(Items(Archive("packed.npz", "long", "edges"), folder)[0], LONG[:3] + 1)


def test_no_open_file_travels(folder: Path) -> None:
    np.savez(folder / "large.npz", x=np.ones((4, 5000)))
    items = Items(Archive("large.npz"), folder)
    first = items[2]
    small = pickle.dumps(items)
    assert len(small) < 1000
    assert np.array_equal(pickle.loads(small)[2], first)


@pytest.mark.parametrize(("cell", "number"), [(3, 3), ("3", 3), (" 3 ", 3), ("3.0", 3), (3.0, 3), ("007", 7)])
def test_numbers(cell: object, number: int) -> None:
    assert number_of(cell) == number


@pytest.mark.parametrize(
    ("cell", "said"),
    [("x", "no number"), ("3.5", "no number"), (3.5, "no number"), (True, "no number"), ("1e2", "no number"),
     (float("inf"), "no number"), ("٣", "no number"), ("9" * 5000, "no number"), ([1], "no number"),
     (-1, "negative"), ("-2", "negative"), (-1.0, "negative"), (4, "no item 4"), ("4", "no item 4"),
     (10**30, "no item")],
)  # fmt: skip
def test_cells_that_number_no_item(folder: Path, cell: object, said: str) -> None:
    with pytest.raises(BadCell, match=said):
        Items(Archive("box.npy"), folder)[cell]


@given(st.one_of(st.text(), st.integers(), st.floats(), st.none(), st.binary()))
@settings(max_examples=50, deadline=None)
def test_any_cell_is_a_number_or_bad(cell: object) -> None:
    with suppress(BadCell):
        assert number_of(cell) >= 0


def test_an_empty_or_huge_item_is_a_bad_cell(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(folder / "gap.npz", x=LONG, at=np.array([0, 4, 4, 10]))
    items = Items(Archive("gap.npz", "x", "at"), folder)
    with pytest.raises(BadCell, match="item 1 is empty"):
        items[1]
    monkeypatch.setattr(archives, "LARGEST", 40)
    assert items[0].nbytes == 32
    with pytest.raises(BadCell, match="larger than"):
        items[2]


def save(path: Path, **named: np.ndarray) -> None:
    np.savez(path, **named)


WRONG = [
    (Archive("gone.npz"), "no such file"),
    (Archive("words.npz"), "neither a .npy nor an .npz"),
    (Archive("."), "not a regular file"),
    (Archive("plain.npz"), "holds 3 arrays"),
    (Archive("plain.npz", "lnog", "edges"), "no array of this name"),
    (Archive("plain.npz", "long", "egdes"), "no array of this name"),
    (Archive("box.npy", "long"), "single array"),
    (Archive("box.npy", None, "edges"), "single array"),
    (Archive("line.npy"), "one axis"),
    (Archive("dot.npy"), "at least one axis"),
    (Archive("objects.npy"), "must hold numbers"),
    (Archive("objects.npz", "x"), "must hold numbers"),
    (Archive("objects_packed.npz", "x"), "must hold numbers"),
    (Archive("text.npy"), "must hold numbers"),
    (Archive("complex.npy"), "must hold numbers"),
    (Archive("records.npy"), "must hold numbers"),
    (Archive("cut.npy"), "cut off"),
    (Archive("cut.npz", "x"), "cannot be read"),
    (Archive("lies.npz", "x"), "cut off|cannot be read"),
    (Archive("falls.npz", "x", "at"), "offsets must rise; number 2"),
    (Archive("beyond.npz", "x", "at"), "outside of the array"),
    (Archive("below.npz", "x", "at"), "outside of the array"),
    (Archive("fractions.npz", "x", "at"), "whole numbers"),
    (Archive("square.npz", "x", "at"), "whole numbers"),
    (Archive("alone.npz", "x", "at"), "whole numbers"),
]


@pytest.fixture
def wrong(folder: Path) -> Path:
    (folder / "words.npz").write_text("no array")
    np.save(folder / "line.npy", np.arange(5.0))
    np.save(folder / "dot.npy", np.float64(1))
    np.save(folder / "objects.npy", np.array([[1, None]], object), allow_pickle=True)
    np.savez(folder / "objects.npz", x=np.array([[1, None]], object))
    np.savez_compressed(folder / "objects_packed.npz", x=np.array([[1, None]], object))
    np.save(folder / "text.npy", np.array([["a"]]))
    np.save(folder / "complex.npy", np.array([[1j]]))
    np.save(folder / "records.npy", np.zeros((2, 2), [("a", "f4")]))
    (folder / "cut.npy").write_bytes((folder / "box.npy").read_bytes()[:-1])
    (folder / "cut.npz").write_bytes((folder / "plain.npz").read_bytes()[:-30])
    save(folder / "falls.npz", x=LONG, at=np.array([0, 5, 4, 10]))
    save(folder / "beyond.npz", x=LONG, at=np.array([0, 5, 11]))
    save(folder / "below.npz", x=LONG, at=np.array([-1, 5, 10]))
    save(folder / "fractions.npz", x=LONG, at=np.array([0.0, 5.0]))
    save(folder / "square.npz", x=LONG, at=np.array([[0, 5]]))
    save(folder / "alone.npz", x=LONG, at=np.array([0]))
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 4)})
    with zipfile.ZipFile(folder / "lies.npz", "w", zipfile.ZIP_STORED) as file:
        file.writestr("x.npy", header.getvalue() + b"1234")
    return folder


@pytest.mark.parametrize(("archive", "said"), WRONG, ids=lambda x: str(x)[:40])
def test_archives_that_cannot_be_used(wrong: Path, archive: Archive, said: str) -> None:
    with pytest.raises(TableError, match=said) as error:
        Items(archive, wrong)[0]
    assert str(wrong) in error.value.where
    assert error.value.given is not None or error.value.advice


def test_a_packed_array_too_large_for_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told by its header, before anything is unpacked."""
    monkeypatch.setattr(arrays, "LARGEST", 50)
    with pytest.raises(TableError, match="larger than"):
        Items(Archive("packed.npz", "long", "edges"), folder)[0]
    assert len(Items(Archive("plain.npz", "long", "edges"), folder)[0]) == 3


@given(st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), min_size=1, max_size=6), st.integers(0, 700))
@settings(max_examples=60, deadline=None)
def test_spoilt_files_are_refused_in_words(tmp_path_factory: pytest.TempPathFactory, spots: list, end: int) -> None:
    folder = tmp_path_factory.mktemp("spoilt")
    for name, write in (("a.npy", np.save), ("b.npz", np.savez), ("c.npz", np.savez_compressed)):
        write(folder / name, LONG)
        content = bytearray((folder / name).read_bytes())
        for at, value in spots:
            content[at % len(content)] = value
        (folder / name).write_bytes(bytes(content[: max(end, 1)]))
        with suppress(TableError, BadCell):
            assert Items(Archive(name), folder)[0].size


@given(st.binary(max_size=60))
@settings(max_examples=60, deadline=None)
def test_headers_of_any_content(content: bytes) -> None:
    """A header of the right length with anything in it is an array or a ValueError, and is never executed."""
    whole = npy.MAGIC + b"\x01\x00" + struct.pack("<H", len(content)) + content
    with suppress(ValueError):
        assert npy.from_bytes(whole).dtype.kind in "biuf"


@pytest.mark.parametrize("array", [LONG, BOX, np.asfortranarray(BOX), np.zeros((0, 3)), np.array([True, False])])
def test_bytes_of_a_file(array: np.ndarray) -> None:
    memory = io.BytesIO()
    np.save(memory, array)
    found = npy.from_bytes(memory.getvalue())
    assert np.array_equal(found, array)
    assert found.dtype == array.dtype
    if array.size:
        with pytest.raises(ValueError, match="cut off"):
            npy.from_bytes(memory.getvalue()[:-1])


class Rows:
    """An item -> its rows; also arrays in the cells themselves."""

    files: ClassVar[bool] = True
    record: ClassVar[bool] = False
    ragged: ClassVar[frozenset[str]] = frozenset({"rows"})
    augments = False
    field: ClassVar[dict] = {}

    def __init__(self, archive: Archive | None) -> None:
        self.archive = archive

    def cost(self, cell: Any) -> int:
        assert isinstance(cell, np.ndarray)
        return len(cell)

    def decode(self, cell: Any) -> dict:
        assert isinstance(cell, np.ndarray)
        return {"rows": cell.astype(np.float32)}

    def finish(self, sample: dict, rng: object) -> dict:
        return sample

    def blank(self) -> dict:
        return {"rows": np.zeros((1, 2), np.float32)}


def dataset(folder: Path, archive: Archive, cache: Cache | None, **columns: list) -> Dataset:
    table = open_table(columns, root=folder)
    plan = {"x": InputPlan(Rows(archive), ("index",), cache is not None)}
    return Dataset(Part(table, np.arange(len(table))), plan, {}, ledger=Ledger(), cache=cache)


@pytest.mark.parametrize("name", ["plain.npz", "packed.npz"])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("cached", [False, True])
def test_a_dataset_of_items(folder: Path, name: str, workers: int, cached: bool) -> None:
    numbers: list[Any] = ["2", "0", None, "7", "2", "1", "x"]
    data = dataset(folder, Archive(name, "long", "edges"), Cache(1) if cached else None, index=numbers)
    assert data.costs().tolist() == [4, 3, 0, 0, 4, 1, 0]
    data.scan()
    bad = [(e.row, e.column, e.file, e.reason) for e in data.ledger]
    assert bad == [
        (3, "index", name, f"no item 7: {name} has 4, counted from 0"),
        (6, "index", name, "no number of an item: 'x'"),
    ]
    assert data.rows.tolist() == [0, 1, 2, 4, 5]
    seen = {}
    for step in Loader(data, batch=2, seed=0, shuffle=True, augment=False, workers=workers).epoch(0):
        batch, entries = step[0]
        assert batch is not None
        assert not entries
        for at, row in enumerate(batch.rows):
            place = int(batch.inputs["x"].index[at, 0])
            found = batch.inputs["x"].data
            seen[row.number] = None if place < 0 else found["rows"][place][found["rows_mask"][place]].numpy()
            if place >= 0:
                assert int(batch.inputs["x"].id[place]) == digest(
                    LONG[EDGES[int(numbers[row.number])] :][: len(seen[row.number])]
                )
    expected = {r: LONG[EDGES[int(n)] : EDGES[int(n) + 1]] if n else None for r, n in enumerate(numbers) if r in seen}
    assert sorted(seen) == [0, 1, 2, 4, 5]
    assert all((seen[r] is None) == (expected[r] is None) for r in seen)
    assert all(np.array_equal(seen[r], expected[r]) for r in seen if expected[r] is not None)


def test_a_bad_archive_ends_the_work(folder: Path) -> None:
    with pytest.raises(TableError, match="no such file"):
        dataset(folder, Archive("gone.npz"), None, index=[0, 1]).scan()


def test_arrays_may_stand_where_numbers_do(folder: Path) -> None:
    """What was trained on an archive answers rows that hold the arrays themselves."""
    data = dataset(folder, Archive("plain.npz", "long", "edges"), None, index=[LONG[:3], LONG[3:4]])
    batch, _ = data.load(np.array([0, 1]))
    assert batch is not None
    assert np.array_equal(batch.inputs["x"].data["rows"][0].numpy(), LONG[:3])


def test_numbers_of_items_are_never_accused(folder: Path) -> None:
    """Sorted by class, the numbers tell the class; but the model never sees them."""
    np.savez(folder / "many.npz", x=np.zeros((60, 2, 2), np.float32))
    labels = ["a"] * 30 + ["b"] * 30
    order = generator("mixed").integers(0, 60, 200)
    table = open_table({"number": order.tolist(), "letter": [labels[i] for i in order], "other": list("xy") * 100},
                       root=folder)  # fmt: skip
    plan = {"x": InputPlan(Rows(Archive("many.npz", "x")), ("number",), False)}
    found = inspect(table, inputs=plan, answers=["letter"])
    assert not found.giveaways
    assert [g.column for g in inspect(table, answers=["letter"]).giveaways] == ["number"]


class Several(Rows):
    """A folder of files -> how long they are."""

    folders = True

    def decode(self, cell: Any) -> dict:
        assert isinstance(cell, tuple)
        return {"rows": np.array([[len(part), part[0]] for part in cell], np.float32)}


def test_folders(tmp_path: Path) -> None:
    for name in ("clip10", "empty", "clip9"):
        (tmp_path / name).mkdir()
    for name in ("f10.x", "f9.x", "F2.x", ".hidden"):
        (tmp_path / "clip9" / name).write_bytes(name[1:].encode())
    (tmp_path / "clip9" / "inner").mkdir()
    (tmp_path / "clip10" / "1").write_bytes(b"1")
    assert open_folder("clip9", tmp_path) == (b"2.x", b"9.x", b"10.x")
    table = open_table({"clip": ["clip9", "clip10", "empty", "gone", "clip9"]}, root=tmp_path)
    plan = {"x": InputPlan(Several(None), ("clip",), False)}
    data = Dataset(Part(table, np.arange(5)), plan, {}, ledger=Ledger(), cache=None)
    data.scan()
    assert [(e.row, e.reason) for e in data.ledger] == [(2, "the folder holds no files"), (3, "file not found")]
    batch, _ = data.load(np.array([0, 1, 4]))
    assert batch is not None
    assert batch.inputs["x"].index.flatten().tolist() == [0, 1, 0]
    with pytest.raises(BadCell, match="is a folder, not a file"):
        RawCells(table, "x", Rows(None), ("clip",), target=False).opened("clip9")


def test_folders_have_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clip").mkdir()
    for at in range(5):
        (tmp_path / "clip" / f"{at}").write_bytes(b"12345678")
    monkeypatch.setattr(cells, "LARGEST", 39)
    with pytest.raises(BadCell, match="larger than"):
        open_folder("clip", tmp_path)
    monkeypatch.setattr(cells, "MOST", 4)
    with pytest.raises(BadCell, match="5 files; up to 4"):
        open_folder("clip", tmp_path)


@given(st.lists(st.text(st.characters(exclude_characters="/\x00", exclude_categories=["Cs"]), min_size=1), max_size=8))
@settings(max_examples=50, deadline=None)
def test_any_names_have_an_order(names: list[str]) -> None:
    paths = [Path(f"x{n}") for n in names]
    backwards = paths[::-1]
    assert sorted(paths, key=natural) == sorted(backwards, key=natural)


def test_natural_order() -> None:
    names = ["a10b", "a9b", "a09b", "A1b", "a1c", "b", "10", "9"]
    found = [p.name for p in sorted(map(Path, names), key=natural)]
    assert found == ["9", "10", "A1b", "a1c", "a09b", "a9b", "a10b", "b"]


def test_what_is_an_array_over_time(folder: Path) -> None:
    np.save(folder / "signal.npy", LONG)
    np.save(folder / "frames.npy", np.zeros((2, 8, 9), np.uint8))
    np.save(folder / "colours.npy", np.zeros((8, 9, 3), np.uint8))
    table = open_table({"x": [1]}, root=folder)

    def found(*cells: object) -> str:
        return over_time(table, cells)

    assert found("signal.npy", "signal.npy") == "series"
    assert found("frames.npy") == "clip"
    assert found("colours.npy") == ""
    assert found("signal.npy", "frames.npy") == ""
    assert found("gone.npy") == ""
    assert found("signal.npy", "a.txt") == ""
    assert found(LONG, LONG[:8]) == "series"
    assert found(LONG, LONG) == ""  # of one length: could be anything
    assert found([0.5] * 8, [1.0] * 9) == "series"
    assert found([1, 2] * 8, [1] * 9) == ""
    assert found([0.5], [0.5, 1.5]) == ""
    assert found(["a"] * 8, ["b"] * 9) == ""
    assert found([[0.5, None]] * 9, [[0.5, 1.0]] * 10) == "series"
    assert found(np.zeros((9, 80)) + 0.5, np.zeros((8, 80))) == ""  # as wide as a picture
