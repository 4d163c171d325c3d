"""The run folder: all or nothing, tied weights once, every altered byte noticed, later formats refused."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from polymodal.core.errors import RunError
from polymodal.work import folder as folders


def test_tensors_round_trip_with_tied_weights(tmp_path: Path) -> None:
    shared = torch.randn(3, 4)
    tensors = {"a": shared, "b": shared, "c": torch.arange(5), "empty": torch.zeros(0, 2), "empty2": torch.zeros(0, 2)}
    digest = folders.write_tensors(tmp_path / "x.safetensors", tensors)
    found = folders.read_tensors(tmp_path / "x.safetensors", digest)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[k], v) for k, v in tensors.items())
    assert (tmp_path / "x.safetensors").stat().st_size < 2 * shared.numel() * 4 + 400  # stored once


def test_the_same_tensors_give_the_same_bytes(tmp_path: Path) -> None:
    tensors = {f"layer.{i}": torch.full((2,), float(i)) for i in range(20)}
    assert folders.write_tensors(tmp_path / "a", tensors) == folders.write_tensors(tmp_path / "b", dict(tensors))


@pytest.mark.parametrize("place", [0, 9, -1])
def test_one_altered_byte_is_noticed(tmp_path: Path, place: int) -> None:
    path = tmp_path / "w.safetensors"
    digest = folders.write_tensors(path, {"a": torch.randn(4)})
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(RunError, match="sha256"):
        folders.read_tensors(path, digest)


def test_a_full_disk_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.json"
    folders.write_json(path, {"epoch": 1})

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="No space left") as error:
        folders.write_json(path, {"epoch": 2})
    assert "free some space" in error.value.advice
    monkeypatch.undo()
    assert folders.read_json(path) == {"epoch": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["state.json"]


def test_manifests(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such run folder"):
        folders.manifest(tmp_path / "none")
    with pytest.raises(RunError, match="is no run folder"):
        folders.manifest(tmp_path)
    (tmp_path / "spec.yaml").write_text("a: 1\n")
    with pytest.raises(RunError, match="not finished"):
        folders.manifest(tmp_path)
    folders.seal(tmp_path, ["spec.yaml"])
    assert folders.manifest(tmp_path)["format"] == 1
    folders.write_json(tmp_path / "run.json", {"format": 99, "files": {}, "polymodal": "9.0"})
    with pytest.raises(RunError, match="another format"):
        folders.manifest(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(RunError, match="no JSON"):
        folders.manifest(tmp_path)


def test_tensors_that_cannot_be_written_leave_the_older_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights.safetensors"
    digest = folders.write_tensors(path, {"w": torch.ones(2)})
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()

    def full(*_: object, **__: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(folders, "save_file", full)
    with pytest.raises(RunError, match="No space left on device"):
        folders.write_tensors(path, {"w": torch.zeros(2)})
    assert folders.read_tensors(path, digest)["w"].tolist() == [1.0, 1.0]
    assert [p.name for p in tmp_path.iterdir()] == ["weights.safetensors"]


def test_columns_of_texts_are_kept_as_they_are(tmp_path: Path) -> None:
    columns = {
        "said": np.array(["a dog", "", "狗 🐕"]),
        "references": np.array([["a", "bc"], ["", "d"]]),
        "numbers": np.arange(3.0),
        "none": np.array([], np.str_),
        "blank": np.array(["", ""]),
    }
    folders.write_tensors(tmp_path / "x.safetensors", dict(folders.as_tensor(n, c) for n, c in columns.items()))
    found = dict(folders.as_column(n, t) for n, t in folders.read_tensors(tmp_path / "x.safetensors").items())
    assert found.keys() == columns.keys()
    for name, column in columns.items():
        np.testing.assert_array_equal(found[name], column)
