"""What `polymodal serve` does: one process, or one that watches others."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from polymodal.core.catalog import need
from polymodal.core.errors import UserError
from polymodal.serve.http.flags import settings_of
from polymodal.serve.http.settings import ServeSettings


def serve(options: Namespace, load: Callable[[Namespace], tuple[Any, Any]]) -> int:
    """`load` opens the run and the index. Returns the exit code; raises UserError."""
    settings = settings_of(options)
    if options.workers < 1:
        raise UserError("--workers", "is out of range", given=options.workers, advice="1 or more")
    for module in ("fastapi", "uvicorn", "prometheus_client", "python_multipart"):
        need(module, "serving")
    from polymodal.serve.http import workers
    from polymodal.serve.http.ports import bind

    listener = workers.inherited()
    own = listener is None  # the port is taken before the run is loaded: one in use is told at once
    with listener or bind(options.host, options.port) as sock:
        if options.workers > 1 and own:
            return workers.supervise(options.workers, sock, options.words)
        if options.workers > 1:
            settings = replace(
                settings, rate=settings.rate / options.workers, threads=_threads(settings, options.workers)
            )
        from polymodal.serve.http.server import start

        run, index = load(options)
        start(run, index=index, settings=settings, listener=sock)
    return 0


def _threads(settings: ServeSettings, workers: int) -> int:
    """Each worker's share of the cores, where nothing else is said."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return settings.threads or max(1, cores // workers)
