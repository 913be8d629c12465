"""Fetching: one small answer from another service by HTTP, within a time and a size; no redirects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from .broker.redis_tls import Strict, trusted

#: Bytes of an answer, at most.
MAX_ANSWER: Final = 262_144

#: Connections to one service that are kept open.
_KEPT: Final = 4


class FetchFailed(Exception):
    """There was no answer that can be used; the text says why, and holds nothing secret."""


@implementer(IPolicyForHTTPS)
class _Strictly:
    """Whose certificate is accepted: one of an authority that the system trusts, for the very host."""

    def creatorForNetloc(self, hostname: bytes, port: int) -> Strict:
        return Strict(hostname.decode("ascii"), trusted(b""))


class Fetcher:
    """Asks other services.

    :param clock: the reactor.
    """

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._pool = HTTPConnectionPool(clock)
        self._pool.maxPersistentPerHost = _KEPT
        self._client = HTTPClient(Agent(clock, _Strictly(), connectTimeout=10, pool=self._pool))

    def stop(self) -> Deferred[None]:
        """Close what is kept open."""
        closed: Deferred[None] = self._pool.closeCachedConnections()
        return closed

    async def fetch(
        self,
        method: str,
        url: str,
        *,
        timeout: float,
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
    ) -> bytes:
        """The body of an answer of status 200.

        :param timeout: seconds for the whole of it.
        :raises FetchFailed: another status, no answer in time, or one over `MAX_ANSWER`.
        """
        asking = Deferred.fromCoroutine(self._ask(method, url, headers, form))
        # cancelled, it closes its connection
        asking.addTimeout(timeout, self._clock, onTimeoutCancel=_too_slow(timeout))
        try:
            return await asking
        except FetchFailed:
            raise
        except Exception as error:
            # Its text may repeat what was sent.
            name = "no connection" if isinstance(error, ConnectError) else type(error).__name__
            raise FetchFailed(name) from None

    async def _ask(
        self, method: str, url: str, headers: Mapping[str, str] | None, form: Mapping[str, str] | None
    ) -> bytes:
        answer = await self._client.request(
            method,
            url,
            headers={"Accept": "application/json", **(headers or {})},
            data=None if form is None else dict(form),
            allow_redirects=False,
            unbuffered=True,
        )
        body = _Body(answer)
        if answer.code != 200:
            body.finished.addErrback(lambda failure: failure.trap(CancelledError) and b"")
            body.finished.cancel()
            raise FetchFailed(f"status {answer.code}")
        return await body.finished


class _Body(Protocol):
    """Takes the body of an answer; `finished` closes the connection where it is cancelled."""

    def __init__(self, answer: Any) -> None:
        self._taken = bytearray()
        self.finished: Deferred[bytes] = Deferred(lambda _: self._give_up())
        answer.deliverBody(self)

    def dataReceived(self, data: bytes) -> None:
        self._taken += data
        if len(self._taken) > MAX_ANSWER:
            self._give_up()
            self._end(Failure(FetchFailed(f"the answer is over {MAX_ANSWER} bytes")))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._end(bytes(self._taken) if reason.check(ResponseDone, PotentialDataLoss) else reason)

    def _give_up(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()

    def _end(self, result: Any) -> None:
        # It was cancelled, or has ended by its size.
        if not self.finished.called:
            self.finished.callback(result)


def _too_slow(timeout: float) -> Any:
    def fail(result: Any, _: float) -> Any:
        raise FetchFailed(f"no answer within {timeout:g} s")

    return fail
