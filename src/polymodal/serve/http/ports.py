"""The socket that a server listens to."""

from __future__ import annotations

import socket

from polymodal.core.errors import UserError

BACKLOG = 2048


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises UserError."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
        return sock
    except (OSError, OverflowError) as error:
        sock.close()
        told = getattr(error, "strerror", None) or error
        raise UserError("--port", f"cannot be used: {told}", given=f"{host}:{port}",
                        advice="another one, such as --port 8001") from None  # fmt: skip


def address(sock: socket.socket) -> str:
    """Where a socket listens, as a URL."""
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
