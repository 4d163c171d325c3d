"""Runs stored by earlier versions, one of each format, open as they are and give the answers they gave."""

import json
from pathlib import Path

import pytest

import polymodal

STORED = sorted((Path(__file__).parents[1] / "stored").glob("format-*"))


def test_every_format_is_stored() -> None:
    from polymodal.work.folder import FORMAT

    assert [p.name for p in STORED] == [f"format-{n}" for n in range(1, FORMAT + 1)]


@pytest.mark.parametrize("folder", STORED, ids=lambda p: p.name)
def test_a_stored_run_answers_as_it_did(folder: Path) -> None:
    expected = [json.loads(line) for line in (folder / "answers.jsonl").read_text(encoding="utf-8").splitlines()]
    found = polymodal.load(folder / "run").predict(folder / "table.csv")
    assert len(found) == len(expected) == 8
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.keys() == theirs.keys()
        for name, value in theirs.items():
            close = pytest.approx(value, abs=1e-4) if isinstance(value, float) else value
            assert mine[name] == close, name
    assert found[5]["error"].startswith("picture: file not found")
    assert found[5]["colour"] is None
