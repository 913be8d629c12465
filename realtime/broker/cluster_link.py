"""`ClusterLink`: a link whose commands are repeated where a Redis Cluster redirects or defers them.

====================================  ===============================================================
reply                                 what is done
====================================  ===============================================================
MOVED                                 the link goes to the slot's new node, and the command with it
ASK                                   a plain command is sent there, once, after ASKING
TRYAGAIN, CLUSTERDOWN                 the command is sent again a little later
a script that misses keys (ASK, or    the same: on the new node it would take keys that have not
"non local key")                      moved yet for keys that do not exist
====================================  ===============================================================

All of these mean that the command has not run. After `DEADLINE` it fails as temporary.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from ..errors import BrokerUnavailable
from .cluster import ClusterLocator
from .redis_faults import KINDS
from .redis_link import Link, settled
from .redis_locate import Connector, Place, Unlocated
from .redis_protocol import MAX_IN_FLIGHT, Argument, Pending, RedisConnection, RedisError

#: Seconds in which a command is repeated.
DEADLINE: Final = 2.0
#: Seconds between two repetitions.
_PAUSE: Final = 0.05
#: Connections at a time for commands that are sent aside; further ones wait for their repetition.
_ASIDES: Final = 8
_SCRIPTS: Final = frozenset(("EVAL", "EVALSHA"))
_ASK: Final = re.compile(r"ASK \d+ (?P<host>.*):(?P<port>\d+)")
#: What a script replies that met another node's key, or a cluster that is down.
_NOT_LOCAL: Final = ("Script attempted to access a non local key", "while the cluster is down")


class _Repeatable(Pending):
    """A command with what is needed to send it again.

    :ivar build: makes it anew.
    :ivar until: when it is given up, on the reactor's clock.
    """

    build: Callable[[], tuple[Argument, ...]]
    until: float


class ClusterLink(Link):
    """A connection for commands to the primary of one slot.

    The order of commands in flight is not kept over a repetition.
    """

    _locator: ClusterLocator

    def __init__(self, connector: Connector, locator: ClusterLocator, **more: Any) -> None:
        super().__init__(connector, locator, **more)
        self._deferred: list[_Repeatable] = []
        self._repeating: IDelayedCall | None = None
        self._moving = False
        self._leaving: IDelayedCall | None = None
        self._looking: Deferred[Any] | None = None
        self._asides = 0

    def command(self, *args: Argument) -> Deferred[Any]:
        return self.repeatable(lambda: args)

    def repeatable(self, build: Callable[[], tuple[Argument, ...]]) -> Deferred[Any]:
        if not self.up and not self._moving:
            return fail(self.unavailable())
        pending = _Repeatable()
        pending.build = build
        pending.until = self._clock.seconds() + DEADLINE
        if self._moving:
            self._defer(pending)
        else:
            self._send(pending)
        return pending

    def stop(self) -> Deferred[None]:
        for call in (self._leaving, self._repeating):
            if call is not None:
                call.cancel()
        self._leaving = self._repeating = None
        if self._looking is not None:
            self._looking.cancel()
        self._moving = False
        deferred, self._deferred = self._deferred, []
        stopped = super().stop()
        for pending in deferred:
            pending.errback(self.unavailable())
        return stopped

    def _send(self, pending: _Repeatable) -> None:
        assert self._connection is not None
        pending.args = pending.build()
        self._connection.send(pending)

    # -- what comes back

    def _refused(self, connection: RedisConnection, pending: Pending, error: RedisError) -> bool:
        if connection is not self._connection or not isinstance(pending, _Repeatable):
            return super()._refused(connection, pending, error)
        asked = _ASK.match(error.text)
        if self._locator.hint(error):
            self._move()
        elif asked is not None and pending.args[0] not in _SCRIPTS and self._asides < _ASIDES:
            self._count(error)
            self._send_aside(pending, Place(asked["host"] or self._host(), int(asked["port"])))
            return True
        elif asked is not None or error.kind in ("TRYAGAIN", "CLUSTERDOWN") or _not_local(error):
            self._look()
        else:
            return super()._refused(connection, pending, error)
        self._count(error)
        self._defer(pending)
        return True

    def _count(self, error: RedisError) -> None:
        self._counters.error(self.name, error.kind if error.kind in KINDS else "other")

    def _host(self) -> str:
        return "" if self.place is None else self.place.host

    def _move(self) -> None:
        """Go to another node, once the commands in flight on this one are answered."""
        if not self._moving:
            self._moving = True
            ends = self._clock.seconds() + self._timeout
            self._leaving = self._clock.callLater(0, self._leave, ends)

    def _leave(self, ends: float) -> None:
        self._leaving = None
        if self.in_flight and self._clock.seconds() < ends:
            self._leaving = self._clock.callLater(_PAUSE / 5, self._leave, ends)
        else:
            self.drop("moved")

    def _look(self) -> None:
        """See whether the slot has another node by now."""
        if self._looking is None:
            self._looking = self._locator.ask()
            self._looking.addCallbacks(self._found, _nowhere).addBoth(self._looked)

    def _found(self, place: Place) -> None:
        if self.up and place != self.place:
            self._move()

    def _looked(self, result: object) -> None:
        self._looking = None

    # -- repetitions

    def _defer(self, pending: _Repeatable) -> None:
        if len(self._deferred) >= MAX_IN_FLIGHT:
            pending.errback(self.unavailable())
            return
        self._deferred.append(pending)
        if self._repeating is None:
            self._repeating = self._clock.callLater(_PAUSE, self._repeat)

    def _repeat(self) -> None:
        self._repeating = None
        deferred, self._deferred = self._deferred, []
        now = self._clock.seconds()
        for pending in deferred:
            if now >= pending.until or not self._running:
                pending.errback(self.unavailable())
            elif self.up and not self._moving:
                self._send(pending)
            else:
                self._deferred.append(pending)
        if self._deferred and self._repeating is None:
            self._repeating = self._clock.callLater(_PAUSE, self._repeat)

    def _came_up(self, found: tuple[Place, RedisConnection]) -> None:
        self._moving = False
        super()._came_up(found)
        if self._repeating is not None:
            self._repeating.cancel()
            self._repeat()

    def _lost(self, connection: RedisConnection, why: str) -> None:
        if connection is self._connection:
            # Only a move that was meant to be lets commands wait for its end.
            self._moving = self._moving and why == "moved" and self._running
        super()._lost(connection, why)

    def _failed(self, failure: Failure, trying: Deferred[Any]) -> None:
        self._moving = False
        super()._failed(failure, trying)

    # -- ASK

    def _send_aside(self, pending: Pending, place: Place) -> None:
        """Send a command, once, to the node that its slot is moving to."""

        def failed(failure: Failure) -> None:
            pending.errback(failure if failure.check(RedisError) else self.unavailable())

        self._asides += 1
        answered = Deferred.fromCoroutine(self._ask(place, pending.args))
        answered.addCallbacks(pending.callback, failed)

    async def _ask(self, place: Place, args: tuple[Argument, ...]) -> Any:
        connection = RedisConnection(self._clock, self._timeout)
        try:
            await self._connector.connect(place, connection)
            self._opened(connection)
            sent = [
                self._connector.log_in(connection),
                connection.command("ASKING"),
                connection.command(*args),
            ]
            if self._replicas:
                sent.append(connection.command("WAIT", self._replicas, int(self._timeout * 300)))
            replies = await settled(sent)
        finally:
            self._asides -= 1
            connection.abort()
        if self._replicas and replies[3] < self._replicas:
            raise BrokerUnavailable()
        return replies[2]


def _nowhere(failure: Failure) -> None:
    """Then it is asked again when the next command is deferred."""
    failure.trap(Unlocated, CancelledError)


def _not_local(error: RedisError) -> bool:
    return any(part in error.text for part in _NOT_LOCAL)
