"""Run folders and files that are not as they should be, and disks that fill up: exit code 2, and nothing is lost."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from endtoend import Shell, Trained, make_rows, read_answers, same_answer, spec, write_spec, write_table
from polymodal.core import yaml12


@pytest.fixture
def run(trained: Trained, tmp_path: Path) -> Path:
    """A copy of the run, to be spoilt."""
    return Path(shutil.copytree(trained.run, tmp_path / "copy"))


def refused(shell: Shell, trained: Trained, run: Path) -> str:
    """What predict and evaluate say, which must be the same; nothing is written."""
    table, out = trained.folder / "rows.csv", run.parent / "answers.csv"
    told = {shell.fails("predict", run, table, "--out", out), shell.fails("evaluate", run, table, "--json")}
    assert len(told) == 1
    assert not out.exists()
    return told.pop()


def altered(path: Path) -> None:
    """One bit in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["weights.safetensors", "readers.json", "spec.yaml"])
@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (altered, "sha256 differs"),
        (lambda p: p.write_bytes(b""), "sha256 differs"),
        (lambda p: p.write_bytes(p.read_bytes() + b"\n"), "sha256 differs"),
        (Path.unlink, "cannot be read: No such file"),
    ],
    ids=["one bit", "empty", "one byte more", "gone"],
)
def test_a_file_of_the_run_was_changed(
    trained: Trained, shell: Shell, run: Path, name: str, spoil: Callable[[Path], None], problem: str
) -> None:
    spoil(run / name)
    told = refused(shell, trained, run)
    assert told.startswith(f"{run / name}: ")
    assert problem in told


def manifest(run: Path, **changes: object) -> None:
    found = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({k: v for k, v in (found | changes).items() if v is not ...}))


MANIFESTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a later format": (lambda r: manifest(r, format=99, polymodal="9.1"), "install the version that wrote it, '9.1'"),
    "no format": (lambda r: manifest(r, format=...), "has another format"),
    "no files": (lambda r: manifest(r, files=...), "is no manifest"),
    "files that vouch for nothing": (lambda r: manifest(r, files={}), "sha256 differs"),
    "files with wrong hashes": (lambda r: manifest(r, files={"spec.yaml": 3}), "is no manifest"),
    "no JSON": (lambda r: (r / "run.json").write_text("{"), "is no JSON"),
    "not UTF-8": (lambda r: (r / "run.json").write_bytes(b"\xff\xfe\x00"), "is no JSON"),
    "a list": (lambda r: (r / "run.json").write_text("[1]"), "is no manifest"),
    "not finished": (lambda r: (r / "run.json").unlink(), "the run is not finished"),
    "not there": (shutil.rmtree, "no such run folder"),
    "a file": (lambda r: (shutil.rmtree(r), r.write_text("run")), "no such run folder"),
    "another folder": (lambda r: (shutil.rmtree(r), r.mkdir()), "is no run folder"),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_run_folder_that_is_none(trained: Trained, shell: Shell, run: Path, name: str) -> None:
    spoil, problem = MANIFESTS[name]
    spoil(run)
    told = refused(shell, trained, run)
    assert told.startswith(str(run))
    assert problem in told
    assert "  try:   " in told


def test_an_unfinished_run_says_how_to_go_on(trained: Trained, shell: Shell, run: Path) -> None:
    (run / "run.json").unlink()
    assert f"polymodal train --out {run} --resume" in refused(shell, trained, run)
    shell.works("train", "--out", run, "--resume")
    assert digest(run) == digest(trained.run)


MINE = """
from pathlib import Path
from polymodal.core.schema import Wired
from polymodal.core.streams import Notes, Stream, Streams, pool
from polymodal.fusion.sum import Sum

Path(__file__).with_name("imported").touch()


class Mine(Sum):
    pass
"""


