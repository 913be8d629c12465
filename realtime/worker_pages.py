"""Worker pages: health and metrics of all workers, as their parent serves them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import msgspec
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from twisted.internet.defer import Deferred, DeferredList
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from . import aggregate
from .errors import MethodNotAllowed, NotFound
from .ingress.answers import refusal
from .transport import local
from .transport.site import Request

#: Seconds for a worker to tell its health or its metrics.
ASKING: Final = 2.0


class INode(Protocol):
    """Who is asked."""

    async def report(self) -> dict[str, Any]:
        """What ``/health`` answers."""

    async def metrics(self) -> bytes:
        """What ``/metrics`` answers."""


class Asked:
    """What the workers tell of themselves when they are asked.

    :param admins: where each tells it, by number; None for one that is not there.
    """

    def __init__(self, reactor: Any, admins: Callable[[], Mapping[str, str | None]]) -> None:
        self._reactor = reactor
        self._admins = admins

    async def health(self) -> dict[str, Any]:
        """The health of all as one, see `aggregate.health`."""
        found = await self._ask(b"/health")
        reports: dict[str, Any] = dict.fromkeys(self._admins())
        reports.update({name: msgspec.json.decode(answer.body) for name, answer in found.items()})
        return aggregate.health(reports)

    async def metrics(self, own: str) -> bytes:
        """The metrics of all, and the parent's own, see `aggregate.merged`."""
        found = await self._ask(b"/metrics")
        texts = {name: answer.body.decode() for name, answer in found.items()}
        return aggregate.merged({"parent": own, **texts}).encode()

    async def _ask(self, target: bytes) -> dict[str, local.Answer]:
        """Ask each; those that do not answer in time are left out."""
        asked = {}
        sent = local.request(b"GET", target, [(b"Host", b"localhost")], b"")
        for name, path in self._admins().items():
            if path is not None:
                asked[name] = local.exchange(self._reactor, path, sent)
                asked[name].addTimeout(ASKING, self._reactor)
        results: list[Any] = await DeferredList(asked.values(), consumeErrors=True)
        return {name: result for name, (well, result) in zip(asked, results, strict=True) if well}


class Page(Resource):
    """Pages by exact path, whose answers take a moment."""

    isLeaf = True

    def __init__(self, node: INode) -> None:
        super().__init__()
        self._node = node

    def render(self, request: Request) -> bytes | int:
        if not self.has(request.path):
            return refusal(request, NotFound())
        if request.method not in (b"GET", b"HEAD"):
            request.setHeader(b"Allow", b"GET, HEAD")
            return refusal(request, MethodNotAllowed("this path takes GET, HEAD"))
        done = Deferred.fromCoroutine(self.answer(request))
        done.addErrback(request.processingFailed)
        done.addErrback(lambda _: None)
        return NOT_DONE_YET

    def has(self, path: bytes) -> bool:
        raise NotImplementedError

    async def answer(self, request: Request) -> None:
        raise NotImplementedError


class HealthPages(Page):
    """``/health``, ``/health/live`` and ``/health/ready``."""

    def has(self, path: bytes) -> bool:
        return path in (b"/health", b"/health/live", b"/health/ready")

    async def answer(self, request: Request) -> None:
        if request.path == b"/health/live":
            # workers that do not turn any more are this process's business
            request.answer(200, msgspec.json.encode({"status": "alive"}))
            return
        told = await self._node.report()
        causes = told["causes"]
        if request.path == b"/health/ready":
            told = {"status": "unavailable", "causes": causes} if causes else {"status": "ready"}
        request.setHeader(b"Cache-Control", b"no-store")
        request.answer(503 if causes else 200, msgspec.json.encode(told))


class MetricsPage(Page):
    """``/metrics``"""

    def has(self, path: bytes) -> bool:
        return path == b"/metrics"

    async def answer(self, request: Request) -> None:
        body = await self._node.metrics()
        request.setHeader(b"Cache-Control", b"no-store")
        request.answer(200, body, CONTENT_TYPE_LATEST.encode())
