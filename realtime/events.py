"""The catalogue of events: their names, who sends them, what they carry, and what may be lost."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Final, Literal, TypeVar, get_args

import msgspec
from msgspec import Meta

from .errors import InvalidMessage
from .messages import Position
from .names import NAME_LENGTH, ROOM_PATTERN
from .payload import MAX_DEPTH, is_utf8, too_deep


class Loss(enum.Enum):
    """What happens to an event when its receiver can't keep up (DESIGN.md section 5).

    MUST is queued up to the byte limit, then the connection is closed and recovers. LATEST is queued, too,
    and gives way to a newer value of the same thing (`newest.Newest`). DROP is left out.
    """

    MUST = "must"
    LATEST = "latest"
    DROP = "drop"


#: The events that the service sends, each with its loss class.
SERVER_EVENTS: Final[Mapping[str, Loss]] = MappingProxyType(
    {
        "system:connected": Loss.MUST,
        "system:error": Loss.MUST,
        "system:maintenance": Loss.MUST,
        "system:announcement": Loss.MUST,
        "system:position": Loss.LATEST,
        "auth:token_expiring": Loss.MUST,
        "booking:created": Loss.MUST,
        "booking:confirmed": Loss.MUST,
        "booking:cancelled": Loss.MUST,
        "booking:updated": Loss.MUST,
        "payment:processed": Loss.MUST,
        "payment:failed": Loss.MUST,
        "payment:refunded": Loss.MUST,
        "ticket:available": Loss.LATEST,
        "ticket:sold": Loss.LATEST,
        "ticket:reserved": Loss.LATEST,
        "ticket:released": Loss.LATEST,
        "notification:new": Loss.MUST,
        "notification:read": Loss.MUST,
        "notification:deleted": Loss.MUST,
        "room:joined": Loss.MUST,
        "room:left": Loss.MUST,
        "room:message": Loss.MUST,
        "room:message_removed": Loss.MUST,
        "room:user_joined": Loss.MUST,
        "room:user_left": Loss.MUST,
        "room:typing": Loss.DROP,
        "user:online": Loss.LATEST,
        "user:offline": Loss.LATEST,
        "user:status_change": Loss.LATEST,
        "queue:position": Loss.LATEST,
        "queue:proceed": Loss.MUST,
        "queue:left": Loss.MUST,
    }
)


def loss_of(event: str) -> Loss:
    """The loss class of an event: of those outside the catalogue only `ticket:` counters may be lost."""
    found = SERVER_EVENTS.get(event)
    if found is not None:
        return found
    return Loss.LATEST if event.startswith("ticket:") else Loss.MUST


#: How clients of protocols without acknowledgements of their own say that they got a publication.
ACKNOWLEDGE: Final = "ack"

Status = Literal["online", "away", "busy", "invisible"]

#: Numbers up to here are exact in every client (JavaScript's safe integers).
_Count = Annotated[int, Meta(ge=0, le=2**53 - 1)]
_Token = Annotated[str, Meta(min_length=1, max_length=8192)]
_SessionId = Annotated[str, Meta(min_length=1, max_length=128)]
_MutedRoom = Annotated[str, Meta(max_length=NAME_LENGTH, pattern=ROOM_PATTERN)]
_MutedEvent = Annotated[str, Meta(min_length=1, max_length=NAME_LENGTH)]


class Payload(msgspec.Struct, frozen=True, rename="camel"):
    """What a client event carries. Fields that are not named here are ignored.

    A ``roomId`` is any text here: `names.valid_room` judges it, so that the refusal can say so.
    """


class Place(Position, frozen=True):
    """The position that a client has reached in one room."""

    offset: _Count
    epoch: Annotated[str, Meta(max_length=64)]


class Login(Payload, frozen=True):
    """``auth:login``; with a session, as the first event of a connection, that is taken up.

    :ivar session: the secret id in an earlier ``system:connected``.
    :ivar position: the last place in the sequence that the client has seen of it.
    """

    token: _Token
    session: _SessionId | None = None
    position: _SessionId | None = None


class TokenRefresh(Payload, frozen=True):
    """``auth:token_refresh``: exactly one of an access token and a refresh token."""

    token: _Token | None = None
    refresh_token: _Token | None = None

    def __post_init__(self) -> None:
        if (self.token is None) == (self.refresh_token is None):
            raise ValueError("Expected exactly one of `token`, `refreshToken`")


class Logout(Payload, frozen=True):
    """``auth:logout``: this connection, or all of the user's."""

    everywhere: bool = False


class RoomJoin(Payload, frozen=True):
    """``room:join``; with a position, what was missed since is asked for."""

    room_id: str
    position: Place | None = None


class RoomLeave(Payload, frozen=True):
    """``room:leave``"""

    room_id: str


