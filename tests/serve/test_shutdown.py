"""SIGTERM in the middle of fifty requests: every one that was accepted is answered."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from endtoend import Trained

pytest.importorskip("fastapi")
MANY = 50
BODY = json.dumps({"rows": [{"title": "sharp mug"}]}).encode()
REQUEST = b"POST /v1/predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
    len(BODY),
    BODY,
)


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    return int(head[9:12]), await reader.readexactly(length)


async def one(port: int, after: float) -> tuple[int, bytes] | None:
    """A connection and its request after so many seconds; None for one that was refused."""
    await asyncio.sleep(after)
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return None
    with contextlib.closing(writer):
        writer.write(REQUEST)
        return await answer(reader)  # a connection that is cut off ends in an error here


async def kept(port: int, stop: asyncio.Event) -> list[tuple[int, bytes]]:
    """A connection that asks over and over, until it is closed between two requests."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    found = []
    while True:
        try:
            writer.write(REQUEST)
            found.append(await answer(reader))
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            writer.close()
            whole = not getattr(error, "partial", b"")
            break
    assert whole, "half an answer"
    assert stop.is_set()
    return found


async def all_of_them(process: subprocess.Popen[bytes], port: int) -> tuple[list[tuple[int, bytes] | None], int]:
    stop = asyncio.Event()
    asking = [asyncio.create_task(one(port, 0.01 * n)) for n in range(MANY)]
    keeping = [asyncio.create_task(kept(port, stop)) for _ in range(4)]
    await asyncio.sleep(0.01 * MANY / 2)
    process.send_signal(signal.SIGTERM)
    stop.set()
    found = await asyncio.gather(*asking)
    more = [each for listed in await asyncio.gather(*keeping) for each in listed]
    return [*found, *more], len(more)


def test_every_accepted_request_is_answered(trained: Trained) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "polymodal", "serve", str(trained.run), "--port", str(port), "--access-log", "none",
             "--batch", "8", "--threads", "1"]  # fmt: skip
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                if asyncio.run(asyncio.wait_for(one(port, 0), 30)) is not None:
                    break
            time.sleep(0.05)
        found, more = asyncio.run(asyncio.wait_for(all_of_them(process, port), 60))
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
    answered = [each for each in found if each is not None]
    assert len(found) - more == MANY
    assert len(answered) - more >= MANY // 4  # before it was told to stop
    assert {status for status, _ in answered} == {200}
    said = [json.loads(text)["rows"][0] for _, text in answered]
    assert {one["label"] for one in said} == {said[0]["label"]}
    assert [one["label.confidence"] for one in said] == pytest.approx(
        [said[0]["label.confidence"]] * len(said), abs=1e-5
    )
