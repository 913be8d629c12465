"""Memberships: the rooms of a connection that come and go with its identity, and what it mutes there."""

from __future__ import annotations

from .broker.interface import IStateStore, Preferences
from .connections import Connection, Connections, State
from .errors import RealtimeError, RoomForbidden, RoomFull, TooManyRooms
from .messages import Identity, role_room, user_room
from .notices import Notices
from .rights import Rights
from .rooms import Rooms, check_number
from .session_rules import SessionRules


class Memberships:
    """Brings live connections into rooms and out of them, in the store and on this node."""

    def __init__(
        self,
        rules: SessionRules,
        *,
        store: IStateStore,
        connections: Connections,
        rooms: Rooms,
        rights: Rights,
        notices: Notices,
    ) -> None:
        self._rules = rules
        self._store = store
        self._connections = connections
        self._rooms = rooms
        self._rights = rights
        self._notices = notices

    def defaults(self, identity: Identity) -> tuple[dict[str, bool], list[RealtimeError]]:
        """The rooms that come with an identity, whether each is joined, and refusals of those too many."""
        rooms = {user_room(identity.user): False}
        rooms.update((role_room(role), False) for role in sorted(identity.roles))
        refused: list[RealtimeError] = []
        granted = 0
        for room in self._rights.granted_rooms(identity):
            if not self._rights.may_be_in(identity, room):
                refused.append(RoomForbidden(f"{room}: you may not join this room"))
            elif granted < self._rules.rooms:
                granted += room not in rooms
                rooms[room] = True
            else:
                refused.append(TooManyRooms(f"{room}: a connection may be in {self._rules.rooms} rooms"))
        return rooms, refused

    def full(self, room: str) -> RealtimeError:
        """The refusal of a room that comes with the identity."""
        return RoomFull(f"{room}: the room has {self._rules.members} members, as many as it may")

    async def join_defaults(self, connection: Connection) -> None:
        """Enter a live connection into the rooms of its identity in which it is not yet, and tell it."""
        identity = connection.identity
        assert identity is not None
        rooms, refused = self.defaults(identity)
        for room, joined in rooms.items():
            if room in (connection.joined if joined else connection.rooms):
                continue
            try:
                await self._join_default(connection, room, joined)
            except (RoomFull, TooManyRooms) as error:
                refused.append(type(error)(f"{room}: {error.message}"))
            if connection.state is not State.LIVE:
                # It ended meanwhile; whoever takes the session up is in the rooms that opened.
                return
        self._notices.refused(connection, refused)

    async def _join_default(self, connection: Connection, room: str, joined: bool) -> None:
        if joined:
            check_number(connection, self._rules.rooms)
        await self._store.join(connection.owner, connection.session_id, room, joined, self._rules.members)
        if connection.state is State.LIVE:
            self._rooms.enter(connection, room, joined)
            if joined:
                self._notices.joined(connection, room)

    async def recheck(self, connection: Connection) -> None:
        """Take a connection out of the rooms that its token, or the rules, do not open any more."""
        for room in list(connection.rooms):
            identity = connection.identity
            if identity is not None and not self._rights.may_be_in(identity, room):
                await self.leave(connection, room, RoomForbidden.code)

    async def leave(self, connection: Connection, room: str, reason: str | None = None) -> None:
        """Take a connection out of a room, and tell it.

        :param reason: why, as a refusal's code, if it was not the client's own wish.
        """
        joined = room in connection.joined
        await self._store.leave(connection.owner, connection.session_id, room)
        if connection.state is not State.LIVE:
            return
        self._rooms.remove(connection, room)
        if joined:
            self._notices.left(connection, room, reason)

    def mute(self, user: str, preferences: Preferences) -> None:
        """A user's preferences have changed: deliver by them from now on."""
        for connection in self._connections.of_user(user):
            self.prefer(connection, preferences)

    def prefer(self, connection: Connection, preferences: Preferences) -> None:
        """Deliver to a live connection by these from now on."""
        before = connection.muted_events, connection.muted_rooms
        connection.prefer(preferences)
        if before != (connection.muted_events, connection.muted_rooms):
            self._rooms.remute(connection)
