"""Values that travel between the wire, the domain and the broker.

All are immutable, and none can be part of a cycle: the garbage collector need not look at them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import msgspec

from .errors import RealtimeError
from .ids import session_number
from .payload import spliced

#: The channel of publications that are not for exactly one room. No room id can look like it.
EVERYONE: Final = "*"


def user_room(user: str) -> str:
    """The room that holds the connections of one user; joined for them, closed to others."""
    return f"user:{user}"


def role_room(role: str) -> str:
    """The room that holds the connections of one role; joined for them, closed to others."""
    return f"role:{role}"


class Position(msgspec.Struct, frozen=True, gc=False):
    """A place in one channel's log: offsets count 1, 2, 3… with no gap while the epoch stays."""

    offset: int
    epoch: str


class Sequence(msgspec.Struct, frozen=True, gc=False):
    """A place in the broker's one count over all channels. Its text is ``epoch.generation:number``."""

    epoch: str
    generation: int
    number: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.generation}:{self.number}"

    @classmethod
    def parse(cls, text: str) -> Sequence | None:
        """Read the text form; None for whatever else a client may send."""
        line, colon, number = text.rpartition(":")
        epoch, dot, generation = line.partition(".")
        if not (colon and dot and epoch.isalnum() and len(text) <= 96):
            return None
        if not (generation.isdecimal() and number.isdecimal() and text.isascii()):
            return None
        return cls(epoch, int(generation), int(number))


class Audience(msgspec.Struct, frozen=True, gc=False):
    """Who gets a publication: everyone, or the union of users and rooms; minus the exceptions.

    :ivar except_sessions: connections to be left out, as `session_number` counts them.
    :ivar only_sessions: the only ones of the receivers that get it, counted so too; None for no choice.
    :ivar only_users: likewise, users.
    """

    everyone: bool = False
    users: frozenset[str] = frozenset()
    rooms: frozenset[str] = frozenset()
    except_users: frozenset[str] = frozenset()
    except_connections: frozenset[str] = frozenset()
    except_sessions: frozenset[int] = frozenset()
    only_sessions: frozenset[int] | None = None
    only_users: frozenset[str] | None = None

    @property
    def selects(self) -> bool:
        """Whether it leaves out, or chooses, by more than users and connections to be left out."""
        return bool(self.except_sessions) or self.only_sessions is not None or self.only_users is not None

    def admits(self, user: str, connection: str) -> bool:
        """Whether it is for a connection that is in one of the targets."""
        if connection in self.except_connections or user in self.except_users:
            return False
        if not self.selects:
            return True
        number = session_number(connection)
        return (
            number not in self.except_sessions
            and (self.only_sessions is None or number in self.only_sessions)
            and (self.only_users is None or user in self.only_users)
        )

    @property
    def targets(self) -> frozenset[str]:
        """The rooms that stand for this audience, those of its users among them."""
        if not self.users:
            return self.rooms
        return self.rooms | {user_room(user) for user in self.users}

    @property
    def channel(self) -> str:
        """One target travels on its own channel, all else on the channel of everyone."""
        if not self.everyone and len(self.users) + len(self.rooms) == 1:
            return next(iter(self.targets))
        return EVERYONE


class Publication(msgspec.Struct, frozen=True, gc=False):
    """One event on its way to many connections, built once.

    :ivar event: the name that clients see, such as ``booking:confirmed``.
    :ivar data: the payload, a raw JSON object; nobody decodes it between ingress and socket.
    :ivar id: unique; the same for every receiver and every repetition.
    :ivar time: milliseconds since the epoch, at ingress.
    :ivar logged: whether it is kept for recovery (and so has a position).
    :ivar history: whether it is shown by ``room:history``.
    :ivar binary: whether ``data`` holds ``{"$binary": base64}`` objects that were binary.
    :ivar splice: fields among ``id``, ``timestamp``, ``offset`` that `payload` adds to ``data``.
    :ivar position: its place in its channel, given by the broker when it is logged.
    :ivar sequence: its place among all channels, given by the broker when it is logged.
    :ivar publisher: user and connection of who sent it, where they want that to be told.
    :ivar loss: its loss class, as `events.Loss` has it, where that is not its event's; else empty.
    :ivar expires: milliseconds since the epoch from which it is delivered to nobody; 0 for never.
    :ivar receipt: whether its publisher wants to know who got it; it is logged then.
    """

    event: str
    data: bytes
    audience: Audience
    id: str
    time: int
    logged: bool = True
    history: bool = False
    binary: bool = False
    splice: tuple[str, ...] = ()
    position: Position | None = None
    sequence: Sequence | None = None
    publisher: tuple[str, str] | None = None
    loss: str = ""
    expires: int = 0
    receipt: bool = False

    @property
    def channel(self) -> str:
        """The channel whose log it enters."""
        return self.audience.channel

    def over(self, now: float) -> bool:
        """Whether its time to live has ended; `now` is seconds since the epoch."""
        return 0 < self.expires <= now * 1000

    def payload(self) -> bytes:
        """``data`` with the spliced fields: what a client receives."""
        if not self.splice:
            return self.data
        fields = []
        for name in self.splice:
            if name == "id":
                fields.append(b'"id":"%b"' % self.id.encode())
            elif name == "timestamp":
                fields.append(b'"timestamp":%d' % self.time)
            elif self.position is not None:
                fields.append(b'"offset":%d' % self.position.offset)
        return spliced(self.data, fields)


class Published(msgspec.Struct, frozen=True, gc=False):
    """What the broker says of a publication it took.

    :ivar repeated: it was taken before under the same idempotency key; these are that one's values.
    """

    id: str
    time: int
    position: Position | None
    sequence: Sequence | None
    repeated: bool = False


