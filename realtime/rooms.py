"""Rooms: which of this node's connections are in which room, who mutes what, who types."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Final, TypeAlias

from twisted.internet.interfaces import IReactorTime

from .connections import Connection, IBatch, IOutlet
from .deadlines import Deadlines
from .errors import TooManyRooms
from .messages import EVERYONE, Publication

#: Stands among the muted events of a connection that has muted a whole room.
ALL: Final = frozenset({"*"})


def check_number(connection: Connection, limit: int) -> None:
    """Refuse one more joined room to a connection that has `limit` already.

    :raises TooManyRooms: it has.
    """
    if len(connection.joined) >= limit:
        raise TooManyRooms(f"a connection may be in {limit} rooms")


def mutes(connection: Connection, publication: Publication) -> bool:
    """Whether a connection that is in no `Rooms` yet has muted a publication."""
    if publication.event in connection.muted_events:
        return True
    if not connection.muted_rooms:
        return False
    reached = publication.audience.targets & connection.rooms
    return bool(reached) and reached <= connection.muted_rooms


class Group:
    """Connections of one encoding, which get the same frames.

    :ivar batch: what they are sent alike in this turn of the reactor; nothing where it is None or over.
    :ivar apart: the outlets of those that `batch` is not for; of the first `seen` members.
    """

    __slots__ = ("apart", "batch", "members", "seen")

    def __init__(self, first: Connection) -> None:
        self.members = [first]
        self.batch: IBatch | None = None
        self.apart: list[IOutlet] = []
        self.seen = 0


#: By the encoding.
Groups: TypeAlias = dict[Hashable, Group]


def _add(groups: Groups, connection: Connection) -> None:
    group = groups.get(connection.encoding)
    if group is None:
        groups[connection.encoding] = Group(connection)
    else:
        group.members.append(connection)


def grouped(connections: Iterable[Connection]) -> Groups:
    """Connections by their encoding."""
    groups: Groups = {}
    for connection in connections:
        _add(groups, connection)
    return groups


class Room:
    """The connections of this node in one room.

    :ivar muting: for those that mute something here, the events they mute (`ALL` for all).
    """

    __slots__ = ("_groups", "members", "muting")

    def __init__(self) -> None:
        self.members: dict[Connection, None] = {}
        self.muting: dict[Connection, frozenset[str]] = {}
        # Made by the first delivery and kept for those after it; None where it is to be made anew.
        self._groups: Groups | None = None

    @property
    def groups(self) -> Groups:
        """The members by their encoding. Who goes through them must copy them: members come and go."""
        groups = self._groups
        if groups is None:
            groups = grouped(self.members)
            # The rooms of single users are many, and would keep it for nothing.
            self._groups = groups if len(self.members) > 1 else None
        return groups

    def add(self, connection: Connection) -> None:
        """A connection is in the room from now on."""
        groups = self._groups
        if groups is not None and connection not in self.members:
            _add(groups, connection)
        self.members[connection] = None

    def remove(self, connection: Connection) -> None:
        """A connection is in the room no more."""
        self.members.pop(connection, None)
        self.muting.pop(connection, None)
        self._groups = None

    def regroup(self) -> None:
        """The encoding of a member has changed."""
        self._groups = None

    def deaf_to(self, event: str) -> set[Connection]:
        """The members that have muted the event here."""
        return {connection for connection, muted in self.muting.items() if muted is ALL or event in muted}


class Rooms:
    """This node's index of rooms. `everyone` is the room of all live connections.

    :param emptied: called with a room that no connection of this node is in any more.
    """

    def __init__(self, emptied: Callable[[str], object] = lambda room: None) -> None:
        self._emptied = emptied
        self._rooms: dict[str, Room] = {}
        self.everyone = Room()

    def get(self, room: str) -> Room | None:
        """The room, if a connection of this node is in it."""
        return self._rooms.get(room)

    def __len__(self) -> int:
        return len(self._rooms)

    @property
    def memberships(self) -> int:
        """How many places in rooms the connections of this node have."""
        return sum(len(room.members) for room in self._rooms.values())

    def enter(self, connection: Connection, room: str, joined: bool) -> None:
        """Deliver the room's publications to the connection from now on."""
        entered = self._rooms.get(room)
        if entered is None:
            entered = self._rooms[room] = Room()
        entered.add(connection)
        connection.places = self
        connection.rooms.add(room)
        if joined:
            connection.joined.add(room)
        self._mute(connection, room, entered)

    def remove(self, connection: Connection, room: str) -> None:
        """Deliver no more of the room to the connection."""
        connection.rooms.discard(room)
        connection.joined.discard(room)
        left = self._rooms.get(room)
        if left is not None:
            left.remove(connection)
            if not left.members:
                del self._rooms[room]
                self._emptied(room)

    def admit(self, connection: Connection) -> None:
        """Deliver what is for everyone to the connection from now on."""
        self.everyone.add(connection)
        connection.places = self
        self._mute(connection, EVERYONE, self.everyone)

    def dismiss(self, connection: Connection) -> None:
        """Deliver nothing to the connection any more."""
        self.everyone.remove(connection)
        for room in list(connection.rooms):
            self.remove(connection, room)
        connection.places = None

    def reencoded(self, connection: Connection) -> None:
        """See `IPlaces`."""
        self.everyone.regroup()
        for name in connection.rooms:
            room = self._rooms.get(name)
            if room is not None:
                room.regroup()

    def remute(self, connection: Connection) -> None:
        """The connection's muted events or rooms have changed."""
        self._mute(connection, EVERYONE, self.everyone)
        for name in connection.rooms:
            room = self._rooms.get(name)
            if room is not None:
                self._mute(connection, name, room)

    def _mute(self, connection: Connection, name: str, room: Room) -> None:
        if name in connection.muted_rooms:
            room.muting[connection] = ALL
        elif connection.muted_events:
            room.muting[connection] = connection.muted_events
        else:
            room.muting.pop(connection, None)


class Typing:
    """Who is typing where; each ends by itself.

    :param timeout: seconds after which somebody who says nothing more has stopped.
    :param stopped: called with user and room when typing ends by itself.
    """

    def __init__(self, clock: IReactorTime, timeout: float, stopped: Callable[[str, str], object]) -> None:
        self._stopped = stopped
        self._typing: set[tuple[str, str]] = set()
        self._deadlines: Deadlines[tuple[str, str]] = Deadlines(clock, timeout, self._expired)

    def start(self, user: str, room: str) -> bool:
        """The user types, or goes on typing; True if that is news."""
        key = (user, room)
        self._deadlines.start(key)
        if key in self._typing:
            return False
        self._typing.add(key)
        return True

    def stop(self, user: str, room: str) -> bool:
        """The user has stopped; True if that is news."""
        key = (user, room)
        if key not in self._typing:
            return False
        self._typing.discard(key)
        self._deadlines.cancel(key)
        return True

    def _expired(self, key: tuple[str, str]) -> None:
        self._typing.discard(key)
        self._stopped(*key)
