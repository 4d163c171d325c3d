"""A real server: slow and greedy clients are let go, and nothing that was accepted is lost when it stops."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from endtoend import Shell, Trained
from polymodal.serve.http.careful import LONGEST, careful
from polymodal.serve.http.ports import bind
from polymodal.serve.http.workers import Workers


async def slowly(scope: Any, receive: Any, send: Any) -> None:
    """Answers after a moment; `/much` with 64 MB."""
    if scope["type"] == "lifespan":
        return
    await asyncio.sleep(0.2 if scope["path"] == "/slow" else 0)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(64 if scope["path"] == "/much" else 0):
        await send({"type": "http.response.body", "body": b"x" * (1 << 20), "more_body": True})
    await send({"type": "http.response.body", "body": b"done"})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A server whose clients have half a second, of which four may be there."""
    sock = bind("127.0.0.1", 0)
    config = uvicorn.Config(
        slowly, http=careful(0.5, 4), log_config=None, lifespan="off", ws="none", timeout_keep_alive=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
    thread.start()
    yield sock.getsockname()[1]
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()


def connect(port: int) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port), timeout=10)
    made.settimeout(10)
    return made


def heard(sock: socket.socket) -> bytes:
    """Everything until the server closes."""
    found = b""
    with contextlib.suppress(ConnectionError):
        while piece := sock.recv(1 << 16):
            found += piece
    return found


HELLO = b"GET / HTTP/1.1\r\nhost: x\r\n"


@pytest.mark.parametrize("begin", [b"", HELLO, HELLO + b"\r\n" + HELLO], ids=["nothing", "half", "second"])
def test_who_does_not_finish_the_headers_is_let_go(port: int, begin: bytes) -> None:
    begun = time.monotonic()
    with connect(port) as sock:
        sock.sendall(begin)
        found = heard(sock)
    assert 0.3 < time.monotonic() - begun < 5
    assert found.count(b"200 OK") == (1 if begin.count(b"\r\n\r\n") else 0)


def test_headers_without_end_are_not_kept(port: int) -> None:
    with connect(port) as sock:
        sent = 0
        with contextlib.suppress(ConnectionError):
            for _ in range(1000):
                sock.sendall(b"x-%d: " % sent + b"y" * 8000 + b"\r\n" if sent else HELLO)
                sent += 8000
                time.sleep(0.001)
        assert LONGEST <= sent < 100 * LONGEST


def test_too_many_connections_are_told_so(port: int) -> None:
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(connect(port)) for _ in range(4)]
        for sock in held:
            sock.sendall(HELLO)
        time.sleep(0.1)
        found = heard(stack.enter_context(connect(port)))
    assert b"503" in found.split(b"\r\n")[0]
    assert b"retry-after: 1" in found
    assert json.loads(found.split(b"\r\n\r\n")[1])["error"]["where"] == "connections"
    time.sleep(0.1)
    assert ask(f"http://127.0.0.1:{port}/")[1] == b"done"  # there is room again


def test_who_does_not_read_is_cut_off(port: int) -> None:
    with connect(port) as sock:
        sock.sendall(HELLO.replace(b"/ ", b"/much ") + b"\r\n")
        time.sleep(1.2)
        assert len(heard(sock)) < 64 << 20
    assert ask(f"http://127.0.0.1:{port}/")[1] == b"done"


