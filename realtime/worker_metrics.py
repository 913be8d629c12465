"""Worker metrics: what the parent of some workers counts."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.process_collector import ProcessCollector


class WorkerMetrics:
    """What it counts. `registry` holds all of it.

    :param wanted: workers that are to serve.
    :param serving: how many do.
    :ivar restarts: of workers that ended and were started again.
    :ivar replaced: of workers that gave way to a fresh one.
    """

    def __init__(self, wanted: int, serving: Callable[[], float]) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self.registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"realtime_{name}", text, registry=self.registry)

        gauge("workers", "Workers that serve.").set_function(serving)
        gauge("workers_wanted", "Workers that are to serve.").set(wanted)
        self.restarts = Counter(
            "realtime_worker_restarts", "Workers that ended and were started again.", registry=self.registry
        )
        self.replaced = Counter(
            "realtime_workers_replaced", "Workers that gave way to a fresh one.", registry=self.registry
        )
