"""Connections: one client session each, the ways out of them, and the registry that finds them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from enum import Enum
from typing import Final, Protocol

from zope.interface import Attribute, Interface

from .broker.interface import Preferences
from .errors import Close
from .messages import Command, Handshake, Identity, Owner
from .wire.session import Frame, ISession


class IBatch(Interface):
    """What many connections are sent alike during one turn of the reactor."""

    over = Attribute("bool. Whether it was sent: nothing can be added any more.")

    def add(data: bytes) -> tuple[IOutlet, ...]:
        """Send this to all that are attached.

        :returns: those that were, and are no more: they are to be written to.
        """


class IOutlet(Interface):
    """The way out of one connection."""

    transport = Attribute("str. 'websocket' or 'polling': how frames leave now.")
    buffered = Attribute("int. Bytes written and not yet taken by the transport; replay not counted.")
    behind = Attribute("bool. Whether something waits that the client does not take now.")
    owes_pong = Attribute("bool. Whether the client was pinged and has not answered for a while.")

    def write(frame: Frame) -> None:
        """Send a frame, after all that was written before. Does nothing once closed.

        One that has a `Frame.newest`, and has to wait, takes the place of an older one that waits.
        """

    def attach(batch: IBatch) -> bool:
        """Send what is added to a batch, as if it were written; False if it has to be written."""

    def detach(batch: IBatch) -> None:
        """Send no more of what is added to a batch."""

    def replay(frames: Iterable[Frame]) -> None:
        """Send frames at the pace of the transport; what is written later goes after them.

        They do not count as buffered.
        """

    def when_taken(taken: Callable[[], object]) -> None:
        """Call once the transport has taken all that was written until now: at once, if it has.

        Not called if the connection ends before.
        """

    def close(close: Close) -> None:
        """End the transport after what was written; the peer learns the reason where it can."""

    def pause_reading() -> None:
        """Take nothing more from the client until `resume_reading`."""

    def resume_reading() -> None:
        """Read on."""


class IWatch(Interface):
    """Who looks at the events of one connection."""

    def received(event: str, data: bytes) -> None:
        """The client sent an event; `data` is raw JSON."""


class IFlushed(Interface):
    """Who collects writes during a turn of the reactor."""

    def flush() -> int:
        """Write what was collected; returns to how many sockets."""


class IFlusher(Interface):
    """Ends each turn of the reactor with one write for each socket."""

    def add(flushed: IFlushed) -> None:
        """Flush this one when the turn ends."""

    def batch() -> IBatch:
        """A new batch of this turn."""


class IReceiver(Interface):
    """What a transport hands the messages of one client to."""

    def received(data: str | bytes) -> None:
        """One message of the client. Never raises."""

    def closed(reason: str) -> None:
        """The transport is gone: said once, whoever ended it. `reason` is a stable word."""


class IPlaces(Protocol):
    """What knows in which rooms connections are."""

    def reencoded(self, connection: Connection) -> None:
        """The `encoding` of a connection has changed."""


class State(Enum):
    """Where a connection is in its life (DESIGN.md section 4)."""

    OPENING = "opening"  # the transport is open, nothing was said
    ANONYMOUS = "anonymous"  # connected without a token: may only log in
    LIVE = "live"
    LEFT = "left"  # the client has ended its session; it may begin another on the same transport
    ENDED = "ended"


#: What a connection without muted events holds: one object for all.
NOTHING_MUTED: Final[frozenset[str]] = frozenset()


class Connection:
    """One client session of any protocol.

    :ivar id: its public id.
    :ivar session_id: the secret id by which its session is taken up after a cut.
    :ivar encoding: that of its session, kept here since deliveries look at it; see `reencode`.
    :ivar places: who is to be told when that changes; None while it is in no room.
    :ivar rooms: what it is in: joined rooms and those joined for it.
    :ivar joined: those of `rooms` that it, or its token, asked for.
    :ivar parked: commands that wait for an earlier one; None while none is being waited for.
    :ivar tat: theoretical arrival time of its rate limit, seconds on the monotonic clock.
    :ivar since: when it became live, milliseconds since the epoch.
    :ivar watches: who is told of each of its events; nobody, but while somebody looks at them.
    :ivar active: when it last sent an event, seconds on the monotonic clock.
    """

    __slots__ = (
        "active",
        "encoding",
        "generation",
        "handshake",
        "id",
        "identity",
        "idle",
        "joined",
        "muted_events",
        "muted_rooms",
        "outlet",
        "parked",
        "places",
        "rooms",
        "session",
        "session_id",
        "since",
        "state",
        "tat",
        "warned",
        "watches",
    )

    def __init__(self, session: ISession, outlet: IOutlet, handshake: Handshake, now: float) -> None:
        self.session = session
        self.encoding: Hashable = None
        self.places: IPlaces | None = None
        self.outlet = outlet
        self.handshake = handshake
        self.parked: deque[Command] | None = None
        self.tat = 0.0
        self.watches: tuple[IWatch, ...] = ()
        self.begin(now)

    def begin(self, now: float) -> None:
        """Be nobody yet: at first, and when a client that has left begins anew on its transport."""
        self.id = ""
        self.session_id = ""
        self.generation = 1
        self.identity: Identity | None = None
        self.state = State.OPENING
        self.rooms: set[str] = set()
        self.joined: set[str] = set()
        self.muted_events = NOTHING_MUTED
        self.muted_rooms = NOTHING_MUTED
        self.since = 0
        self.active = now
        self.idle = False
        self.warned = False

    def reencode(self) -> None:
        """Its session may share its frames with others from now on."""
        encoding = self.session.encoding
        if encoding is not self.encoding:
            self.encoding = encoding
            if self.places is not None:
                self.places.reencoded(self)

    def prefer(self, preferences: Preferences) -> None:
        """Mute what its user does; the rooms that it is in are yet to hear of it (`Rooms.remute`)."""
        self.muted_events = preferences.muted_events
        self.muted_rooms = preferences.muted_rooms

    @property
    def user(self) -> str:
        """The user; empty for a connection that has not logged in."""
        return "" if self.identity is None else self.identity.user

    @property
    def owner(self) -> Owner:
        """What its entries in the state store are held by."""
        return Owner(self.user, self.id, self.generation)


class Connections:
    """The live connections of this node, by id and by user."""

    def __init__(self) -> None:
        self._by_id: dict[str, Connection] = {}
        self._by_user: dict[str, dict[str, Connection]] = {}

    def add(self, connection: Connection) -> None:
        """Register a connection that has an identity."""
        self._by_id[connection.id] = connection
        self._by_user.setdefault(connection.user, {})[connection.id] = connection

    def remove(self, connection: Connection) -> None:
        """Forget a connection; nothing if another holds its id by now."""
        if self._by_id.get(connection.id) is not connection:
            return
        del self._by_id[connection.id]
        of_user = self._by_user[connection.user]
        del of_user[connection.id]
        if not of_user:
            del self._by_user[connection.user]

    def get(self, connection_id: str) -> Connection | None:
        """The connection with this id."""
        return self._by_id.get(connection_id)

    def of_user(self, user: str) -> list[Connection]:
        """The connections of a user, oldest first."""
        return list(self._by_user.get(user, {}).values())

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def users(self) -> int:
        """How many users have a connection here."""
        return len(self._by_user)

    def kinds(self) -> dict[tuple[str, ...], float]:
        """How many connections there are of each protocol and transport that there is one of."""
        counts: dict[tuple[str, ...], float] = {}
        for connection in self._by_id.values():
            kind = (connection.session.protocol, connection.outlet.transport)
            counts[kind] = counts.get(kind, 0) + 1
        return counts

    def transports(self) -> dict[str, int]:
        """How many connections use each transport."""
        counts = {"websocket": 0, "polling": 0}
        for connection in self._by_id.values():
            counts[connection.outlet.transport] += 1
        return counts