def test_code_from_elsewhere_needs_trust(
    trained: Trained, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part by a dotted path is neither run nor imported without `--trust`, wherever in the spec it stands."""
    (tmp_path / "elsewhere_mine.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    rows = trained.table(tmp_path / "rows.csv", trained.rows)
    path = write_spec(tmp_path / "spec.yaml", spec(rows, ["title", "facts"], fusion="elsewhere_mine:Mine"))
    shell.works("train", path, "--out", tmp_path / "run", "--quiet")
    assert (tmp_path / "imported").exists()
    (tmp_path / "imported").unlink()
    monkeypatch.delitem(sys.modules, "elsewhere_mine")
    told = refused(shell, trained, tmp_path / "run")
    assert "dotted path" in told
    assert "given: 'elsewhere_mine:Mine'" in told
    assert "--trust" in told
    assert not (tmp_path / "imported").exists()
    shell.works("predict", tmp_path / "run", rows, "--out", tmp_path / "a.csv", "--trust")
    found = json.loads(shell.works("evaluate", tmp_path / "run", rows, "--json", "--trust").out)
    assert (tmp_path / "imported").exists()
    assert found["rows"] == len(read_answers(tmp_path / "a.csv")) == 40


@pytest.mark.parametrize(
    "place", ["inputs.title.type", "inputs.title.encoder", "tasks.label.type", "tasks.label.reader"]
)
def test_code_from_elsewhere_slipped_into_a_run(
    trained: Trained, shell: Shell, run: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Also when the hashes were made to fit."""
    (run.parent / "elsewhere_slipped.py").write_text(MINE)
    monkeypatch.syspath_prepend(run.parent)
    plain = yaml12.loads((run / "spec.yaml").read_text())
    plain["inputs"]["title"]["encoder"] = {"type": "elsewhere_slipped:Mine"} if place.endswith("title.type") else "gru"
    here = plain
    *outer, last = place.split(".")
    for step in outer:
        here = here[step]
    here[last] = "elsewhere_slipped:Mine"
    text = yaml12.dumps(plain).encode()
    (run / "spec.yaml").write_bytes(text)
    files = json.loads((run / "run.json").read_text())["files"]
    manifest(run, files=files | {"spec.yaml": hashlib.sha256(text).hexdigest()})
    assert "dotted path" in refused(shell, trained, run)
    assert not (run.parent / "imported").exists()


def test_a_column_with_a_colon_is_no_code(shell: Shell, tmp_path: Path) -> None:
    rows = [{"dc:title": row["title"], "label": row["label"]} for row in make_rows(tmp_path, 12)]
    table = write_table(tmp_path / "rows.csv", rows)
    text = {"title": {"type": "text", "column": "dc:title", "min_count": 1, "encoder": {"type": "bag", "width": 4}}}
    shell.works("train", write_spec(tmp_path / "spec.yaml", spec(table, text)), "--out", tmp_path / "run", "--quiet")
    shell.works("predict", tmp_path / "run", table, "--out", tmp_path / "a.csv")


OUTPUTS: dict[str, tuple[str, str]] = {
    "unknown ending": ("a.xlsx", "a name ending in .csv, .jsonl or .parquet"),
    "no ending": ("answers", "a name ending in .csv, .jsonl or .parquet"),
    "a folder": ("folder.csv", "cannot be written: Is a directory"),
    "below a file": ("file/a.csv", "cannot be written: "),
    "far below a file": ("file/b/c/a.parquet", "cannot be written: "),
    "a name that is too long": ("x" * 300 + ".csv", "cannot be written: File name too long"),
    "a place where nobody can write": ("/proc/nowhere/a.jsonl", "cannot be written: "),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_an_output_that_cannot_be_written(trained: Trained, shell: Shell, tmp_path: Path, name: str) -> None:
    path, problem = OUTPUTS[name]
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").write_text("here already")
    told = shell.fails("predict", trained.run, trained.folder / "rows.csv", "--out", tmp_path / path)
    assert problem in told
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "folder.csv"]
    assert (tmp_path / "file").read_text() == "here already"


def test_an_output_is_replaced_only_by_a_whole_one(trained: Trained, shell: Shell, tmp_path: Path) -> None:
    out = tmp_path / "a.csv"
    out.write_text("old")
    table = trained.table(tmp_path / "rows.csv", [*trained.rows, {**trained.rows[0], "photo": "gone.jpg"}])
    shell.fails("predict", trained.run, table, "--out", out, "--on-bad", "fail")
    assert out.read_text() == "old"
    shell.works("predict", trained.run, table, "--out", out)
    assert len(read_answers(out)) == 41
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv", "rows.csv"]


@pytest.mark.parametrize("name", ["file", "file/run", "/proc/nowhere/run", "used", "x" * 300])
def test_a_run_folder_that_cannot_be_made(trained: Trained, shell: Shell, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("here already")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "notes.txt").write_text("mine")
    told = shell.fails("train", trained.folder / "spec.yaml", "--out", tmp_path / name)
    assert name in told
    assert (tmp_path / "file").read_text() == "here already"
    assert [p.name for p in (tmp_path / "used").iterdir()] == ["notes.txt"]


def test_a_finished_run_is_not_trained_over(trained: Trained, shell: Shell, run: Path) -> None:
    told = shell.fails("train", trained.folder / "spec.yaml", "--out", run)
    assert "is there already" in told
    assert "--resume" in told
    assert digest(run) == digest(trained.run)


@pytest.mark.parametrize("name", ["file", "file/report", "/proc/nowhere/report"])
def test_a_report_that_cannot_be_written(trained: Trained, shell: Shell, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("here already")
    table = trained.folder / "rows.csv"
    told = shell.fails("evaluate", trained.run, table, "--no-withheld", "--report", tmp_path / name)
    assert "cannot be" in told
    assert "file" in told or "nowhere" in told


@pytest.mark.parametrize("name", ["file", "file/scenes", "/proc/nowhere/scenes"])
def test_scenes_that_cannot_be_written(shell: Shell, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("here already")
    assert "cannot be" in shell.fails("scenes", tmp_path / name, "--rows", 20)


# Disks that are full


def digest(run: Path) -> str:
    return hashlib.sha256((run / "weights.safetensors").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def undisturbed(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A spec of three epochs on numbers, with two bad rows, and the sha256 of the weights in the end."""
    from polymodal import cli

    folder = tmp_path_factory.mktemp("undisturbed")
    rows = [*trained.rows, *[{**trained.rows[0], "price": "inf"}] * 200]
    plain = spec(trained.table(folder / "rows.csv", rows), ["facts"], train={"epochs": 3, "checkpoint_steps": 2})
    path = write_spec(folder / "spec.yaml", plain)
    assert cli.main(["train", str(path), "--out", str(folder / "run"), "--quiet"]) == 0
    return path, digest(folder / "run")


def fails_then_goes_on(shell: Shell, undisturbed: tuple[Path, str], run: Path, broken: Callable[[], str]) -> str:
    """Train until the disk is full; what was saved before is kept; go on and end in the same weights."""
    path, expected = undisturbed
    told = broken()
    assert "cannot be" in told
    assert not (run / "run.json").exists()
    assert not list(run.rglob(".*.new"))
    before = sorted((run / "checkpoints").glob("step-*"))
    done = shell.works("train", path, "--out", run, "--resume")
    if before:
        assert "epoch   1/3" not in done.err or int(before[0].name.split("-")[1]) <= 5
    assert digest(run) == expected
    assert sorted(os.listdir(run)) == sorted(os.listdir(path.parent / "run"))
    assert (run / "ledger.jsonl").read_bytes() == (path.parent / "run" / "ledger.jsonl").read_bytes()
    return told


def count_syncs(monkeypatch: pytest.MonkeyPatch, fail_at: int | None) -> list[int]:
    """Every file of a run goes through fsync; the call of this number finds the disk full, and so do all after it."""
    calls, sync = [0], os.fsync

    def full(handle: int) -> None:
        calls[0] += 1
        if fail_at is not None and calls[0] >= fail_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(handle)

    monkeypatch.setattr(os, "fsync", full)
    return calls


@pytest.fixture(scope="module")
def syncs(undisturbed: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> int:
    """How often a whole training calls fsync."""
    from polymodal import cli

    with pytest.MonkeyPatch.context() as patch:
        calls = count_syncs(patch, None)
        words = ["train", str(undisturbed[0]), "--out", str(tmp_path_factory.mktemp("all") / "run"), "--quiet"]
        assert cli.main(words) == 0
    return calls[0]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.5, 0.65, 0.8, 0.9, 1.0])
def test_a_disk_that_is_full(
    undisturbed: tuple[Path, str],
    syncs: int,
    shell: Shell,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    share: float,
) -> None:
    """At any of the writes of a training."""
    run = tmp_path / "run"

    def broken() -> str:
        with monkeypatch.context() as patch:
            count_syncs(patch, 1 + round(share * (syncs - 2)))
            return shell("train", undisturbed[0], "--out", run, "--quiet").err

    told = fails_then_goes_on(shell, undisturbed, run, broken)
    assert "No space left on device" in told
    assert "--resume" in told


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """The kernel refuses to let any file grow beyond so many bytes."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 300, 1_000, 3_000, 8_000, 20_000])
def test_a_real_limit(undisturbed: tuple[Path, str], shell: Shell, tmp_path: Path, size: int) -> None:
    """The spec, the readers, the checkpoint, the ledger and the report are each the first that do not fit."""
    run = tmp_path / "run"

    def broken() -> str:
        with no_file_beyond(size):
            return shell.fails("train", undisturbed[0], "--out", run, "--quiet")

    assert "File too large" in fails_then_goes_on(shell, undisturbed, run, broken)


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_answers_that_do_not_fit(trained: Trained, shell: Shell, tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"a{ending}"
    out.write_bytes(b"old")
    table = trained.table(tmp_path / "rows.csv", trained.rows * 5)
    with no_file_beyond(1000):
        told = shell.fails("predict", trained.run, table, "--out", out)
    assert told.startswith(f"{out}: cannot be written: ")
    assert out.read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == [out.name, "rows.csv"]
    shell.works("predict", trained.run, table, "--out", out)
    assert all(same_answer(a, b) for a, b in zip(read_answers(out), trained.answers * 5, strict=True))


def test_cells_that_cannot_be_kept(trained: Trained, shell: Shell, tmp_path: Path) -> None:
    """The cache's own files, when memory may not be used."""
    rows = trained.table(tmp_path / "rows.csv", trained.rows)
    path = write_spec(tmp_path / "spec.yaml", spec(rows, ["photo"], data={"cache_mb": 0}))
    with no_file_beyond(10_000):
        told = shell.fails("train", path, "--out", tmp_path / "run")
    assert told.startswith("data.cache_mb: ")
    assert "File too large" in told


LIMITED = """
import resource, sys
from polymodal import cli
from polymodal.work.checkpoint import Checkpoints

save = Checkpoints.save

def save_and_fill(self, *state):
    save(self, *state)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))

Checkpoints.save = save_and_fill
sys.exit(cli.main(sys.argv[1:]))
"""


def test_a_real_limit_in_a_process_of_its_own(undisturbed: tuple[Path, str], shell: Shell, tmp_path: Path) -> None:
    """The disk fills up after the first checkpoint, which is kept."""
    run = tmp_path / "run"
    words = [sys.executable, "-c", LIMITED, "train", str(undisturbed[0]), "--out", str(run)]

    def broken() -> str:
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 2, done.stderr
        assert not done.stdout
        assert "Traceback" not in done.stderr
        assert len(done.stderr.splitlines()) < 20
        assert [p.name for p in (run / "checkpoints").glob("step-*")] == ["step-000000002-000000"]
        return done.stderr

    told = fails_then_goes_on(shell, undisturbed, run, broken)
    assert "what was saved before is kept" in told
