"""Moving: what the nodes do when a service takes a user out of a room, or puts them into another."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from . import signals
from .broker.interface import IBroker, IStateStore
from .connections import Connection, Connections, State
from .errors import Close, RealtimeError
from .notices import Notices
from .rights import Rights
from .rooms import Rooms, check_number
from .signals import Removed

_log = Logger()


class Moving:
    """Takes users out of rooms.

    :param members: users per room.
    :param max_rooms: joined rooms per connection.
    """

    def __init__(
        self,
        *,
        broker: IBroker,
        store: IStateStore,
        connections: Connections,
        rooms: Rooms,
        rights: Rights,
        notices: Notices,
        members: int,
        max_rooms: int,
    ) -> None:
        self._broker = broker
        self._store = store
        self._connections = connections
        self._rooms = rooms
        self._rights = rights
        self._notices = notices
        self._members = members
        self._max_rooms = max_rooms

    async def kick(self, user: str, room: str, reason: str = "", to: str = "") -> int:
        """Take all sessions of a user out of a room, on all nodes; how many connections that were.

        They may come back, unless the rules of the room do not let them.

        :param reason: what they are told; without one, ``kicked``.
        :param to: the room into which those that are live are put, if they may be in it.
        """
        self._rights.check_name(room)
        if to:
            self._rights.check_name(to)
        connections = await self._store.expel(user, room)
        if connections:
            removed = Removed(user, room, tuple(sorted(connections)), reason or Close.KICKED.reason, to)
            await self._broker.signal(*signals.encode(removed))
        return len(connections)

    def removed(self, removed: Removed) -> None:
        """Sessions were taken out of a room: let their connections here know, and hear no more of it."""
        for connection in self._connections.of_user(removed.user):
            if connection.id not in removed.connections or connection.state is not State.LIVE:
                continue
            if removed.room in connection.rooms:
                self._rooms.remove(connection, removed.room)
                self._notices.left(connection, removed.room, removed.reason)
            if removed.to:
                moving = Deferred.fromCoroutine(self._put(connection, removed.to))
                moving.addErrback(self._refused, connection)

    async def _put(self, connection: Connection, room: str) -> None:
        identity = connection.identity
        if identity is None or room in connection.joined:
            return
        self._rights.check_join(identity, room)
        check_number(connection, self._max_rooms)
        await self._store.join(connection.owner, connection.session_id, room, True, self._members)
        if connection.state is State.LIVE and room not in connection.joined:
            self._rooms.enter(connection, room, True)
            self._notices.joined(connection, room)

    def _refused(self, failure: Failure, connection: Connection) -> None:
        if isinstance(failure.value, RealtimeError):
            if connection.state is State.LIVE:
                self._notices.refused(connection, [failure.value])
        else:
            _log.failure("a user could not be moved", failure)
