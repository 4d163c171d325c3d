"""Hundreds of random and hostile requests, and the server is what it was; benchmarks/hostile.py has ten thousand."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from endtoend import Trained

pytest.importorskip("fastapi")
FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def hostile() -> Any:
    sys.path.insert(0, str(FOLDER))
    try:
        return importlib.import_module("hostile")
    finally:
        sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def row(hostile: Any, trained: Trained) -> dict[str, Any]:
    return hostile.good_row(trained.folder, trained.rows[0], ("photo", "sound"), ("label",))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_strangers_change_nothing(hostile: Any, trained: Trained, row: dict[str, Any], tmp_path: Path) -> None:
    sizes = hostile.Sizes(count=360, many=200, examples=0, seed=1, much=1 << 20, bomb=16 << 20, slow=1)
    proof = hostile.prove(tmp_path, (trained.run, None, row), sizes, strace=False)
    assert proof.wrong == []
    assert sum(proof.answers.values()) >= 360 + 200
    assert proof.answers["all at once", 200] + proof.answers["all at once", 503] == 200
    assert {status for kind, status in proof.answers if kind == "slow headers"} <= {408, "closed"}
    assert proof.answers["slow body", 408] >= 2
    statuses = {status for _, status in proof.answers}
    assert {200, 400, 404, 405, 408, 415, 422} <= statuses
    assert proof.files > 0


def test_what_is_wrong_would_be_seen(hostile: Any, tmp_path: Path) -> None:
    """A server that is all that it should not be."""

    class Dead:
        returncode = 3

        def poll(self) -> int:
            return 3

    proof = hostile.Proof()
    proof.answers.update({("bomb", 500): 1, ("words", 503): 2, ("paths", "silent"): 1, ("paths", 200): 5})
    proof.memory.update(middle=100.0, end=100.0 + hostile.GROWTH + 1)
    log = tmp_path / "log"
    own = tmp_path / "run"
    log.write_text(
        f'9 openat(AT_FDCWD, "{own}/weights", O_RDONLY) = 3\n9 openat(AT_FDCWD, "/etc/passwd", O_RDONLY) = 3\n'
        '9 connect(5, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("10.0.0.1")}, 16) = 0\n'
    )
    found = hostile.opened(log, 0)
    assert len(found) == 3
    proof.foreign = hostile.foreign(found, [own])
    assert len(proof.foreign) == 2
    proof.judge(Dead(), (200, b"a"), (200, b"b"))
    assert len(proof.wrong) == 1 + 1 + 1 + 1 + 2 + 1
    told = proof.page("command", 1.0)
    assert "Not as it should be" in told
    assert "/etc/passwd" in told


def test_python_itself_sees_what_is_opened(hostile: Any, tmp_path: Path) -> None:
    """The hook that stands in for strace, in a process that opens, connects and runs."""
    secret = tmp_path / "secret"
    secret.write_text("x")
    (tmp_path / "polymodal").mkdir()
    (tmp_path / "polymodal" / "__init__.py").write_text("")
    code = (
        f"open({str(secret)!r})\nimport socket, os\n"
        "try: socket.create_connection(('127.0.0.1', 1), 1)\nexcept OSError: pass\nos.system('true')"
    )
    (tmp_path / "polymodal" / "cli.py").write_text(f"def main(words):\n    exec({code!r})\n    return 0\n")
    words = hostile.watched(["python", "-m", "polymodal", "serve"], tmp_path / "log", strace=False)

    async def run() -> int:
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        return await (await asyncio.create_subprocess_exec(*words, env=environment)).wait()

    assert asyncio.run(run()) == 0
    found = "\n".join(hostile.foreign(hostile.opened(tmp_path / "log", 0), []))
    assert str(secret) in found
    assert "connect" in found
    assert "execve true" in found


@pytest.mark.parametrize("kind", range(18))
def test_the_same_seed_makes_the_same_requests(hostile: Any, row: dict[str, Any], kind: int) -> None:
    one, two = (
        hostile.Stranger(1, row, {"photo": b"\x89PNG", "sound": b"RIFF"}, b"", 4, 1000, 1 << 20) for _ in range(2)
    )
    assert one.make(kind) == two.make(kind)
    assert len(one.kinds) == 18


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
