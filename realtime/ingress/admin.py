"""What operators read: ``/health`` and below it, and ``/metrics``.

They need no key: bind them where only operators reach (DESIGN.md section 9).
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from twisted.web.http import Request
from twisted.web.resource import Resource

from ..errors import MethodNotAllowed, NotFound
from ..health import Health
from .answers import json_answer, refusal


class Pages(Resource):
    """Pages by exact path, for GET and HEAD; all else is refused in JSON."""

    isLeaf = True

    def __init__(self, pages: dict[bytes, Callable[[Request], bytes]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._pages = pages

    def render(self, request: Request) -> bytes:
        answer = self._pages.get(request.path)
        if answer is None:
            return refusal(request, NotFound())
        if request.method not in (b"GET", b"HEAD"):
            request.setHeader(b"Allow", b"GET, HEAD")
            return refusal(request, MethodNotAllowed("this path takes GET, HEAD"))
        return answer(request)


def health_resource(health: Health) -> Resource:
    """``/health``, ``/health/live`` and ``/health/ready``: 200; or 503 while no traffic is wanted, and of
    ``/health/live`` while the reactor is stuck."""

    def report(request: Request) -> bytes:
        return json_answer(request, health.report(), _status(health))

    def live(request: Request) -> bytes:
        return json_answer(request, health.liveness(), 200 if health.live else 503)

    def ready(request: Request) -> bytes:
        return json_answer(request, health.readiness(), _status(health))

    return Pages({b"/health": report, b"/health/live": live, b"/health/ready": ready})


def _status(health: Health) -> int:
    return 503 if health.causes() else 200


def metrics_resource(registry: CollectorRegistry) -> Resource:
    """``/metrics`` in Prometheus' text format. Made in the reactor's thread: it takes milliseconds."""

    def metrics(request: Request) -> bytes:
        body = generate_latest(registry)
        request.setHeader(b"Content-Type", CONTENT_TYPE_LATEST.encode())
        request.setHeader(b"Content-Length", b"%d" % len(body))
        request.setHeader(b"Cache-Control", b"no-store")
        request.setHeader(b"X-Content-Type-Options", b"nosniff")
        return body

    return Pages({b"/metrics": metrics})
