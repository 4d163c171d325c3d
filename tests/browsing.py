"""What tests of the page share: a served run, a real browser, and what may not happen while a page is looked at."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update",
         "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]  # fmt: skip
PATIENCE = 90  # seconds
COMMAND = [sys.executable, "-c", "import sys; from polymodal.cli import main; sys.exit(main())", "serve"]


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    """The system's Chromium; the test is skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    place = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if place is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=place, args=FLAGS)
        yield opened
        opened.close()


@contextlib.contextmanager
def served(log: Path, *words: object) -> Iterator[str]:
    """`polymodal serve WORDS` in a process of its own, until it is told to stop; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {**os.environ, "OMP_NUM_THREADS": "1"}
    with log.open("wb") as told:
        process = subprocess.Popen([*COMMAND, *map(str, words), "--port", str(port), "--access-log", "none"],
                                   stdout=told, stderr=told, env=own)  # fmt: skip
    try:
        _wait(process, f"http://127.0.0.1:{port}/ready", log)
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)
    assert process.returncode == 0, log.read_text()


def _wait(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(urllib.error.URLError, ConnectionError), urllib.request.urlopen(address) as reply:
            if reply.status == 200:
                return
        time.sleep(0.2)
    raise AssertionError(f"not ready: {log.read_text()}")


class Watched:
    """A page of its own; `check` finds what may not happen: foreign requests, errors, messages of the console."""

    def __init__(self, opened: Any, address: str, **kind: Any) -> None:
        self.address, self.requests, self.wrong = address, [], []
        usual = {"viewport": {"width": 1280, "height": 900}, "locale": "en-US", "reduced_motion": "reduce"}
        self.context = opened.new_context(**{**usual, **kind})
        self.context.set_default_timeout(PATIENCE * 1000)
        self.page = self.context.new_page()
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self._heard(message.type, message.text))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.expected = ""  # what Chromium says of a status that the test asked for

    def _heard(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") and not (self.expected and self.expected in text):
            self.wrong.append(text)

    def open(self, where: str = "") -> Any:
        self.page.goto(self.address + where)
        self.page.wait_for_selector(".field", state="attached")
        return self.page

    def check(self) -> None:
        inside = (self.address, "blob:", "data:")
        self.context.close()
        foreign = [url for url in self.requests if not url.startswith(inside)]
        assert not foreign, foreign
        assert not self.wrong, self.wrong


def until(page: Any, expression: str) -> None:
    """Wait until it is true; asked from outside, since the page's own policy allows no text to be run as code."""
    end = time.monotonic() + PATIENCE
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"never true: {expression}"
        page.wait_for_timeout(50)


def refusal(status: int, **error: str) -> Callable[[Any], None]:
    """What answers a request in the server's place."""
    body = {"error": {"where": "here", "problem": "no", "given": None, "advice": "later", **error}, "id": "abc"}
    return lambda route: route.fulfill(status=status, json=body, headers={"Retry-After": "7"})


def scrolls_sideways(page: Any) -> bool:
    return page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
