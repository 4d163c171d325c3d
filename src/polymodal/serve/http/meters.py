"""What Prometheus is told. With several workers the numbers are those of all of them."""

from __future__ import annotations

import os
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SHARED = "PROMETHEUS_MULTIPROC_DIR"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Meters:
    """Counters of one application."""

    def __init__(self) -> None:
        own: Any = {"registry": CollectorRegistry()}
        self.registry: CollectorRegistry = own["registry"]
        level = {**own, "multiprocess_mode": "livesum"} if SHARED in os.environ else own
        self.requests = Counter("polymodal_requests", "Requests answered.", ["path", "method", "status"], **own)
        self.seconds = Histogram("polymodal_request_seconds", "From the request's first byte to the answer's last.",
                                 ["path"], buckets=SECONDS, **own)  # fmt: skip
        self.batches = Histogram("polymodal_batch_rows", "Rows that the model answered at once.", buckets=ROWS, **own)
        self.model = Histogram("polymodal_model_seconds", "The model's time for a batch.", buckets=SECONDS, **own)
        self.rows = Counter("polymodal_rows", "Rows answered.", ["path"], **own)
        self.errors = Counter("polymodal_row_errors", "Rows that could not be read or answered.", ["path"], **own)
        self.refused = Counter("polymodal_refused", "Requests refused, by why.", ["status"], **own)
        self.dropped = Counter("polymodal_log_dropped", "Predictions that the log had no time to write.", **own)
        self.queue = Gauge("polymodal_queue_rows", "Rows that wait for the model.", **level)
        self.open = Gauge("polymodal_requests_open", "Requests that are being received or answered.", **level)
        self._rows: dict[str, tuple[Any, Any]] = {}
        self._known: dict[tuple[str, str, int], tuple[Any, Any]] = {}

    def answered(self, path: str, method: str, status: int, seconds: float) -> None:
        """`path` is that of a route, not what the client asked for: there are few of them."""
        known = self._known.get((path, method, status))
        if known is None:
            known = self.requests.labels(path, method, str(status)), self.seconds.labels(path)
            self._known[path, method, status] = known
        known[0].inc()
        known[1].observe(seconds)
        if status in (401, 413, 429, 503):
            self.refused.labels(str(status)).inc()

    def told(self, path: str, rows: int, errors: int) -> None:
        """Rows answered by a route."""
        known = self._rows.get(path)
        if known is None:
            known = self._rows[path] = self.rows.labels(path), self.errors.labels(path)
        known[0].inc(rows)
        if errors:
            known[1].inc(errors)

    def text(self) -> bytes:
        """What `/metrics` says."""
        if SHARED in os.environ:
            from prometheus_client import multiprocess

            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)
            return generate_latest(registry)
        return generate_latest(self.registry)
