"""Series from a table to an answer: files, archives, lists and arrays; trained, stored, loaded, asked."""

import json

import numpy as np
import pytest

import polymodal
from polymodal.core.errors import TableError
from polymodal.core.seeds import generator
from polymodal.data.guess import guess_inputs, look
from polymodal.data.tables import open_table
from polymodal.work.folder import read_json

ROWS = 48
SIDE = [("down", "up")[n % 2] for n in range(ROWS)]


def waves() -> list[np.ndarray]:
    """Series that rise or fall, of 8 to 19 steps and 2 channels."""
    found = []
    for n, side in enumerate(SIDE):
        rng = generator("wave", n)
        steps = int(rng.integers(8, 20))
        slope = np.linspace(-1, 1, steps) * (1 if side == "up" else -1)
        found.append((np.stack([slope, np.zeros(steps)], 1) + 0.3 * rng.standard_normal((steps, 2))).astype(np.float32))
    return found


def plan(**reader) -> dict:
    return {
        "data": {"valid": 0.25},
        "inputs": {"signal": {"type": "series", "encoder": {"type": "cnn", "width": 8, "layers": 2}, **reader}},
        "tasks": {"side": "classify"},
        "train": {"epochs": 6, "batch": 8, "lr": 0.02, "device": "cpu", "threads": 1},
    }


def accuracy(run) -> float:
    return run.metrics["valid"]["tasks"]["side"]["accuracy"]["value"]


def of_files(folder) -> dict:
    for n, wave in enumerate(waves()):
        lines = [f"2024-01-01T00:00:{s:02d},{a},{b}" for s, (a, b) in enumerate(wave)]
        (folder / f"{n}.csv").write_text("\n".join(["when,a,b", *lines]))
    return {"signal": [f"{n}.csv" for n in range(ROWS)]}


def of_archive(folder) -> dict:
    found = waves()
    np.savez_compressed(folder / "all.npz", x=np.concatenate(found), at=np.cumsum([0, *map(len, found)]))
    return {"signal": [str(n) for n in range(ROWS)]}


CASES = {
    "files": (of_files, {"time": "when"}),
    "archive": (of_archive, {"array": "all.npz", "key": "x", "offsets": "at"}),
    "arrays": (lambda folder: {"signal": waves()}, {}),
    "lists": (lambda folder: {"signal": [w.tolist() for w in waves()]}, {}),
    "words": (lambda folder: {"signal": [json.dumps(w.tolist()) for w in waves()]}, {"form": "inline"}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_tiny_run(case, tmp_path):
    make, settings = CASES[case]
    rows = {**make(tmp_path), "side": SIDE}
    rows["signal"][3] = None
    (tmp_path / "rows.jsonl").write_text(
        "\n".join(json.dumps({k: v[n] if not isinstance(v[n], np.ndarray) else v[n].tolist() for k, v in rows.items()})
                  for n in range(ROWS))
    )  # fmt: skip
    data = rows if case == "arrays" else str(tmp_path / "rows.jsonl")
    run = polymodal.train(data, spec=plan(**settings), out=tmp_path / "run", quiet=True)
    assert accuracy(run) >= 0.75
    answers = run.predict(data)
    assert [a["side"] for a in answers] == [a["side"] for a in polymodal.load(tmp_path / "run").predict(data)]
    field = read_json(tmp_path / "run" / "readers.json")["inputs"]["signal"]
    assert (field["channels"], field["features"]) == (2, 3 if case == "files" else 2)
    if case != "files":  # which have times
        alike = run.predict(
            {"signal": [None if c is None else w for c, w in zip(rows["signal"], waves(), strict=True)]}
        )
        assert [a["side"] for a in alike] == [a["side"] for a in answers]


def test_joined_before_encoding(tmp_path):
    """Channels that stand in two columns, stacked, are the series with both."""
    found = waves()
    rows = {"a": [w[:, :1] for w in found], "b": [w[:, 1:] for w in found], "side": SIDE}
    spec = plan()
    one = {"type": "series"}
    spec["inputs"] = {"rig": {"stack": {"a": one, "b": one}, "encoder": spec["inputs"]["signal"]["encoder"]}}
    run = polymodal.train(rows, spec=spec, out=tmp_path / "run", quiet=True)
    assert accuracy(run) >= 0.75


def test_a_missing_archive_is_told_once(tmp_path):
    with pytest.raises(TableError, match="no such file"):
        polymodal.train({"signal": ["0", "1"] * 24, "side": SIDE}, spec=plan(array=str(tmp_path / "gone.npz")),
                        out=tmp_path / "run", quiet=True)  # fmt: skip


def test_what_is_guessed(tmp_path):
    for n, wave in enumerate(waves()):
        np.save(tmp_path / f"{n}.npy", wave)
    table = open_table(
        {**of_files(tmp_path), "saved": [f"{n}.npy" for n in range(ROWS)], "arrays": waves(),
         "side": SIDE, "sets": [["x", "y"]] * ROWS, "codes": [[1] * (8 + n % 3) for n in range(ROWS)]}, root=tmp_path
    )  # fmt: skip
    looks = {c: look(table, c) for c in table.columns}
    assert looks == {"signal": "series", "saved": "series", "arrays": "series", "side": "category", "sets": "list",
                     "codes": "list"}  # fmt: skip
    assert guess_inputs(table, "side") == {c: {"type": "series", "column": c} for c in ("signal", "saved", "arrays")}
