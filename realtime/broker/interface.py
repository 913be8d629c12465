"""IBroker, IStateStore, IDelivery: what the service needs of the bus between its nodes.

Every method that may have to wait returns a Deferred; it fails with `BrokerUnavailable` when the
bus is away. The memory implementation answers at once.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from twisted.internet.defer import Deferred
from zope.interface import Interface

from ..messages import Membership, Owner, Position, Publication, Published, Sequence, SessionRecord


class Page(msgspec.Struct, frozen=True, gc=False):
    """Some of a room's history, oldest first, and the place of the log's end."""

    publications: list[Publication]
    position: Position


class Joined(msgspec.Struct, frozen=True, gc=False):
    """The defined point at which a connection entered a room.

    :ivar first: whether it is its user's first connection in the room.
    """

    membership: Membership
    position: Position
    first: bool


class Meta(msgspec.Struct, frozen=True, gc=False):
    """The presence of one connection. `since` is milliseconds since the epoch."""

    connection: str
    since: int
    idle: bool = False


class Presence(msgspec.Struct, frozen=True, gc=False):
    """The presence of one user over all connections.

    :ivar status: what the user chose: ``online``, ``away``, ``busy`` or ``invisible``.
    :ivar changed: seconds (wall clock) of the last change that others could see.
    """

    user: str
    status: str
    text: str | None
    metas: tuple[Meta, ...]
    changed: float

    @property
    def shown(self) -> str:
        """The status that others see: invisible looks offline, idle everywhere is away."""
        if not self.metas or self.status == "invisible":
            return "offline"
        if self.status == "online" and all(meta.idle for meta in self.metas):
            return "away"
        return self.status


class Preferences(msgspec.Struct, frozen=True, gc=False):
    """What a user does not want to receive."""

    muted_events: frozenset[str] = frozenset()
    muted_rooms: frozenset[str] = frozenset()


class IDelivery(Interface):
    """Where a broker hands back what is to be delivered on this node, in sequence order."""

    def deliver(publication: Publication) -> None:
        """Give the publication to this node's connections. Never raises, never waits."""


class IBroker(Interface):
    """Takes publications, gives them one order, keeps the log, hands them to `IDelivery`."""

    def start(delivery: IDelivery) -> Deferred[None]:
        """Begin to deliver."""

    def stop() -> Deferred[None]:
        """Stop delivering; nothing is delivered after the Deferred fires."""

    def alive() -> bool:
        """Whether a publication would be taken now."""

    def sequence() -> Sequence:
        """The newest place that this node has delivered."""

    def publish(publication: Publication, key: str | None = None) -> Deferred[Published]:
        """Log (if it is to be logged) and deliver, as one step.

        A publication made while another is being delivered is delivered after it.

        :param key: idempotency key, scoped by the caller; within RECOVERY_WINDOW a second
            publication under the same key is not delivered and answers the first one's values.
        """

    def history(room: str, after: int | None, before: int | None, limit: int) -> Deferred[Page]:
        """At most `limit` publications of the room's history with after < offset < before.

        With `after` the oldest of them, else the newest; always oldest first.
        """

    def missed(room: str, position: Position) -> Deferred[list[Publication] | None]:
        """All of the room's history after a position; None if that is not surely all."""

    def recover(record: SessionRecord, since: Sequence, limit: int) -> Deferred[list[Publication] | None]:
        """All that the session missed after `since`, in sequence order, repeated once each.

        What is newer than `sequence` is not among it: that is still to be delivered. None if the log
        can't prove that it is all, or if it is over `limit` bytes.
        """


class IAnnouncer(Interface):
    """Writes the publications that tell others of a change, so that a store can publish them with it."""

    def entered(user: str, room: str) -> Publication:
        """The user's first connection entered a room."""

    def left(user: str, room: str) -> Publication:
        """The user's last connection left a room."""

    def presence(before: Presence, after: Presence, rooms: frozenset[str]) -> Publication | None:
        """The user's presence changed; None if others see no difference. `rooms` share it."""


class IStateStore(Interface):
    """Sessions, memberships, presence and preferences, shared by all nodes.

    A change that others see and the publication that announces it (see `IAnnouncer`) are one step.
    What names an `Owner` does nothing, and says so, when another generation owns the entry by now.
    """

    def open(owner: Owner, session: str, limit: int) -> Deferred[None]:
        """Begin a session: count the connection as one of its user's, and open its record.

        Of the user's sessions that wait to be taken up, those longest ago that are over `limit` end.

        :raises TooManyConnections: the user has `limit` connections already.
        """

    def join(owner: Owner, session: str, room: str, joined: bool, limit: int) -> Deferred[Joined]:
        """Enter the session into a room and its record; repeating it changes nothing.

        :raises RoomFull: `limit` users are in the room already.
        """

    def leave(owner: Owner, session: str, room: str) -> Deferred[bool]:
        """Take the session out of a room and its record; True if it was in it."""

    def attach(owner: Owner, since: int) -> Deferred[Presence]:
        """The connection is present, since `since` milliseconds since the epoch."""

    def withdraw(owner: Owner, session: str) -> Deferred[None]:
        """The connection is present no more: out of presence, then out of its rooms.

        The record keeps its rooms.
        """

    def suspend(owner: Owner, session: str, last_seen: float) -> Deferred[None]:
        """The transport is gone: the record lives RECOVERY_WINDOW longer.

        The connection no longer counts against its user's limit. It stays present until withdrawn.
        """

    def forget(owner: Owner, session: str) -> Deferred[None]:
        """End a session: nobody can take it up."""

    def forget_user(user: str) -> Deferred[None]:
        """End all sessions of a user as one change, those that wait to be taken up among them."""

    def record(session: str) -> Deferred[SessionRecord | None]:
        """The record of a session that can be taken up."""

    def take_over(record: SessionRecord, limit: int, room_limit: int) -> Deferred[Owner | None]:
        """Take up a session: its generation is raised, its connection counted and in its rooms again.

        :returns: the new owner; None if the record is not as it was read.
        :raises TooManyConnections: the connection was gone, and the user has `limit` others.
        :raises RoomFull: one of its rooms, left meanwhile, is full.
        """

    def members(room: str) -> Deferred[list[Presence]]:
        """Who is in a room, those who joined first first."""

    def changed(rooms: frozenset[str], since: float) -> Deferred[list[Presence]]:
        """Who is in any of the rooms and has `Presence.changed` at or after `since`; each once."""

    def rooms() -> Deferred[Mapping[str, int]]:
        """Joined rooms, and how many users each has."""

    def rooms_of(user: str) -> Deferred[frozenset[str]]:
        """The rooms that a user has joined, over all connections."""

    def touch(owner: Owner, idle: bool) -> Deferred[None]:
        """Set whether a connection is idle."""

    def choose(user: str, status: str, text: str | None) -> Deferred[Presence]:
        """Set the status that a user chose; kept while the user is present."""

    def presence(user: str) -> Deferred[Presence]:
        """The presence of a user; one without metas for a user who is not connected."""

    def preferences(user: str) -> Deferred[Preferences]:
        """The preferences of a user."""

    def prefer(user: str, preferences: Preferences) -> Deferred[None]:
        """Keep the preferences of a user."""

    def sweep() -> Deferred[None]:
        """Drop what has expired."""
