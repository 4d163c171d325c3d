"""Every kind of cell over HTTP: series as files, lists and texts, items of archives, pictures in several columns."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

import polymodal
from endtoend import TRAIN, make_rows, same_answer, write_table
from polymodal.serve.http import ServeSettings, make_app

TINY = {"type": "gru", "width": 4}
PICTURE = {"type": "image", "size": 8}
INPUTS: dict[str, Any] = {
    "curve": {"type": "series", "encoder": TINY},
    "line": {"type": "series", "form": "inline", "encoder": TINY},
    "item": {"type": "series", "array": "items.npy", "encoder": TINY},
    "rig": {"stack": {"left": PICTURE, "right": PICTURE}, "encoder": {"type": "cnn", "channels": [4]}},
    "views": {**PICTURE, "columns": ["front", "back"], "encoder": {"type": "cnn", "channels": [4]}},
}


def npy(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


class Kinds:
    def __init__(self, folder: Path) -> None:
        g = np.random.default_rng(0)
        self.folder, self.curves = folder, [g.normal(size=(5, 2)) for _ in range(12)]
        np.save(folder / "items.npy", np.stack(self.curves))
        self.rows: list[dict[str, Any]] = []
        for at, row in enumerate(make_rows(folder, 12)):
            (folder / f"{at}.npy").write_bytes(npy(self.curves[at]))
            photos = dict.fromkeys(("left", "right", "front", "back"), row["photo"])
            self.rows.append({"curve": f"{at}.npy", "line": "1 2 3 4", "item": at, **photos, "label": row["label"]})
        table = write_table(folder / "rows.jsonl", self.rows)
        spec = {"inputs": INPUTS, "fusion": "concat", "tasks": {"label": "classify"},
                "train": {**TRAIN, "epochs": 1}}  # fmt: skip
        self.run = polymodal.train(table, spec=spec, out=folder / "run", quiet=True)
        found = self.run.predict(table)
        assert isinstance(found, list)
        self.answers = found

    def sent(self, at: int, **changes: Any) -> dict[str, Any]:
        photo = {"base64": base64.b64encode((self.folder / self.rows[at]["front"]).read_bytes()).decode()}
        curve = {"base64": base64.b64encode(npy(self.curves[at])).decode()}
        row = {"curve": curve, "line": "1 2 3 4", "item": self.curves[at].tolist()}
        return row | dict.fromkeys(("left", "right", "front", "back"), photo) | changes


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Kinds:
    return Kinds(tmp_path_factory.mktemp("kinds"))


@pytest.fixture(scope="module")
def client(kinds: Kinds) -> Iterator[TestClient]:
    with TestClient(make_app(kinds.run, settings=ServeSettings(access_log="none"))) as found:
        yield found


def test_files_lists_and_texts_say_the_same(client: TestClient, kinds: Kinds) -> None:
    listed, packed = kinds.curves[3].tolist(), base64.b64encode(npy(kinds.curves[3])).decode()
    rows = [kinds.sent(3), kinds.sent(3, curve=listed), kinds.sent(3, line=[1, 2, 3, 4]),
            kinds.sent(3, item={"base64": packed})]  # fmt: skip
    answer = client.post("/v1/predict", json={"rows": rows})
    assert answer.status_code == 200, answer.text
    lines = answer.json()["rows"]
    assert all(same_answer(line, kinds.answers[3]) for line in lines), (lines, kinds.answers[3])


@pytest.mark.parametrize(
    ("column", "cell"),
    [("item", 3), ("item", "3"), ("item", 3.0), ("curve", "3.npy"), ("curve", {"path": "3.npy"}),
     ("left", "photo-0-0.png"), ("front", "photo-0-0.png"), ("line", {"base64": "AAAA"}), ("line", 3)],
)  # fmt: skip
def test_nothing_of_the_servers_is_named(client: TestClient, kinds: Kinds, column: str, cell: Any) -> None:
    """Neither a file beside the training table, nor an item of its archive."""
    answer = client.post("/v1/predict", json={"rows": [kinds.sent(3, **{column: cell})]})
    assert answer.status_code == 422, answer.text
    assert answer.json()["error"]["where"].startswith(f"rows.0.{column}")


def test_bad_ones_are_told_by_their_place(client: TestClient, kinds: Kinds) -> None:
    junk = {"base64": base64.b64encode(b"junk").decode()}
    rows = [kinds.sent(3, **{column: junk}) for column in ("curve", "left", "back")]
    rows += [kinds.sent(3, line="a b"), kinds.sent(3, curve=[[1, 2], [3]]), kinds.sent(3, curve=[])]
    lines = client.post("/v1/predict", json={"rows": [*rows, kinds.sent(3)]}).json()["rows"]
    wrong = [str(line["error"]).partition(":")[0] for line in lines]
    assert wrong == ["curve", "left, right", "back", "line", "curve", "curve", "None"]
    assert same_answer(lines[-1], kinds.answers[3])


def test_the_inputs_are_told(client: TestClient) -> None:
    told = client.get("/v1/run").json()["inputs"]
    assert {name: (one["columns"], one["file"]) for name, one in told.items()} == {
        "curve": (["curve"], True), "line": (["line"], False), "item": (["item"], True),
        "rig": (["left", "right"], True), "views": (["front", "back"], True)}  # fmt: skip
