"""Several processes that share a port: started, watched, replaced when they die, and told to stop. Free of torch."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from types import FrameType

from polymodal.core.errors import UserError

LISTENER = "POLYMODAL_LISTENER"  # the number of the socket that a worker takes connections from
SHARED = "PROMETHEUS_MULTIPROC_DIR"  # where workers add up what they count
SOON = 10.0  # seconds; a worker that dies so soon after it began may never work
TRIES = 3


def inherited() -> socket.socket | None:
    """The listening socket of whoever started this worker."""
    number = os.environ.get(LISTENER)
    return None if number is None else socket.socket(fileno=int(number))


class Workers:
    """`count` processes of a command, all of which take connections from one socket."""

    def __init__(self, count: int, sock: socket.socket, command: Sequence[str]) -> None:
        self.count, self.sock, self.command = count, sock, list(command)
        self.folder = tempfile.mkdtemp(prefix="polymodal-metrics-")
        self.alive: dict[int, tuple[subprocess.Popen[bytes], float]] = {}
        self.stopping = False
        self.failed = 0  # one after the other, soon after they began

    def run(self) -> int:
        """Until SIGTERM or Ctrl-C. The exit code."""
        for sig in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sig, self.stop)
        try:
            while self.alive or not self.stopping:
                self.watch()
                time.sleep(0.1)
            return 1 if self.failed >= TRIES else 0
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def watch(self) -> None:
        """Bury the dead, and start others in their place."""
        for pid, (worker, began) in list(self.alive.items()):
            if worker.poll() is not None:
                del self.alive[pid]
                self._bury(pid)
                self.failed = self.failed + 1 if time.monotonic() - began < SOON else 0
        if self.failed >= TRIES:
            self.stop()
        while not self.stopping and len(self.alive) < self.count:
            self._start()

    def _start(self) -> None:
        number = self.sock.fileno()
        environment = {**os.environ, LISTENER: str(number), SHARED: self.folder}
        worker = subprocess.Popen(self.command, env=environment, pass_fds=(number,))
        self.alive[worker.pid] = worker, time.monotonic()

    def stop(self, sig: int = signal.SIGTERM, frame: FrameType | None = None) -> None:
        """Tell all to answer what they have accepted, and to end."""
        again, self.stopping = self.stopping, True
        self.sock.close()
        for worker, _ in self.alive.values():
            worker.send_signal(sig if again else signal.SIGTERM)

    def _bury(self, pid: int) -> None:
        """What a dead worker held is not counted any more."""
        from prometheus_client import multiprocess

        multiprocess.mark_process_dead(pid, self.folder)


def supervise(count: int, sock: socket.socket, words: Sequence[str]) -> int:
    """Serve with several workers until told to stop. Raises UserError where the system has no such thing."""
    if os.name != "posix":
        raise UserError("--workers", "needs a system that hands sockets on", given=count, advice="--workers 1")
    sock.set_inheritable(True)
    return Workers(count, sock, [sys.executable, "-m", "polymodal", *words]).run()
