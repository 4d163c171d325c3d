"""The run folder: written atomically, hashed, free of code and of pickle; `format` says how to read it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from
from safetensors.torch import save_file
from torch import Tensor

from polymodal import __version__
from polymodal.core.errors import RunError, saving
from polymodal.core.schema import Json

FORMAT = 1
MANIFEST = "run.json"
TEXTS = "\x1ftexts"  # ends the name of a tensor that holds texts
KEPT = "free some space; what was saved before is kept, and `--resume` goes on from there"


def write_bytes(path: Path, data: bytes) -> str:
    """Write the whole file or nothing. Returns the sha256."""
    with _replacing(path) as fresh:
        fresh.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A new file beside `path` to be written, flushed to the disk and renamed at the end; gone if anything fails."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with saving(path, RunError, KEPT):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield fresh
            _flush(fresh, os.O_RDWR)
            os.replace(fresh, path)
            sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make a rename inside the folder last through a loss of power."""
    _flush(folder, os.O_RDONLY)


def _flush(path: Path, how: int) -> None:
    handle = os.open(path, how)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def digest(path: Path) -> str:
    """The sha256 of a file of any size."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Json) -> str:
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    return write_bytes(path, text.encode("utf-8", "backslashreplace"))  # a lone surrogate as JSON writes it: \udcff


def as_tensor(name: str, column: np.ndarray) -> tuple[str, Tensor]:
    """A column of records as a tensor; of texts their characters' numbers, under a name that says so."""
    whole = np.ascontiguousarray(column)
    if whole.dtype.kind != "U":
        return name, torch.from_numpy(whole)
    shape = (*whole.shape, whole.dtype.itemsize // 4)
    letters = whole.view(np.int32).reshape(shape) if whole.size else np.zeros(shape, np.int32)
    return name + TEXTS, torch.from_numpy(letters)


def as_column(name: str, tensor: Tensor) -> tuple[str, np.ndarray]:
    """What `as_tensor` was given."""
    if not name.endswith(TEXTS):
        return name, tensor.numpy()
    letters = np.ascontiguousarray(tensor.numpy())
    return name.removesuffix(TEXTS), letters.view(f"<U{letters.shape[-1]}")[..., 0]


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Tensors as safetensors; those that share their memory (tied weights) are stored once, the others as aliases."""
    first: dict[tuple, str] = {}
    aliases, stored = {}, {}
    for name, tensor in tensors.items():
        place = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
        original = first.setdefault(place, name) if tensor.numel() else name
        if original == name:
            stored[name] = tensor.detach().cpu().contiguous()
        else:
            aliases[name] = original
    with _replacing(path) as fresh:
        try:
            save_file(stored, fresh, metadata={"aliases": json.dumps(aliases, sort_keys=True)})
        except SafetensorError as error:
            raise OSError(str(error)) from None
        found = digest(fresh)
    return found


def read_tensors(path: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """What `write_tensors` wrote. Raises RunError when it is damaged or not what the manifest says."""
    data = read_bytes(path, sha256)
    try:
        tensors = tensors_from(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except (SafetensorError, ValueError):
        raise RunError(str(path), "is no safetensors file, or a damaged one", advice="take a copy of the run") from None
    aliases = json.loads(header.get("__metadata__", {}).get("aliases", "{}"))
    return tensors | {name: tensors[original] for name, original in aliases.items()}


def read_bytes(path: Path, sha256: str | None = None) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RunError(str(path), f"cannot be read: {error.strerror}", advice="check the run folder") from None
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        advice = "the file was changed or damaged after the run was saved: take a copy of the run, or train again"
        raise RunError(str(path), "is not the file that was saved (sha256 differs)", advice=advice)
    return data


def read_json(path: Path, sha256: str | None = None) -> Json:
    try:
        return json.loads(read_bytes(path, sha256))
    except ValueError as error:
        raise RunError(str(path), f"is no JSON: {error}", advice="take a copy of the run") from None


def seal(folder: Path, files: Iterable[str], kind: Mapping[str, Json] | None = None) -> None:
    """Write the manifest: with it the folder is a finished run, and every listed file is vouched for by its sha256."""
    hashes = {name: digest(folder / name) for name in sorted(files)}
    write_json(folder / MANIFEST, {"format": FORMAT, "polymodal": __version__, **(kind or {}), "files": hashes})


def manifest(folder: Path) -> dict[str, Json]:
    """The manifest of a finished run. Raises RunError for a folder that is none, unfinished, or of a later format."""
    where = str(folder)
    if not folder.is_dir():
        raise RunError(where, "no such run folder", advice="check the path; `polymodal train SPEC --out RUN` makes one")
    if not (folder / MANIFEST).is_file():
        begun = (folder / "checkpoints").is_dir() or (folder / "spec.yaml").is_file()
        advice = f"polymodal train --out {where} --resume" if begun else "name the folder given to `train --out`"
        raise RunError(where, "the run is not finished" if begun else "is no run folder", advice=advice)
    found = read_json(folder / MANIFEST)
    files = found.get("files") if isinstance(found, dict) else None
    if not isinstance(files, dict) or not all(isinstance(digest, str) for digest in files.values()):
        raise RunError(f"{where}/{MANIFEST}", "is no manifest of a run", advice="take a copy of the run")
    if found.get("format") != FORMAT:
        advice = f"this version reads format {FORMAT}: install the version that wrote it, {found.get('polymodal')!r}"
        raise RunError(where, "the run has another format", given=found.get("format"), advice=advice)
    return found
