"""Shapes: what the verbs of other services are asked with, and answered with, on every road.

In JSON the names are in camelCase; times are milliseconds since the epoch. A field that is not known is
refused: it might be a misspelt ``messageId``.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ..broker.receipts import RANKS, Receipt, State
from ..messages import Position
from ..names import NAME_LENGTH, ROOM_PATTERN
from ..routing import MAX_CHANNEL

#: The most characters of a ``messageId``.
MAX_MESSAGE_ID: Final = 128
#: Names in one list of an audience, and publications of one batch.
MAX_NAMES: Final = 1000
MAX_BATCH: Final = 100
#: The longest time to live: a week.
MAX_TTL: Final = 7 * 86_400_000
#: Milliseconds since the epoch, up to the year 5138.
LATEST: Final = 100_000_000_000_000
#: The largest number that is exact in every client.
MAX_NUMBER: Final = 2**53 - 1
#: Rooms in one page: as it comes, and at the most. Messages likewise.
ROOMS_PAGE: Final = 100
PAGE_MAX: Final = 1000


def _said(**schema: Any) -> Meta:
    """What the OpenAPI document says of a field that is judged by hand, for a code of its own."""
    return Meta(extra_json_schema=schema)


Room = Annotated[str, _said(pattern=ROOM_PATTERN.replace(r"\Z", "$"), minLength=1, maxLength=NAME_LENGTH)]
User = Annotated[str, _said(**{"$ref": "#/components/schemas/UserId"})]
EventName = Annotated[
    str,
    Meta(
        max_length=NAME_LENGTH,
        extra_json_schema={"pattern": "^[a-z][a-z0-9_-]*(:[A-Za-z0-9_-]+)+$", "examples": ["system:news"]},
    ),
]
Data = Annotated[msgspec.Raw, _said(type="object")]
MessageId = Annotated[str, _said(**{"$ref": "#/components/schemas/MessageId"})]
Reason = Annotated[str, Meta(max_length=200)]
#: JSON has one kind of numbers: 5.0 is a whole one.
Time = Annotated[int, Meta(ge=1, le=LATEST)] | Annotated[float, Meta(ge=1, le=LATEST)]
Ttl = Annotated[int, Meta(ge=1, le=MAX_TTL)] | Annotated[float, Meta(ge=1, le=MAX_TTL)]
Number = Annotated[int, Meta(ge=0, le=MAX_NUMBER)]
LossClass = Literal["must", "latest", "drop"]
Users = Annotated[list[User], Meta(max_length=MAX_NAMES)]
Rooms = Annotated[list[Room], Meta(max_length=MAX_NAMES)]
Names = Annotated[list[Annotated[str, Meta(min_length=1, max_length=128)]], Meta(max_length=MAX_NAMES)]


class Request(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What a verb is asked with."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, float):
                if not value.is_integer():
                    raise ValueError(f"Expected a whole number - at `$.{name}`")
                msgspec.structs.force_setattr(self, name, int(value))


class Exclude(Request, frozen=True):
    """Who of the audience does not get a publication."""

    users: Users = []
    connections: Names = []


class Publish(Request, frozen=True):
    """``publish``: to a channel, which says who gets it.

    :ivar message_id: idempotency key: a second publication under it to the channel is not delivered.
    :ivar loss: its loss class, where it is not the event's: ``drop`` is not kept for recovery either.
    :ivar ttl: milliseconds after which it is delivered to nobody.
    :ivar receipt: whether it is to be known who got it (`OfReceipt`): not for what may be dropped.
    """

    channel: Annotated[str, Meta(max_length=MAX_CHANNEL)]
    data: Data
    message_id: MessageId | None = None
    exclude: Exclude | None = None
    loss: LossClass | None = None
    ttl: Ttl | None = None
    receipt: bool = False


class Whom(Request, frozen=True):
    """Everyone, or the union of users and rooms."""

    everyone: bool = False
    users: Users = []
    rooms: Rooms = []


class Broadcast(Request, frozen=True):
    """``broadcast``: an event to an audience that is named. Options as those of `Publish`."""

    event: EventName
    data: Data
    audience: Whom
    message_id: MessageId | None = None
    exclude: Exclude | None = None
    loss: LossClass | None = None
    ttl: Ttl | None = None
    receipt: bool = False


class Batch(Request, frozen=True):
    """``batch``: several publications, each taken or refused by itself; in order, channel by channel."""

    publications: Annotated[list[Publish], Meta(min_length=1, max_length=MAX_BATCH)]


class RoomsPage(Request, frozen=True):
    """``rooms``: those after one, in the order of their ids."""

    after: Room | None = None
    limit: Annotated[int, Meta(ge=1, le=PAGE_MAX)] = ROOMS_PAGE


class OfReceipt(Request, frozen=True):
    """``receipt``: that of the publication with this id."""

    id: Annotated[str, Meta(min_length=1, max_length=128)]


class OfRoom(Request, frozen=True):
    """``members``"""

    room_id: Room


class OfUser(Request, frozen=True):
    """``presence``, ``restore_user``, ``unblock``"""

    user_id: User


class History(Request, frozen=True):
    """``history``: messages with ``after < offset < before``, the newest unless `after` is given."""

    room_id: Room
    after: Number | None = None
    before: Number | None = None
    limit: Annotated[int, Meta(ge=1, le=PAGE_MAX)] | None = None


class HistoryRemove(Request, frozen=True):
    """``history_remove``: the message with this offset, or all."""

    room_id: Room
    offset: Annotated[int, Meta(ge=1, le=MAX_NUMBER)] | None = None


class Kick(Request, frozen=True):
    """``kick``: a user out of a room; `reason` is told to them."""

    room_id: Room
    user_id: User
    reason: Reason = ""


class Move(Request, frozen=True):
    """``move``: a user out of one room and into another."""

    room_id: Room
    user_id: User
    to: Room
    reason: Reason = ""


class Disconnect(Request, frozen=True):
    """``disconnect``: all connections of a user, or one, for good.

    :ivar code: the close code: 4501 kicked, 4502 logout, 4504 revoked, 4505 superseded.
    :ivar reason: what who is kicked is told.
    """

    user_id: User
    connection_id: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    code: Literal[4501, 4502, 4504, 4505] = 4501
    reason: Reason = ""


class RevokeToken(Request, frozen=True):
    """``revoke_token``: the token with this ``jti``; `until` ends it by itself."""

    token_id: Annotated[str, Meta(min_length=1, max_length=128)]
    until: Time | None = None


class RestoreToken(Request, frozen=True):
    """``restore_token``"""

    token_id: Annotated[str, Meta(min_length=1, max_length=128)]


class RevokeUser(Request, frozen=True):
    """``revoke_user``: a user's tokens that were issued before a time, or before now."""

    user_id: User
    until: Time | None = None
    issued_before: Time | None = None


