"""Presence: what others are told of a user, idle connections, and the two sweeps that keep it true."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from .broker.interface import IAnnouncer, IStateStore, Presence
from .connections import Connection, Connections, State
from .ids import unique_id
from .messages import Audience, Publication
from .periodic import Periodic

_log = Logger()

#: Connections that are found to be idle in one turn of the reactor.
BATCH: Final = 16


def status_payload(presence: Presence, time: int) -> bytes:
    """The payload of ``user:online``, ``user:offline`` and ``user:status_change``."""
    told: dict[str, Any] = {"userId": presence.user, "status": presence.shown}
    if presence.text is not None and presence.shown != "offline":
        told["text"] = presence.text
    told["timestamp"] = time
    return msgspec.json.encode(told)


def member_payload(presence: Presence) -> dict[str, Any]:
    """A user as members of a room see them: ``{userId, status, text?, metas}``."""
    hidden = presence.shown == "offline"
    told: dict[str, Any] = {"userId": presence.user, "status": presence.shown}
    if presence.text is not None and not hidden:
        told["text"] = presence.text
    told["metas"] = (
        []
        if hidden
        else [{"connectionId": meta.connection, "since": meta.since} for meta in presence.metas]
    )
    return told


@implementer(IAnnouncer)
class Announcer:
    """Writes what is published when somebody comes, goes, or changes status.

    :param wall: seconds since the epoch.
    :param told: called with each change of presence: the event, and its payload.
    """

    def __init__(
        self,
        wall: Callable[[], float],
        told: Callable[[str, bytes], object] = lambda event, data: None,
    ) -> None:
        self._wall = wall
        self._told = told

    def entered(self, user: str, room: str) -> Publication:
        return self._of_room("room:user_joined", user, room)

    def left(self, user: str, room: str) -> Publication:
        return self._of_room("room:user_left", user, room)

    def _of_room(self, event: str, user: str, room: str) -> Publication:
        now = int(self._wall() * 1000)
        data = msgspec.json.encode({"roomId": room, "userId": user, "timestamp": now})
        # Never to the user's own: whoever enters first or leaves last has no other connection there
        # live, and on recovery must not be told of a parting that a return has undone.
        audience = Audience(rooms=frozenset((room,)), except_users=frozenset((user,)))
        return Publication(event, data, audience, unique_id(now), now)

    def presence(self, before: Presence, after: Presence, rooms: frozenset[str]) -> Publication | None:
        if after.shown == before.shown and (after.text == before.text or after.shown == "offline"):
            return None
        if before.shown == "offline":
            event = "user:online"
        elif after.shown == "offline":
            event = "user:offline"
        else:
            event = "user:status_change"
        now = int(self._wall() * 1000)
        data = status_payload(after, now)
        self._told(event, data)
        # Who is about to be closed for good has no other connection left that should hear of it.
        excepted = frozenset() if after.metas else frozenset((after.user,))
        audience = Audience(rooms=rooms, except_users=excepted)
        return Publication(event, data, audience, unique_id(now), now, logged=False)


class PresenceService:
    """Marks idle connections, and runs the periodic sweeps.

    :param timeout: seconds of silence after which a connection is idle.
    :param interval: seconds between looks for idle connections.
    :param cleanup: seconds between sweeps of what has expired.
    :param sweep: what else is swept then.
    """

    def __init__(
        self,
        clock: IReactorTime,
        connections: Connections,
        store: IStateStore,
        *,
        timeout: float,
        interval: float,
        cleanup: float,
        sweep: Callable[[], object],
    ) -> None:
        self._clock = clock
        self._connections = connections
        self._store = store
        self._timeout = timeout
        self._sweep = sweep
        self._periodic = Periodic(clock, (interval, self._look_for_idle), (cleanup, self._clean_up))

    def start(self) -> None:
        """Begin the sweeps."""
        self._periodic.start()

    def stop(self) -> None:
        """End the sweeps."""
        self._periodic.stop()

    def active(self, connection: Connection) -> None:
        """The client has done something."""
        connection.active = self._clock.seconds()
        if connection.idle:
            connection.idle = False
            self._touch(connection)

    async def _look_for_idle(self) -> None:
        limit = self._clock.seconds() - self._timeout
        silent = [c for c in self._connections if c.active <= limit and not c.idle]
        for count, connection in enumerate(silent, 1):
            # Who came together falls silent together, and each is told to all rooms.
            if count % BATCH == 0:
                await deferLater(self._clock, 0)
            if connection.state is State.LIVE and connection.active <= limit:
                connection.idle = True
                self._touch(connection)

    def _touch(self, connection: Connection) -> None:
        self._store.touch(connection.owner, connection.idle).addErrback(_failed)

    def _clean_up(self) -> Deferred[None]:
        self._sweep()
        return self._store.sweep()


def _failed(failure: Any) -> None:
    _log.failure("presence could not be kept", failure)
