"""Links: connections to Redis that come back by themselves.

A link finds its server (`redis_locate`), connects, greets it, and is up. When it is lost it tries
again, the first time at once, then after a random time below a bound that doubles. While it is not up
commands fail at once: nothing waits for Redis to come back.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from math import inf
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredList, fail, gatherResults, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..errors import BrokerUnavailable
from .redis_durable import DurableConnection
from .redis_faults import FATAL, KINDS, TEMPORARY, LinkCounters, Lost, Uncounted, word
from .redis_locate import Connector, Locator, Place
from .redis_protocol import Argument, Pending, RedisConnection, RedisError, SubscriberConnection

#: Bound (seconds) of the random time before the second try; it doubles up to the locator's `last_delay`.
FIRST_DELAY: Final = 0.05
#: A link that was up for so many seconds and is lost is tried again at once.
_STEADY: Final = 1.0
#: Seconds after which the oldest command in flight is given up, and the connection with it.
TIMEOUT: Final = 1.0
#: Seconds between two lines of the log that say why a link is not up.
_LOG_INTERVAL: Final = 10.0
#: Channels in one SUBSCRIBE.
_BATCH: Final = 500

_log: Final = Logger()


def _untold(link: str, command: tuple[Argument, ...], seconds: float) -> None:
    """Nobody wants to know."""


class Link:
    """One connection for commands that is kept alive.

    :param connector: connects to a place and logs in.
    :param locator: says which place.
    :param name: for CLIENT SETNAME, the log and the counters; of a closed set.
    :param on_up: called with the link when it can be used.
    :param on_down: called with the link when it can't be used any more, before the commands in flight
        fail.
    :param prepare: awaited with each new connection before the link is up.
    :param timeout: seconds after which the oldest command in flight is given up; the connection is
        dropped with it, and all that is in flight fails.
    :param slow: seconds from which `on_slow` is told of a command.
    :param on_slow: called with the link's name, a command and how many seconds its answer took.
    :param replicas: how many replicas must have what a command wrote before its reply is given; else it
        fails with `BrokerUnavailable`, though the primary has run it.
    :ivar run: the run id of the server that it is, or was last, connected to.
    :ivar up: whether commands are taken.
    :ivar place: where it is, or was last, connected to.
    :ivar trouble: why it is not up, in a word (see `redis_faults`); nothing while it is.
    """

    _connection: RedisConnection | None = None

    def __init__(
        self,
        connector: Connector,
        locator: Locator,
        *,
        name: str,
        on_up: Callable[[Any], None] | None = None,
        on_down: Callable[[Any], None] | None = None,
        prepare: Callable[[RedisConnection], Deferred[Any]] | None = None,
        timeout: float = TIMEOUT,
        slow: float = inf,
        on_slow: Callable[[str, tuple[Argument, ...], float], object] = _untold,
        replicas: int = 0,
        counters: LinkCounters | None = None,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self.run = ""
        self.up = False
        self.place: Place | None = None
        self.trouble = "stopped"
        self._connector = connector
        self._clock = connector.clock
        self._locator = locator
        self._on_up = on_up
        self._on_down = on_down
        self._prepare = prepare
        self._timeout = timeout
        self._slow = slow
        self._on_slow = on_slow
        self._replicas = replicas
        self._counters: LinkCounters = counters or Uncounted()
        self._random = rng
        self._running = False
        self._trying: Deferred[Any] | None = None
        self._retry: IDelayedCall | None = None
        self._failures = 0
        self._up_since = 0.0
        self._open: set[RedisConnection] = set()
        self._complained = False
        self._complaint = ""
        self._logged = 0.0

    # -- what it is for

    def command(self, *args: Argument) -> Deferred[Any]:
        """Run a command.

        :returns: its reply, raw: bytes, int, None or a list of such.
        :raises BrokerUnavailable: (as a failure) the link is not up, or was lost or timed out, in which
            cases the command may have run; or the server can't do it now, in which case it has not.
        :raises RedisError: the reply is another error.
        """
        if not self.up or self._connection is None:
            return fail(self.unavailable())
        return self._connection.command(*args)

    def repeatable(self, build: Callable[[], tuple[Argument, ...]]) -> Deferred[Any]:
        """Run a command that may be sent more than once, where the server refused it before running it.

        :param build: makes the command anew each time it is sent.
        """
        return self.command(*build())

    def unavailable(self) -> BrokerUnavailable:
        """The error of a command that can't be sent."""
        return BrokerUnavailable(retry_after=0.25 + self._random() * max(0.25, self._bound()))

    @property
    def clock_ahead(self) -> float:
        """Seconds by which the server's wall clock is ahead of the reactor's."""
        return (self._connection and self._connection.clock_ahead) or 0.0

    @property
    def key(self) -> str | None:
        """On a Cluster: the key whose slot the link follows."""
        return self._locator.key

    def ends(self) -> int:
        """When a command sent now will have timed out: milliseconds of the server's wall clock."""
        return int((self._clock.seconds() + self.clock_ahead + self._timeout) * 1000)

    def read_clock(self) -> Deferred[None]:
        """Look at the server's clock again."""
        return fail(self.unavailable()) if self._connection is None else self._connection.read_clock()

    @property
    def probe(self) -> tuple[float, float] | None:
        """How many seconds ago the server last answered a probe, and how many that took; None if not up."""
        connection = self._connection
        if not self.up or connection is None or connection.probed is None:
            return None
        return self._clock.seconds() - connection.probed, connection.round_trip

    @property
    def in_flight(self) -> int:
        """How many commands are not answered yet."""
        return 0 if self._connection is None else self._connection.in_flight

    # -- life

    def start(self) -> None:
        """Begin to connect, and to keep it so."""
        if not self._running:
            self._running = True
            self.trouble = "connecting"
            self._locator.follow(self._moved)
            self._try()

    def stop(self) -> Deferred[None]:
        """Disconnect. `on_down` is called if it was up, and nothing after the Deferred fires."""
        if self._running:
            self._running = False
            self._locator.unfollow(self._moved)
            self._give_up()
            self.drop("stopped")
            self.trouble = "stopped"
        if not self._open:
            return succeed(None)
        return gatherResults([connection.closed for connection in self._open]).addCallback(_none)

    def drop(self, why: str) -> None:
        """Give the present connection up, if there is one; another is made."""
        if self._connection is not None:
            self._connection.abort(why)

    def _give_up(self) -> None:
        """End what is being done to come up."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        trying, self._trying = self._trying, None
        if trying is not None:
            trying.cancel()

    def _moved(self) -> None:
        """The locator says that the server is another one now."""
        if self.up:
            self.drop("moved")
        else:
            self._give_up()
            self._try()

    def _try(self) -> None:
        self._retry = None
        self._trying = trying = Deferred.fromCoroutine(self._connect())
        trying.addCallbacks(self._came_up, self._failed, errbackArgs=(trying,))

    async def _connect(self) -> tuple[Place, RedisConnection]:
        place = await self._locator.locate()
        connection = self._new_connection()
        try:
            await self._connector.connect(place, connection)
            self._opened(connection)
            await self._greet(connection)
            if connection.lost:
                raise BrokerUnavailable()
        except BrokerUnavailable:
            connection.abort("lost")
            raise Lost(connection.why) from None
        except BaseException as failed:
            connection.abort(word(failed))
            raise
        return place, connection

    def _new_connection(self) -> Any:
        return self._make(DurableConnection if self._replicas else RedisConnection)

    def _make(self, kind: Callable[..., Any]) -> Any:
        connection: Any = kind(self._clock, self._timeout)
        connection.on_lost = lambda why: self._lost(connection, why)
        connection.on_error = lambda pending, error: self._refused(connection, pending, error)
        connection.slow = self._slow
        connection.on_slow = lambda pending, took: self._on_slow(self.name, pending.args, took)
        connection.on_sent = lambda count: self._counters.commands(self.name, count)
        return connection

    def _opened(self, connection: RedisConnection) -> None:
        self._open.add(connection)
        ended: Deferred[None] = Deferred()

        def closed(result: None) -> None:
            self._open.discard(connection)
            ended.callback(None)

        connection.closed.addCallback(closed)
        connection.closed = ended

    async def _greet(self, connection: Any) -> None:
        """All that is done before it is up."""
        await self._introduce(connection)

    async def _introduce(self, connection: Any) -> None:
        """Log in and see whom we speak to; all in one round trip, and whatever fails is raised."""
        first = [
            self._connector.log_in(connection),
            connection.command("CLIENT", "SETNAME", f"realtime-{self.name}"),
            connection.command("INFO", "server"),
            connection.read_clock(),
            # Unlike the others it is refused while data is being loaded, or a primary is missing.
            connection.command("PING"),
        ]
        told = await settled(first)
        server = _fields(told[2])
        self.run = server.get("run_id", "")
        rest = [self._locator.check(connection, server)]
        if self._prepare is not None:
            rest.append(self._prepare(connection))
        await settled(rest)

    def _came_up(self, found: tuple[Place, RedisConnection]) -> None:
        self._trying = None
        place, connection = found
        if isinstance(connection, DurableConnection):
            connection.hold(self._replicas)
        self._connection = connection
        self.place = place
        self._up_since = self._clock.seconds()
        self.trouble = ""
        self.up = True
        self._counters.connected(self.name)
        if self._complained:
            self._complained = False
            _log.info("Redis: {link} is connected", link=self.name, place=str(place))
        self._tell(self._on_up)

    def _lost(self, connection: RedisConnection, why: str) -> None:
        if connection is not self._connection:
            # One that was never up: who awaits its greeting is told.
            return
        self._connection = None
        self.up = False
        self.trouble = why
        if self._clock.seconds() - self._up_since >= _STEADY:
            self._failures = 0
        if why == "timeout":
            self._counters.error(self.name, "timeout")
        self._counters.disconnected(self.name)
        if self._running:
            self._complain(why)
            self._again()
        self._tell(self._on_down)

    def _tell(self, told: Callable[[Any], None] | None) -> None:
        if told is not None:
            try:
                told(self)
            except Exception:
                _log.failure("a user of a Redis link failed", link=self.name)

    def _failed(self, failure: Failure, trying: Deferred[Any]) -> None:
        if trying is not self._trying:
            # given up
            return
        self._trying = None
        failed = failure.value
        assert failed is not None
        if isinstance(failed, RedisError) and self._locator.hint(failed):
            self._again()
            return
        self.trouble = word(failed)
        if self.trouble == "failed":
            _log.failure("Redis: {link} could not be connected", failure, link=self.name)
        elif self.trouble == "error" and self._complaint != "error":
            _log.warn("Redis: {link} was answered {reply}", link=self.name, reply=str(failed)[:200])
        self._complain(self.trouble)
        self._again()

    def _again(self) -> None:
        delay = self._random() * self._bound() if self._failures else 0.0
        self._failures += 1
        self._retry = self._clock.callLater(delay, self._try)

    def _bound(self) -> float:
        """The longest time until the next try."""
        return (
            min(self._locator.last_delay, FIRST_DELAY * 2 ** min(self._failures - 1, 16))
            if self._failures
            else 0.0
        )

    def _complain(self, why: str) -> None:
        now = self._clock.seconds()
        if why == self._complaint and now - self._logged < _LOG_INTERVAL:
            return
        self._complained, self._complaint, self._logged = True, why, now
        _log.warn("Redis: {link} is not connected: {why}", link=self.name, why=why)

    def _refused(self, connection: RedisConnection, pending: Pending, error: RedisError) -> bool:
        """An error reply; whether it was taken care of."""
        if connection is not self._connection:
            return False
        self._counters.error(self.name, error.kind if error.kind in KINDS else "other")
        moved = self._locator.hint(error)
        if not moved and error.kind not in TEMPORARY and error.kind not in FATAL:
            return False
        if moved or error.kind in FATAL:
            self.drop("moved" if moved else error.kind.lower())
        pending.errback(self.unavailable())
        return True


class SubscriberLink(Link):
    """A connection for pub/sub that is kept alive, with all that was subscribed.

    After it was lost everything is subscribed again, and acknowledged, before it is up. What is
    published meanwhile on channels that are acknowledged already is heard before `on_up` is called.

    :param on_message: called with the channel and what was published on it.
    :param on_pmessage: called with the pattern, the channel, and what was published on it.
    :param sharded: whether channels are those of sharded pub/sub.
    """

    _connection: SubscriberConnection | None

    def __init__(
        self,
        connector: Connector,
        locator: Locator,
        *,
        on_message: Callable[[bytes, bytes], None] | None = None,
        on_pmessage: Callable[[bytes, bytes, bytes], None] | None = None,
        sharded: bool = False,
        **more: Any,
    ) -> None:
        super().__init__(connector, locator, **more)
        self._on_message = on_message
        self._on_pmessage = on_pmessage
        kind = b"subscribe"
        self._kind = b"s" + kind if sharded else kind
        self._wanted: dict[bytes, set[bytes]] = {self._kind: set(), b"psubscribe": set()}

    def subscribe(self, channels: Sequence[bytes]) -> Deferred[None]:
        """Listen on channels; fires once all are acknowledged.

        :raises BrokerUnavailable: (as a failure) the link is not up, or was lost: none of them is kept.
        :raises RedisError: it is not allowed.
        """
        return self._add(self._kind, channels)

    def psubscribe(self, patterns: Sequence[bytes]) -> Deferred[None]:
        """Listen on all channels that match one of the patterns."""
        return self._add(b"psubscribe", patterns)

    def unsubscribe(self, channels: Sequence[bytes]) -> Deferred[None]:
        """Listen on channels no more; fires once all are acknowledged, or at once if the link is not up."""
        return self._remove(self._kind, channels)

    def punsubscribe(self, patterns: Sequence[bytes]) -> Deferred[None]:
        """Listen on patterns no more."""
        return self._remove(b"psubscribe", patterns)

    @property
    def channels(self) -> frozenset[bytes]:
        """What is subscribed, or will be again when the link comes up."""
        return frozenset(self._wanted[self._kind])

    def _add(self, kind: bytes, channels: Sequence[bytes]) -> Deferred[None]:
        if not self.up or self._connection is None:
            return fail(self.unavailable())
        self._wanted[kind].update(channels)

        def forget(failure: Failure) -> Failure:
            self._wanted[kind].difference_update(channels)
            return failure

        return self._change(self._connection, kind, channels).addErrback(forget)

    def _remove(self, kind: bytes, channels: Sequence[bytes]) -> Deferred[None]:
        self._wanted[kind].difference_update(channels)
        if not self.up or self._connection is None:
            return succeed(None)
        return self._change(self._connection, _opposite(kind), channels).addErrback(_gone)

    def _change(
        self, connection: SubscriberConnection, kind: bytes, channels: Sequence[bytes]
    ) -> Deferred[None]:
        batches = [channels[start : start + _BATCH] for start in range(0, len(channels), _BATCH)]
        changes = [connection.change(kind, batch) for batch in batches]
        if len(changes) == 1:
            return changes[0]
        return settled(changes).addCallback(_none)

    def _new_connection(self) -> SubscriberConnection:
        connection: SubscriberConnection = self._make(SubscriberConnection)
        if self._on_message is not None:
            connection.on_message = self._on_message
        if self._on_pmessage is not None:
            connection.on_pmessage = self._on_pmessage
        connection.on_dropped = lambda channel: self._dropped(connection, channel)
        return connection

    async def _greet(self, connection: SubscriberConnection) -> None:
        await super()._greet(connection)
        done: dict[bytes, set[bytes]] = {kind: set() for kind in self._wanted}
        # What is unsubscribed meanwhile is subscribed already, or was not to be: until both agree.
        while any(self._wanted[kind] != done[kind] for kind in done):
            for kind, wanted in self._wanted.items():
                lacking, unwanted = list(wanted - done[kind]), list(done[kind] - wanted)
                done[kind] = set(wanted)
                await self._change(connection, kind, lacking)
                await self._change(connection, _opposite(kind), unwanted)

    def _dropped(self, connection: SubscriberConnection, channel: bytes) -> None:
        """A Cluster's node serves the channel no more."""
        if channel in self._wanted[self._kind] and not connection.lost:
            connection.abort("moved")


def _opposite(kind: bytes) -> bytes:
    return kind.replace(b"subscribe", b"unsubscribe")


def _gone(failure: Failure) -> None:
    """With the connection went its subscriptions."""
    failure.trap(BrokerUnavailable)


def _none(result: object) -> None:
    return None


def _fields(info: bytes) -> dict[str, str]:
    """The fields of an INFO."""
    lines = info.decode(errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))


def settled(waiting: Sequence[Deferred[Any]]) -> Deferred[list[Any]]:
    """All results once all have settled; the failure of the first in order that failed."""

    def told(results: list[tuple[bool, Any]]) -> list[Any]:
        for good, result in results:
            if not good:
                result.raiseException()
        return [result for _, result in results]

    return DeferredList(waiting, consumeErrors=True).addCallback(told)