class Block(Request, frozen=True):
    """``block``: a user"""

    user_id: User
    until: Time | None = None


class Mute(Request, frozen=True):
    """``mute``: a user's voice in a room."""

    room_id: Room
    user_id: User
    until: Time | None = None


class Unmute(Request, frozen=True):
    """``unmute``"""

    room_id: Room
    user_id: User


EventId = Annotated[
    str,
    _said(pattern=ROOM_PATTERN.replace(r"\Z", "$"), minLength=1, maxLength=NAME_LENGTH - len("event:")),
]


class QueueMembers(Request, frozen=True):
    """``queue_members``: who waits for an event, from the front, those after one number."""

    event_id: EventId
    after: Number = 0
    limit: Annotated[int, Meta(ge=1, le=PAGE_MAX)] = ROOMS_PAGE


class Standing(Request, frozen=True):
    """Where one user stands.

    :ivar position: how many are before them, they themselves counted.
    :ivar total: how many wait.
    :ivar estimated_wait: milliseconds.
    """

    user_id: User
    position: Number
    total: Number | None = None
    estimated_wait: Number | None = None


class QueuePositions(Request, frozen=True):
    """``queue_positions``: tell users of a queue where they stand."""

    event_id: EventId
    positions: Annotated[list[Standing], Meta(min_length=1, max_length=MAX_NAMES)]


class QueueProceed(Request, frozen=True):
    """``queue_proceed``: let a user proceed.

    :ivar token: the user's secret.
    :ivar expires_at: when it is of no more use; until then the user is asked to confirm it.
    :ivar proceed_id: idempotency key in the queue; what it is without is the number of the user's joining.
    """

    event_id: EventId
    user_id: User
    token: Annotated[str, Meta(min_length=1, max_length=4096)]
    expires_at: Time
    proceed_id: MessageId | None = None


class QueueRemove(Request, frozen=True):
    """``queue_remove``: take a user out of a queue, and their proceed with it."""

    event_id: EventId
    user_id: User


class Nothing(Request, frozen=True):
    """``count``, ``info``"""