def ask(url: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json", **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def test_what_was_accepted_is_answered_before_it_ends(trained: Trained, tmp_path: Path) -> None:
    """One process from the command line: token, log, and SIGTERM while many requests are under way."""
    port, key = free_port(), "a-token-of-twenty-letters"
    (tmp_path / "keys").write_text(key, encoding="utf-8")
    words = [sys.executable, "-m", "polymodal", "serve", str(trained.run), "--port", str(port), "--wait", "300",
             "--batch", "64", "--token-file", str(tmp_path / "keys"), "--log", str(tmp_path / "log")]  # fmt: skip
    process = subprocess.Popen(words, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True)
    url, own = f"http://127.0.0.1:{port}", {"authorization": f"Bearer {key}"}
    try:
        begun = time.monotonic()
        while not _is_ready(url) and process.poll() is None and time.monotonic() - begun < 60:
            time.sleep(0.05)
        assert ask(f"{url}/v1/predict", {"rows": [{"title": "mug"}]})[0] == 401
        found: list[tuple[int, bytes]] = []

        def one(number: int) -> None:
            found.append(ask(f"{url}/v1/predict", {"rows": [{"title": number}]}, own))

        threads = [threading.Thread(target=one, args=(n,)) for n in range(20)]
        for thread in threads:
            thread.start()
        time.sleep(0.15)  # all of them wait for the batch to fill
        process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join(30)
        assert process.wait(30) == 0
    finally:
        process.kill()
        _, told = process.communicate(timeout=10)
    assert [status for status, _ in found] == [200] * 20, told
    assert all(json.loads(text)["rows"][0]["label"] for _, text in found)
    lines = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
    assert sum(line.get("path") == "/v1/predict" and line["status"] == 200 for line in lines) == 20
    kept = [json.loads(line) for p in (tmp_path / "log").glob("*.jsonl") for line in p.read_text().splitlines()]
    assert sorted(line["row"]["title"] for line in kept) == list(range(20))
    assert key not in told


def _is_ready(url: str) -> bool:
    try:
        return ask(f"{url}/ready")[0] == 200
    except OSError:
        return False


CHILD = """
import os, signal, socket, sys, time
sock = socket.socket(fileno=int(os.environ["POLYMODAL_LISTENER"]))
sock.settimeout(0.1)
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
while not stop:
    try:
        client, _ = sock.accept()
    except TimeoutError:
        continue
    client.sendall(str(os.getpid()).encode())
    client.close()
open(os.path.join(sys.argv[1], str(os.getpid())), "w").close()
"""


def test_workers_share_a_port_are_replaced_and_told_to_stop(tmp_path: Path) -> None:
    (tmp_path / "child.py").write_text(CHILD, encoding="utf-8")
    sock = bind("127.0.0.1", 0)
    port = sock.getsockname()[1]
    sock.set_inheritable(True)
    workers = Workers(2, sock, [sys.executable, str(tmp_path / "child.py"), str(tmp_path)])
    workers.watch()
    first = set(workers.alive)
    assert len(first) == 2
    with connect(port) as client:
        assert int(heard(client)) in first
    victim = min(first)
    os.kill(victim, signal.SIGKILL)
    workers.alive[victim][0].wait(10)
    workers.watch()
    assert len(workers.alive) == 2
    assert victim not in workers.alive
    time.sleep(0.5)  # the new one has begun
    (new,) = set(workers.alive) - first
    workers.stop()
    while workers.alive:
        workers.watch()
        time.sleep(0.02)
    assert {int(p.name) for p in tmp_path.iterdir() if p.name.isdigit()} == first - {victim} | {new}
    with pytest.raises(OSError, match="refused"):
        connect(port)


def test_workers_that_cannot_start_end_it(tmp_path: Path) -> None:
    workers = Workers(2, bind("127.0.0.1", 0), [sys.executable, "-c", "raise SystemExit(3)"])
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    try:
        assert workers.run() == 1
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])
    assert not Path(workers.folder).exists()


def test_mistakes_of_the_command_line(shell: Shell, trained: Trained, tmp_path: Path) -> None:
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert "--port: cannot be used" in shell.fails("serve", trained.run, "--port", port)
    assert "--workers: is out of range" in shell.fails("serve", trained.run, "--workers", 0)
    assert "--batch: is out of range" in shell.fails("serve", trained.run, "--batch", -1)
    assert "--token-file: cannot be read" in shell.fails("serve", trained.run, "--token-file", tmp_path / "none")
    assert str(tmp_path) in shell.fails("serve", tmp_path, "--port", free_port())
