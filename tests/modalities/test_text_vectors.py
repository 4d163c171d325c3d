"""Word vectors: files made by hand, with and without a header, and every way a line can be wrong."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
import torch

from polymodal.core.errors import SpecError, TableError, UserError
from polymodal.modalities.text.embed import NOTE, WordVectors, note_vectors
from polymodal.modalities.text.encode import TextBag, TextGRU
from polymodal.modalities.text.read import TextReader
from polymodal.modalities.text.vectors import read_vectors, read_width

LINES = ["dog 1 2.5 -3e-1", "the 0.0 0 0", "狗 7 8 9", ". . . 4 5 6", "dog 9 9 9"]


def write(path, lines, header=None):
    path.write_text("\n".join(([header] if header else []) + lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("header", [None, "5 3"])
@pytest.mark.parametrize("ending", ["", " "])
def test_reads_both_forms(tmp_path, header, ending):
    path = write(tmp_path / "v.txt", [line + ending for line in LINES], header)
    assert read_width(path) == 3
    found = read_vectors(path, ["dog", "狗", ". . .", "5", "cat"])
    assert {w: v.tolist() for w, v in found.items()} == {
        "dog": [1.0, 2.5, np.float32(-0.3)], "狗": [7.0, 8.0, 9.0], ". . .": [4.0, 5.0, 6.0],
    }  # fmt: skip


def test_reads_gzip_and_tabs(tmp_path):
    path = tmp_path / "v.vec.gz"
    path.write_bytes(gzip.compress(b"2 2\na\t1\t2\nb 3 4\n"))
    assert {w: v.tolist() for w, v in read_vectors(path, "ab").items()} == {"a": [1.0, 2.0], "b": [3.0, 4.0]}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("cat 1 2", "is not a word and 3 numbers"),
        ("cat", "is not a word and 3 numbers"),
        ("5 3", "is not a word and 3 numbers"),
        ("cat 1 x 3", "holds something that is no number"),
        ("cat 1 nan 3", "holds a number that is not finite"),
        ("unasked 1 2", "is not a word and 3 numbers"),
    ],
)
def test_bad_lines_are_reported_by_number(tmp_path, line, problem):
    path = write(tmp_path / "v.txt", [*LINES, line])
    with pytest.raises(TableError, match=rf"v\.txt, line 6: {problem}"):
        read_vectors(path, ["cat", "dog"])


@pytest.mark.parametrize("content", ["", "\n", "word\n"])
def test_empty_files(tmp_path, content):
    path = tmp_path / "v.txt"
    path.write_text(content)
    with pytest.raises(TableError, match="line 1: holds no word vector"):
        read_width(path)


def test_no_file(tmp_path):
    with pytest.raises(TableError, match="cannot be read: No such file"):
        read_width(tmp_path / "none.txt")


def test_gzip_that_is_none(tmp_path):
    path = write(tmp_path / "v.gz", LINES)
    with pytest.raises(TableError, match="cannot be read"):
        read_vectors(path, ["dog"])


@pytest.fixture
def field():
    return TextReader(min_count=1).fit(["the dog 狗 cat"])


@pytest.mark.parametrize("make", [TextGRU, TextBag])
def test_training_starts_from_the_vectors_and_a_loaded_run_needs_no_file(tmp_path, field, make):
    path = write(tmp_path / "v.txt", LINES)
    settings, files = {"embeddings": str(path)}, tmp_path / "run" / "title"
    assert make.wants(settings, files) == {}
    encoder = make(field=field, files=files, **settings)
    before = encoder.words.table.weight.detach().clone()
    encoder.load_pretrained()
    after = dict(zip(["the", "dog", "狗", "cat"], encoder.words.table.weight[reader_ids(field)].tolist(), strict=True))
    assert after["dog"] == pytest.approx([1, 2.5, -0.3])
    assert after["狗"] == [7, 8, 9]
    cat = reader_ids(field)[3]
    torch.testing.assert_close(encoder.words.table.weight[cat], before[cat])
    assert not encoder.words.table.weight[0].any()
    path.unlink()
    assert make.wants(settings, files) == {}
    loaded = make(field=field, files=files, **settings)
    loaded.load_state_dict(encoder.state_dict())
    assert loaded.words.width == 3


def reader_ids(field) -> list[int]:
    reader = TextReader()
    reader.field = field
    return reader("the dog 狗 cat")["ids"].tolist()


def test_widths_must_agree(tmp_path, field):
    settings = {"embeddings": str(write(tmp_path / "v.txt", LINES))}
    note_vectors(settings, tmp_path)
    assert (tmp_path / NOTE).read_text() == '{"dim": 3}'
    with pytest.raises(SpecError, match="its vectors have 3 dimensions, not 64"):
        TextBag(field=field, files=tmp_path, width=64, **settings)


def test_vectors_of_another_language(tmp_path, field):
    words = WordVectors(field, None, 8, str(write(tmp_path / "v.txt", ["chien 1 2", "chat 3 4"])), None)
    with pytest.raises(UserError, match="has none of the 6 words of the training texts"):
        words.load()


def test_bytes_have_no_word_vectors(tmp_path):
    field = TextReader(tokenizer="bpe").fit(["a"])
    with pytest.raises(SpecError, match="word vectors need a tokenizer that cuts words"):
        WordVectors(field, None, 8, str(write(tmp_path / "v.txt", LINES)), None)