class Answer(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What a verb answers."""


class AudienceTold(Answer, frozen=True):
    everyone: bool
    users: list[str]
    rooms: list[str]


class Accepted(Answer, frozen=True):
    """What became of a publication.

    :ivar offset: its place in its channel's log; none for what is not logged.
    :ivar repeated: it was taken before under the same ``messageId``; nothing was delivered now.
    """

    id: str
    offset: int | None
    audience: AudienceTold
    repeated: bool = False


class Refused(Answer, frozen=True):
    """Why something was not done: a stable code, and a text for people."""

    code: str
    message: str


class Result(Answer, frozen=True):
    """What became of one publication of a batch: one of the two."""

    accepted: Accepted | UnsetType = UNSET
    error: Refused | UnsetType = UNSET


class Results(Answer, frozen=True):
    """In the order of the batch."""

    results: list[Result]


class ReceiptCounts(Answer, frozen=True):
    """Connections, each counted in every state that it has reached; `expired` have not acknowledged."""

    targeted: int
    written: int
    acknowledged: int
    expired: int


class ReceiptStanding(Answer, frozen=True):
    connection_id: str
    user_id: str
    state: State


class ReceiptTold(Answer, frozen=True):
    """Who got a publication.

    :ivar timestamp: when it was published.
    :ivar expires_at: up to when acknowledgements are awaited.
    :ivar connections: how far it has come with each, up to RECEIPT_MAX_CONNECTIONS of each node.
    """

    id: str
    timestamp: int
    expires_at: int
    counts: ReceiptCounts
    connections: list[ReceiptStanding]


def receipt_told(receipt: Receipt, now: float) -> ReceiptTold:
    """A receipt as it is at a time, seconds since the epoch."""
    over = receipt.over(now)
    targeted, written, acknowledged = receipt.counts
    told = []
    for mark in receipt.marks:
        state: State = RANKS[mark.rank]
        if over and state != "acknowledged":
            state = "expired"
        told.append(ReceiptStanding(mark.connection, mark.user, state))
    counts = ReceiptCounts(targeted, written, acknowledged, targeted - acknowledged if over else 0)
    return ReceiptTold(receipt.id, receipt.made, receipt.until, counts, told)


class RoomTold(Answer, frozen=True):
    room_id: str
    users: int


class RoomsTold(Answer, frozen=True):
    """:ivar next: what to ask with as ``after`` for the next page; none on the last."""

    rooms: list[RoomTold]
    next: str | None


class MetaTold(Answer, frozen=True):
    connection_id: str
    since: int


class Member(Answer, frozen=True):
    """A user's presence; who is invisible looks offline."""

    user_id: str
    status: str
    metas: list[MetaTold]
    text: str | UnsetType = UNSET


class Members(Answer, frozen=True):
    room_id: str
    members: list[Member]


class Messages(Answer, frozen=True):
    """Payloads of ``room:message``, oldest first, and the place of the log's end."""

    room_id: str
    messages: list[Annotated[msgspec.Raw, _said(type="object")]]
    position: Position


class Removed(Answer, frozen=True):
    removed: int


class Moved(Answer, frozen=True):
    """How many connections were in the room."""

    connections: int


class Disconnected(Answer, frozen=True):
    disconnected: int


class Banned(Answer, frozen=True):
    banned: bool
    issued_before: int | UnsetType = UNSET
    until: int | UnsetType = UNSET


class Lifted(Answer, frozen=True):
    """Whether there was something to lift."""

    lifted: bool


class QueueMember(Answer, frozen=True):
    """:ivar id: the number of the joining; those who came later have a higher one."""

    user_id: str
    id: int
    since: int
    position: int | UnsetType = UNSET


class QueueMembersTold(Answer, frozen=True):
    """:ivar next: what to ask with as ``after`` for the next page; none on the last."""

    event_id: str
    waiting: int
    members: list[QueueMember]
    next: int | None


class PositionsTold(Answer, frozen=True):
    """:ivar not_waiting: those who do not wait; they were told nothing."""

    told: int
    not_waiting: list[str]


class Proceeded(Answer, frozen=True):
    """What became of a proceed.

    :ivar state: ``sent``; of one that was ``repeated`` also ``acknowledged``, ``expired``, ``declined``,
        ``removed``; or ``not_waiting``: the user does not wait, and nothing was sent.
    """

    proceed_id: str
    state: str
    repeated: bool = False


class Count(Answer, frozen=True):
    """The connections of the node that answers."""

    connections: int
    users: int
    transports: dict[str, int]


class Info(Answer, frozen=True):
    """The node that answers.

    :ivar channels: first parts of the channels that are accepted.
    """

    node: str
    version: str
    connections: int
    users: int
    transports: dict[str, int]
    channels: list[str]
