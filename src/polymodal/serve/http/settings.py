"""What can be said of a server: batching, limits, who may ask, what is written down. Free of heavy imports."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, fields
from pathlib import Path

from polymodal.core.errors import UserError

TOKENS = "POLYMODAL_TOKENS"  # the environment's own, one a line or separated by spaces
LEAST_TOKEN = 16  # characters


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """Every setting has a flag of `polymodal serve` of the same name; 0 and None are told where they mean something."""

    batch: int = 32  # rows that the model answers at once
    wait_ms: float = 2.0  # how long a row waits for others when the model is idle
    queue: int = 1024  # rows that may wait; beyond it 503
    streams: int = 8  # answers that are said token by token at once; beyond it 503
    threads: int | None = None  # of torch; its own choice when not given
    timeout: float = 30.0  # seconds a request may take, from its last byte on; beyond it 503
    slow: float = 20.0  # seconds a client may take to send its headers, its body, or to take in a piece of the answer
    connections: int = 2048  # open at once in each worker; more are answered 503 and closed
    body_mb: float = 32.0  # of a request
    bodies_mb: float = 512.0  # of all requests that are being received or answered; beyond it 503
    rows: int = 256  # in a request
    pixels: int = 50_000_000  # of a picture, of a frame
    seconds: float = 600.0  # of a sound or a clip
    text: int = 100_000  # characters in a cell
    tokens: int = 1024  # that a sentence may have
    beams: int = 16
    hits: int = 1000  # that a search may ask for
    rate: float = 0.0  # requests a second of one token, or of one address without tokens; 0: any number
    burst: int = 20  # requests that may come at once before the rate counts
    keys: tuple[str, ...] = ()  # bearer tokens; (): everybody may ask
    origins: tuple[str, ...] = ()  # pages of other hosts that may ask
    log: str | None = None  # folder of served predictions
    log_mb: float = 1024.0  # that it may hold
    access_log: str | None = None  # file of requests; standard error when not given, "none" for none
    drain: float = 0.0  # seconds between saying that it is not ready any more and refusing connections

    def check(self) -> ServeSettings:
        """The same. Raises UserError for a value that makes no sense."""
        for one in fields(self):
            value = getattr(self, one.name)
            flag = f"--{one.name.replace('_', '-')}"
            if isinstance(value, int | float) and not isinstance(value, bool):
                least = 0 if one.name in ("wait_ms", "rate", "drain") else 1 if isinstance(value, int) else 1e-3
                if not least <= value < math.inf:
                    raise UserError(flag, "is out of range", given=value, advice=f"{least:g} or more")
        short = [key for key in self.keys if len(key) < LEAST_TOKEN]
        if short:
            raise UserError("--token-file", f"a token has fewer than {LEAST_TOKEN} characters",
                            advice="python -c 'import secrets; print(secrets.token_urlsafe(32))'")  # fmt: skip
        return self


def read_keys(path: str | None) -> tuple[str, ...]:
    """The bearer tokens in a file, one a line (# begins a remark), and those in the environment. Raises UserError."""
    found = os.environ.get(TOKENS, "").split()
    if path is not None:
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError("--token-file", f"cannot be read: {error}", given=path) from None
        listed = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
        if not listed:
            raise UserError("--token-file", "holds no token", given=path, advice="one a line")
        found += listed
    return tuple(found)
