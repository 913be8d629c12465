"""The ways by which other services publish: plain PUBLISH, Redis Streams, the HTTP API."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from hiredis import ReplyError
from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.error import ConnectError, ConnectionLost
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from tests.clients.children import DEADLINE, Late
from tests.clients.service import Service
from tests.redis_servers import Client, RedisServer

from .traffic import Message

STREAM = "realtime:events"


class Plain:
    """PUBLISH, on one connection, without waiting for replies; made anew when it is lost.

    A message without a reply, or that nobody heard, is doubtful: that is the nature of PUBLISH.

    :param redis: asked at each connecting for the server to publish to.
    """

    def __init__(self, redis: Callable[[], RedisServer]) -> None:
        self._redis = redis
        self._client: Client | None = None
        self._connecting: Deferred[None] | None = None

    def send(self, message: Message) -> Deferred[None]:
        """Publish once; fires when that is done, well or not."""
        if self._client is None or self._client.lost:
            message.doubtful = True
            if self._connecting is None:
                self._connecting = ensureDeferred(self.connect())
                self._connecting.addBoth(self._connected)
            return Deferred.fromCoroutine(_nothing())
        replied = self._client.command("PUBLISH", message.channel, message.text())
        return replied.addCallbacks(self._heard, self._failed, (message,), {}, (message,), {})

    async def connect(self) -> None:
        """Connect."""
        with suppress(ConnectError):
            self._client = await self._redis().client()

    def _connected(self, result: object) -> None:
        self._connecting = None

    @staticmethod
    def _heard(listeners: int, message: Message) -> None:
        if listeners == 0:
            message.doubtful = True

    @staticmethod
    def _failed(failure: Failure, message: Message) -> None:
        if failure.check(ReplyError):
            _not_now(failure.value)
        else:
            failure.trap(ConnectionLost)
        message.doubtful = True

    def close(self) -> None:
        """Hang up."""
        if self._client is not None:
            self._client.transport.abortConnection()


async def _nothing() -> None:
    return None


def _not_now(error: ReplyError) -> bool:
    """False where a server only has to load its data first."""
    if not str(error).startswith("LOADING"):
        raise error
    return False


class Sure:
    """A way by which a message is repeated under its ``messageId`` until it is taken."""

    def send(self, message: Message) -> Deferred[None]:
        """Publish until it is taken."""
        message.id = message.id or f"{message.series} {message.n}"
        return Deferred.fromCoroutine(self._until_taken(message))

    async def _until_taken(self, message: Message) -> None:
        ends = reactor.seconds() + 4 * DEADLINE
        while not await self.take(message):
            if reactor.seconds() > ends:
                raise Late(f"{message} was never taken")
            await deferLater(reactor, 0.05)

    async def take(self, message: Message) -> bool:
        """Try once."""
        raise NotImplementedError

    def close(self) -> None:
        """Hang up."""


class Streamed(Sure):
    """XADD to `STREAM`, one after the other."""

    def __init__(self, redis: Callable[[], RedisServer]) -> None:
        self._redis = redis
        self._client: Client | None = None

    async def take(self, message: Message) -> bool:
        try:
            if self._client is None or self._client.lost:
                self._client = await self._redis().client()
            assert message.id is not None
            fields = ("channel", message.channel, "data", message.text(), "messageId", message.id)
            await self._client.command("XADD", STREAM, "*", *fields)
        except (ConnectError, ConnectionLost):
            return False
        except ReplyError as error:
            return _not_now(error)
        return True

    def close(self) -> None:
        if self._client is not None:
            self._client.transport.abortConnection()


class Http(Sure):
    """The HTTP API of one node after the other.

    :param services: those that may be asked.
    :ivar refusals: status and code of each refusal.
    """

    def __init__(self, services: Callable[[], list[Service]]) -> None:
        self._services = services
        self._turn = 0
        self.refusals: list[tuple[int, str]] = []

    async def take(self, message: Message) -> bool:
        services = self._services()
        self._turn += 1
        service = services[self._turn % len(services)]
        try:
            answer = await service.publish(message.channel, message.payload(), message.id)
        except Exception:
            # Refused, reset, cut in the middle or late: all of it is to be expected of a node that dies.
            return False
        if answer.status != 200:
            self.refusals.append((answer.status, answer.body["error"]["code"]))
        return answer.status == 200