#: Publications that an acknowledgement speaks of, for protocols that number them.
Placed: TypeAlias = tuple[Publication | Published, ...]


class Handshake(msgspec.Struct, frozen=True, gc=False):
    """What is known of a client from the request that opened its transport.

    :ivar address: the peer's address, as text.
    :ivar token: a token from the Authorization header, or from the query where that is enabled.
    """

    address: str
    origin: str | None = None
    token: str | None = None


class Connect(msgspec.Struct, frozen=True, gc=False):
    """Command: the client opens its session, perhaps taking up an earlier one.

    :ivar session: the secret id of an earlier session (Socket.IO's pid).
    :ivar offset: the text of the last `Sequence` the client has seen of that session.
    """

    token: str | None = None
    session: str | None = None
    offset: str | None = None


class Selection(msgspec.Struct, frozen=True, gc=False):
    """Who of a room's members gets a message; see `Audience`.

    :ivar except_self: not the connection that sends it.
    :ivar disclose: whether the receivers are told who that is.
    """

    except_self: bool = False
    disclose: bool = False
    except_sessions: frozenset[int] = frozenset()
    except_users: frozenset[str] = frozenset()
    only_sessions: frozenset[int] | None = None
    only_users: frozenset[str] | None = None

    @property
    def lists(self) -> bool:
        """Whether it names any receivers."""
        chosen = self.only_sessions is not None or self.only_users is not None
        return chosen or bool(self.except_sessions or self.except_users)


#: What a client wants its acknowledgement to carry. Only its session looks into it.
Ack: TypeAlias = Any


class Event(msgspec.Struct, frozen=True, gc=False):
    """Command: the client sends an event.

    :ivar name: empty where the message is so bad that it has none; then there is a fault.
    :ivar data: its payload, one raw JSON value; ``{}`` where the client sent none.
    :ivar ack: see `Ack`; None if it wants none.
    :ivar binary: whether ``data`` holds ``{"$binary": base64}`` objects that were binary.
    :ivar fault: why the payload can't be used, where it can't; the event is to be refused.
    :ivar selection: who gets a message to a room; None for all.
    :ivar brief: whether nobody looks at the fields of its acknowledgement.
    """

    name: str
    data: bytes
    ack: Ack = None
    binary: bool = False
    fault: str = ""
    selection: Selection | None = None
    brief: bool = False


class Own(msgspec.Struct, frozen=True, gc=False):
    """Command: something that the protocol answers by itself, in its turn and within the limits.

    :ivar error: why it is refused, if it is.
    """

    ack: Ack
    error: RealtimeError | None = None


class Acknowledged(msgspec.Struct, frozen=True, gc=False):
    """Command: the client has got a publication that asked for it, by its number in the sequence."""

    number: int


class Disconnect(msgspec.Struct, frozen=True, gc=False):
    """Command: the client ends its session for good."""


class Later(msgspec.Struct, frozen=True):
    """Command: what it asks for hangs on what has come of those before it, and is said in its turn."""

    decide: Callable[[], Event | Own]


Command = Connect | Event | Acknowledged | Own | Later | Disconnect


class Service(msgspec.Struct, frozen=True, gc=False):
    """What a token opens to another service that connects as a client.

    :ivar scopes: as those of an API key.
    :ivar channels: to which it may publish: exact, or beginnings that end in ``*``; empty for all.
    """

    scopes: frozenset[str]
    channels: tuple[str, ...] = ()


class Identity(msgspec.Struct, frozen=True, gc=False):
    """Who a connection is.

    :ivar user: the subject.
    :ivar grants: room ids, or patterns ending in ``*``, that the token opens.
    :ivar expires: seconds since the epoch.
    :ivar jti: the token's id; empty if it has none.
    :ivar issued: seconds since the epoch at which the token was issued; 0 if it does not say.
    :ivar service: what else it may, if it is another service.
    """

    user: str
    roles: frozenset[str]
    grants: tuple[str, ...]
    expires: float
    jti: str = ""
    issued: float = 0.0
    service: Service | None = None


class Owner(msgspec.Struct, frozen=True, gc=False):
    """Which incarnation of which connection holds an entry.

    Every change to a session's state compares it, so that a late close, a timer or a sweep can't
    remove what a restored connection has taken over.
    """

    user: str
    connection: str
    generation: int


class Membership(msgspec.Struct, frozen=True, gc=False):
    """A session's place in one room: the sequence at which it joined, and the log it joined.

    :ivar joined: whether the client or its token asked for the room (not ``user:``, ``role:``).
    """

    sequence: int
    epoch: str
    joined: bool


class SessionRecord(msgspec.Struct, frozen=True, gc=False):
    """What a node needs to take up a session again.

    :ivar session: its secret id.
    :ivar opened: from where a client recovers that has received nothing yet.
    :ivar last_seen: seconds (wall clock) at which the client was surely there; 0 while connected.
    """

    session: str
    owner: Owner
    rooms: dict[str, Membership]
    opened: Sequence
    last_seen: float = 0.0


def number_of(publication: Publication) -> int:
    """Its number in the one count over all channels; 0 for one that is not logged."""
    return 0 if publication.sequence is None else publication.sequence.number


def entitled(record: SessionRecord, publication: Publication) -> bool:
    """Whether a session was to get a logged publication when it was made."""
    audience = publication.audience
    owner = record.owner
    if not audience.admits(owner.user, owner.connection):
        return False
    if audience.everyone:
        return True
    number = number_of(publication)
    rooms = record.rooms
    return any(target in rooms and rooms[target].sequence < number for target in audience.targets)
