"""A typed client of `polymodal serve`: `Client`, and `AsyncClient` with the same methods. It imports nothing heavy.

A file is sent as a `pathlib.Path`, `bytes` or a PIL picture; text is always text, never a path.
"""

from polymodal.client.clients import AsyncClient, Client
from polymodal.client.results import About, Answer, Hit, Input, Piece, Query, ServerError, TaskInfo, Vectors

__all__ = ["About", "Answer", "AsyncClient", "Client", "Hit", "Input", "Piece", "Query", "ServerError", "TaskInfo",
           "Vectors"]  # fmt: skip
