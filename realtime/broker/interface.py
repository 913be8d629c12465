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


class Recovered(msgspec.Struct, frozen=True, gc=False):
    """What a session missed, in sequence order, and up to where that was read."""

    publications: list[Publication]
    until: Sequence


class Limits(msgspec.Struct, frozen=True, gc=False):
    """How many connections a user may have, and a room users."""

    connections: int
    members: int


class Begun(msgspec.Struct, frozen=True, gc=False):
    """The defined point at which a session began.

    :ivar sequence: it.
    :ivar full: those of its rooms that it is not in, for they are full.
    :ivar preferences: its user's.
    """

    sequence: Sequence
    full: frozenset[str]
    preferences: Preferences


class Restored(msgspec.Struct, frozen=True, gc=False):
    """The defined point at which a session was taken up.

    :ivar owner: who holds it now.
    :ivar missed: what came after `Recovered.until` and before that point.
    :ivar sequence: the point.
    """

    owner: Owner
    missed: list[Publication]
    sequence: Sequence
    preferences: Preferences


class Held(msgspec.Struct, frozen=True, gc=False):
    """A live session as its node knows it; `rooms` says which were joined, `since` is milliseconds."""

    owner: Owner
    session: str
    rooms: dict[str, bool]
    since: int
    idle: bool


class Kept(msgspec.Struct, frozen=True, gc=False):
    """What became of a `Held` session when the store was compared with it.

    :ivar owner: who holds it now: the same connection, perhaps under a later generation; None if it
        was taken up elsewhere, or has ended.
    :ivar full: rooms in which it had no place any more.
    :ivar preferences: its user's; None if the store may have lost them.
    """

    owner: Owner | None
    full: frozenset[str] = frozenset()
    preferences: Preferences | None = None


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

    def wants(channel: str) -> bool:
        """Whether a connection of this node is in the channel's room."""


class IPeer(Interface):
    """What a broker tells its node beside publications. None of it raises or waits."""

    def reset(channels: frozenset[str] | None) -> None:
        """What was missed can't be proved to be all, in these channels or (None) in any.

        Whoever is in one has to load anew what it shows.
        """

    def signalled(name: str, data: bytes) -> None:
        """A node (perhaps this one) has sent a signal."""

    def displaced(owner: Owner) -> None:
        """Another node has taken up this session."""

    def returned(lost: bool) -> None:
        """The store was away, and is to be compared with what lives here (`IStateStore.compare`)."""


class IBroker(Interface):
    """Takes publications, gives them one order, keeps the log, hands them to `IDelivery`."""

    def start(delivery: IDelivery, peer: IPeer) -> Deferred[None]:
        """Begin to deliver; fires at the first time that the bus is there."""

    def stop() -> Deferred[None]:
        """Stop delivering; nothing is delivered after the Deferred fires."""

    def alive() -> bool:
        """Whether a publication would be taken now."""

    def causes() -> list[str]:
        """Why not: stable words; empty if it would."""

    def sequence() -> Sequence:
        """The newest place that this node has delivered."""

    def publish(publication: Publication, key: str | None = None) -> Deferred[Published]:
        """Log (if it is to be logged) and deliver, as one step.

        A publication made while another is being delivered is delivered after it.

        A receipt is opened with it if it has `Publication.receipt` (`receipts.IReceiptStore`).

        :param key: idempotency key, scoped by the caller; within RECOVERY_WINDOW a second
            publication under the same key is not delivered and answers the first one's values.
        """

    def release(channel: str) -> None:
        """No connection of this node is in the channel's room any more."""

    def signal(name: str, data: bytes) -> Deferred[None]:
        """Tell all nodes, this one too (`IPeer.signalled`); not kept for who is away."""

    def history(room: str, after: int | None, before: int | None, limit: int) -> Deferred[Page]:
        """At most `limit` publications of the room's history with after < offset < before.

        With `after` the oldest of them, else the newest; always oldest first.
        """

    def remove(room: str, offset: int | None) -> Deferred[int]:
        """Take the publication with this offset, or (None) all, out of the room's history.

        The log of what was sent keeps them, for those who come back.

        :returns: how many that were.
        """

    def missed(room: str, position: Position) -> Deferred[list[Publication] | None]:
        """All of the room's history after a position; None if that is not surely all."""

    def recover(record: SessionRecord, since: Sequence, limit: int) -> Deferred[Recovered | None]:
        """All that the session missed after `since`, in sequence order, repeated once each.

        What is newer than `Recovered.until` is not among it: that is still to be delivered. None if
        the log can't prove that it is all, or if it is over `limit` bytes.
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

    def start(peer: IPeer) -> Deferred[None]:
        """Begin to hold what this node has in it."""

    def stop() -> Deferred[None]:
        """Give up what this node has in it, at the end of a drain."""

    def begin(
        owner: Owner, session: str, rooms: Mapping[str, bool], since: int, limits: Limits
    ) -> Deferred[Begun]:
        """Begin a session: count the connection as one of its user's, open its record, enter its rooms
        (the value says whether as a member), and be present since `since` (milliseconds).

        Of the user's sessions that wait to be taken up, those longest ago that are over the limit end.

        :raises TooManyConnections: the user has as many connections as allowed.
        """

    def join(owner: Owner, session: str, room: str, joined: bool, limit: int) -> Deferred[Joined]:
        """Enter the session into a room and its record; repeating it changes nothing.

        :raises RoomFull: `limit` users are in the room already.
        """

    def leave(owner: Owner, session: str, room: str) -> Deferred[bool]:
        """Take the session out of a room and its record; True if it was in it."""

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

    def forget_user(user: str) -> Deferred[frozenset[str]]:
        """End all sessions of a user as one change, those that wait to be taken up among them.

        :returns: the ids of the connections that were live.
        """

    def expel(user: str, room: str) -> Deferred[frozenset[str]]:
        """Take all sessions of a user out of a room, and it out of their records, as one change.

        :returns: the ids of the connections that were live in it; those that wait are out of it too.
        """

    def record(session: str) -> Deferred[SessionRecord | None]:
        """The record of a session that can be taken up."""

    def take_over(
        record: SessionRecord, read: Recovered, since: int, limits: Limits
    ) -> Deferred[Restored | None]:
        """Take up a session under a new generation; its connection is counted, in its rooms, and present.

        :param read: what was recovered so far.
        :param since: when it became present, if it was not any more; milliseconds.
        :returns: None if the record is not as it was read, or the log can't prove the rest.
        :raises TooManyConnections: the connection was gone, and the user has as many as allowed.
        :raises RoomFull: one of its rooms, left meanwhile, is full.
        """

    def compare(held: list[Held], lost: bool) -> Deferred[list[Kept]]:
        """Put the store in step with all live sessions of this node, after it was away.

        What it has of this node's and is not live ends.

        :param lost: whether the store may have lost what it had: what it lacks is written anew. Else
            a session that it lacks was ended by another node.
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
