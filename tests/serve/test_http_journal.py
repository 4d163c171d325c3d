"""The log of served predictions: every row once, files by content, bounded, and never in the way."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import polymodal
from endtoend import Trained, same_answer
from polymodal.serve.http import ServeSettings, make_app
from polymodal.serve.http import journal as journals
from polymodal.serve.http.journal import Journal, ending


class Dropped:
    def __init__(self) -> None:
        self.count = 0

    def inc(self, count: int) -> None:
        self.count += count


def lines_of(folder: Path) -> list[dict[str, Any]]:
    pieces = sorted(folder.glob("predictions-*.jsonl"))
    return [json.loads(line) for piece in pieces for line in piece.read_text(encoding="utf-8").splitlines()]


def test_what_was_served_can_be_predicted_again(trained: Trained, tmp_path: Path) -> None:
    run = polymodal.load(trained.run)
    app = make_app(run, settings=ServeSettings(access_log="none", log=str(tmp_path / "log")))
    photo = (trained.folder / trained.rows[3]["photo"]).read_bytes()
    row = {"photo": {"base64": base64.b64encode(photo).decode(), "name": "../../x.png"}, "title": "赤 mug", "price": 3}
    with TestClient(app) as client:
        for name in ("one", "two"):
            client.post(
                "/v1/predict", json={"rows": [row, {"photo": {"base64": "AAAA"}}]}, headers={"x-request-id": name}
            )
    log = tmp_path / "log"
    found = lines_of(log)
    assert [(line["id"], line["n"]) for line in found] == [("one", 0), ("one", 1), ("two", 0), ("two", 1)]
    assert found[0]["row"] == {"photo": f"files/{hashlib.sha256(photo).hexdigest()}.png", "title": "赤 mug", "price": 3}
    assert found[0]["files"] == ["photo"]
    assert found[1]["error"].startswith("photo: ")
    assert found[1]["answers"]["label"] is None
    assert len(list((log / "files").iterdir())) == 2  # the same bytes are kept once
    assert (log / found[0]["row"]["photo"]).read_bytes() == photo
    again = run.predict(
        [found[0]["row"] | {"photo": str(log / found[0]["row"]["photo"]), "sound": None, "brand": None}]
    )
    assert isinstance(again, list)
    assert same_answer(again[0], {**found[0]["answers"], "error": None})


def test_a_file_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 1 << 20, Dropped())
    for _ in range(2):
        journal.waiting.put([{"time": "t", "id": "a", "n": 0, "row": {"photo": b"x"}, "answers": {"error": None}}])
    journal.close()
    (file,) = (tmp_path / "files").iterdir()
    before = file.stat()
    os.utime(file, (0, 0))
    journal = Journal(tmp_path, 1 << 20, Dropped())
    journal.waiting.put([{"time": "t", "id": "b", "n": 0, "row": {"photo": b"x"}, "answers": {"error": None}}])
    journal.close()
    assert file.stat().st_ino == before.st_ino
    assert file.stat().st_mtime >= before.st_mtime  # but it is known to be used


def test_it_stays_within_its_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "PIECE", 2000)
    most, dropped = 200_000, Dropped()
    journal = Journal(tmp_path, most, dropped)
    for at in range(400):
        journal.waiting.put([{"time": "t", "id": str(at), "n": 0, "row": {"photo": at.to_bytes(2, "big") * 1000},
                              "answers": {"label": "x", "error": None}}])  # fmt: skip
    journal.close()
    assert dropped.count == 0
    kept = lines_of(tmp_path)
    total = sum(p.stat().st_size for p in tmp_path.rglob("*") if p.is_file())
    assert total < most * 1.6  # it is looked after every so many bytes
    assert 10 < len(kept) < 400
    assert kept[-1]["id"] == "399"  # the newest are kept
    assert [line["id"] for line in kept] == [str(n) for n in range(400 - len(kept), 400)]
    assert all((tmp_path / line["row"]["photo"]).is_file() for line in kept[5:])


def test_a_disk_that_refuses_does_not_stop_the_serving(tmp_path: Path) -> None:
    dropped = Dropped()
    journal = Journal(tmp_path / "log", 1 << 20, dropped)
    line = [{"time": "t", "id": "a", "n": 0, "row": {"photo": b"x"}, "answers": {"error": None}}]
    (tmp_path / "log" / "files").rmdir()
    (tmp_path / "log" / "files").write_text("a file where a folder was", encoding="utf-8")
    journal.waiting.put(line)
    journal.close()
    assert dropped.count == 1
    os.unlink(tmp_path / "log" / "files")


def test_a_full_queue_drops_and_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "WAITING", 1)
    monkeypatch.setattr(Journal, "_work", lambda self: None)
    dropped = Dropped()
    journal = Journal(tmp_path, 1 << 20, dropped)
    for _ in range(3):
        journal.note("id", [{}, {}], [{"error": None}, {"error": None}])
    assert dropped.count == 4


@pytest.mark.parametrize(
    ("start", "name"),
    [(b"\x89PNG\r\n", "png"), (b"\xff\xd8\xff\xe0", "jpg"), (b"RIFF....WAVE", "wav"), (b"RIFF....WEBP", "webp"),
     (b"....ftypisom", "mp4"), (b"OggS", "ogg"), (b"\x93NUMPY", "npy"), (b"", "bin"), (b"hello", "bin")],
)  # fmt: skip
def test_files_are_named_by_what_they_are(start: bytes, name: str) -> None:
    assert ending(start) == name