class RoomMessage(Payload, frozen=True):
    """``room:message``: either a text, or data.

    :ivar data: any raw JSON value but null; empty where there is none.
    :ivar client_message_id: the client's own id, by which a repetition is known.
    """

    room_id: str
    text: Annotated[str, Meta(min_length=1, max_length=10_000)] | None = None
    data: msgspec.Raw = msgspec.Raw()
    client_message_id: Annotated[str, Meta(min_length=1, max_length=64)] | None = None

    def __post_init__(self) -> None:
        if bytes(self.data) == b"null":
            msgspec.structs.force_setattr(self, "data", msgspec.Raw())
        if (self.text is None) == (not bytes(self.data)):
            raise ValueError("Expected exactly one of `text`, `data`")


class RoomHistory(Payload, frozen=True):
    """``room:history``: messages with ``after < offset < before``, the newest unless `after` is given."""

    room_id: str
    after: _Count | None = None
    before: _Count | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] | None = None


class Typing(Payload, frozen=True):
    """``user:typing``: began, or ended."""

    room_id: str
    typing: bool


class PresenceStatus(Payload, frozen=True):
    """``user:presence``: what the user wants others to see."""

    status: Status
    text: Annotated[str, Meta(max_length=140)] | None = None


class PreferencesChange(Payload, frozen=True):
    """``user:preferences``: each list replaces the stored one; None leaves it as it is."""

    muted_events: Annotated[list[_MutedEvent], Meta(max_length=100)] | None = None
    muted_rooms: Annotated[list[_MutedRoom], Meta(max_length=100)] | None = None


class Acknowledge(Payload, frozen=True):
    """``ack``: the client has got the publication with this number in the sequence."""

    id: _Count


#: The id of an event, as text or as a number.
_EventId = Annotated[str, Meta(min_length=1, max_length=NAME_LENGTH)] | _Count


class OfQueue(Payload, frozen=True):
    """What is of the queue of one event."""

    event_id: _EventId

    def __post_init__(self) -> None:
        if isinstance(self.event_id, int):
            msgspec.structs.force_setattr(self, "event_id", str(self.event_id))

    @property
    def event(self) -> str:
        """The event's id, as text."""
        return str(self.event_id)


class QueueJoin(OfQueue, frozen=True):
    """``queue:join``: wait for one's turn."""


class QueueLeave(OfQueue, frozen=True):
    """``queue:leave``: wait no more, or give up one's turn."""


class QueueConfirm(OfQueue, frozen=True):
    """``queue:confirm``: ``queue:proceed`` has come."""

    proceed_id: Annotated[str, Meta(min_length=1, max_length=128)]


#: The events that clients may send, each with what it carries.
CLIENT_EVENTS: Final[Mapping[str, type[Payload]]] = MappingProxyType(
    {
        "auth:login": Login,
        "auth:logout": Logout,
        "auth:token_refresh": TokenRefresh,
        "room:join": RoomJoin,
        "room:leave": RoomLeave,
        "room:message": RoomMessage,
        "room:history": RoomHistory,
        "user:typing": Typing,
        "user:presence": PresenceStatus,
        "user:preferences": PreferencesChange,
        ACKNOWLEDGE: Acknowledge,
        "queue:join": QueueJoin,
        "queue:leave": QueueLeave,
        "queue:confirm": QueueConfirm,
    }
)

#: What events of other services begin with, before the verb; only who has a service token may send them.
SERVICE_EVENT: Final = "service:"

_Payload = TypeVar("_Payload", bound=Payload)
_decoders: dict[type[Payload], msgspec.json.Decoder[Payload]] = {
    payload: msgspec.json.Decoder(payload) for payload in CLIENT_EVENTS.values()
}


def decode(payload: type[_Payload], data: bytes) -> _Payload:
    """Read what a client event carries.

    :param payload: one of the types in `CLIENT_EVENTS`.
    :raises InvalidMessage: names the field and what it accepts; repeats no value.
    """
    if not is_utf8(data):
        raise InvalidMessage("the payload is not UTF-8")
    try:
        decoded = _decoders[payload].decode(data)
    except msgspec.ValidationError as error:
        raise InvalidMessage(_without_value(str(error))) from None
    except msgspec.DecodeError as error:
        raise InvalidMessage(f"the payload is not JSON: {error}") from None
    except RecursionError:
        raise InvalidMessage(_TOO_DEEP) from None
    if too_deep(data):
        raise InvalidMessage(_TOO_DEEP)
    return decoded  # type: ignore[return-value]


_TOO_DEEP: Final = f"the payload nests deeper than {MAX_DEPTH} levels"


def _without_value(message: str) -> str:
    """msgspec repeats the value where it expected one of a few; the refusal names those few instead."""
    if not message.startswith("Invalid enum value"):
        return message
    where = message.rpartition(" - at ")[2]
    return f"Expected one of {', '.join(get_args(Status))} - at {where}"
