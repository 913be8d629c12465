"""Routing: a channel and its payload to an event and who gets it (DESIGN.md section 6).

The rules are a table. A publication that belongs to one user and does not say to whom is refused:
there is no way from `Target.OWNER` to everyone.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec
from msgspec import UNSET

from .errors import InvalidPublication, MessageTooLarge, NoOwner, UnknownChannel
from .events import Loss, loss_of
from .messages import Audience
from .names import valid_event, valid_room, valid_user
from .payload import MAX_DEPTH, is_utf8, spliced, too_deep

#: The most characters of a channel, and the most bytes of a payload.
MAX_CHANNEL: Final = 300
MAX_PAYLOAD: Final = 256 * 1024


class Target(enum.Enum):
    """Who gets what is published to the channels ``{service}:{action}`` of one service."""

    #: The user in ``userId``; refused without.
    OWNER = "owner"
    #: The room of the event in ``eventId``; everyone if none is named.
    EVENT_OR_EVERYONE = "event or everyone"
    #: ``userId``, else the event in ``eventId``, else the room in ``roomId``; refused without.
    NAMED = "named"
    EVERYONE = "everyone"


RULES: Final[Mapping[str, Target]] = MappingProxyType(
    {
        "booking": Target.OWNER,
        "payment": Target.OWNER,
        "notification": Target.OWNER,
        "ticket": Target.EVENT_OR_EVERYONE,
        "system": Target.EVERYONE,
    }
)

#: What ``user:{action}`` may say of the user in ``userId``, to those who share a room with them.
SHARED: Final = frozenset({"online", "offline", "status_change"})

#: What the service adds to a room message, so that it looks like one that a client sent.
_MESSAGE_FIELDS: Final = ("id", "timestamp", "offset")


class Route(msgspec.Struct, frozen=True):
    """What becomes of a publication.

    :ivar event: the name that clients see.
    :ivar data: the payload as it is to travel: a raw JSON object without white space around it.
    :ivar loss: its loss class.
    :ivar audience: who gets it; None if `sharing` says so.
    :ivar sharing: a user: those get it who share a joined room with them.
    :ivar logged: whether it is kept for recovery.
    :ivar history: whether it is shown by ``room:history``.
    :ivar splice: see `Publication.splice`.
    :ivar message_id: what the payload says under ``messageId``, read only if that was asked for.
    """

    event: str
    data: bytes
    loss: Loss
    audience: Audience | None = None
    sharing: str | None = None
    logged: bool = True
    history: bool = False
    splice: tuple[str, ...] = ()
    message_id: str | None = None


class _Fields(msgspec.Struct, rename="camel"):
    """The fields of a payload that routing reads; of the last three, only whether they are there."""

    user_id: Any = UNSET
    event_id: Any = UNSET
    room_id: Any = UNSET
    message_id: Any = UNSET
    id: msgspec.Raw = msgspec.Raw()
    timestamp: msgspec.Raw = msgspec.Raw()
    offset: msgspec.Raw = msgspec.Raw()

    def lacks(self, name: str) -> bool:
        return not bytes(getattr(self, name))


class Routing:
    """The table of one deployment.

    :param services: names of further services, routed by `Target.NAMED`.
    :param rules: service to target; takes precedence over `services`.

    Neither changes what ``user:``, ``event:`` and ``room:`` mean.
    """

    def __init__(self, services: Iterable[str] = (), rules: Mapping[str, Target] = RULES) -> None:
        self.replace(services, rules)

    def replace(self, services: Iterable[str], rules: Mapping[str, Target]) -> None:
        """Let this be the table from now on."""
        self._rules = {**dict.fromkeys(services, Target.NAMED), **rules}

    @property
    def services(self) -> frozenset[str]:
        """The first parts of all channels that are accepted."""
        return frozenset((*self._rules, "user", "event", "room"))

    def route(self, channel: str, data: bytes, now: int, *, inside: bool = False) -> Route:
        """Say what becomes of a publication.

        :param data: a JSON object.
        :param now: milliseconds since the epoch, for payloads without a ``timestamp``.
        :param inside: whether the payload's ``messageId`` is the publication's (`Route.message_id`).
        :raises UnknownChannel: nothing is published to such a channel.
        :raises NoOwner: the payload does not name who is to get it.
        :raises InvalidPublication: the payload, or a name, is not valid.
        :raises MessageTooLarge: the payload is over `MAX_PAYLOAD`.
        """
        kind, parts = self._parts(channel)
        fields, data = _read(data)
        route = self._route(kind, parts, channel, fields, data, now)
        if inside and (message_id := _name(fields.message_id, "messageId")) is not None:
            return msgspec.structs.replace(route, message_id=message_id)
        return route

    def broadcast(self, event: str, data: bytes, audience: Audience, now: int) -> Route:
        """Say what becomes of an event to an audience that is named.

        :raises NoOwner: the audience is nobody, or everyone for what belongs to one user.
        :raises UnknownChannel: there is no such service.
        :raises InvalidPublication, MessageTooLarge: as `route`.
        """
        kind, _, rest = event.partition(":")
        if not rest or kind not in self.services or not valid_event(event):
            raise UnknownChannel(
                f"no such event: accepted are {{service}}:{{action}}, service one of"
                f" {', '.join(sorted(self.services))}"
            )
        if not (audience.everyone or audience.users or audience.rooms):
            raise NoOwner("the audience is nobody: give everyone, users or rooms")
        if audience.everyone and self._rules.get(kind) is Target.OWNER:
            raise NoOwner(f"what {kind} publishes belongs to one user: name users or rooms")
        fields, data = _read(data)
        return _route(event, _stamped(fields, data, now), audience)

    @property
    def rules(self) -> Mapping[str, Target]:
        """Who gets what each service publishes."""
        return self._rules

    def _route(
        self, kind: str, parts: list[str], channel: str, fields: _Fields, data: bytes, now: int
    ) -> Route:
        if kind in ("event", "room"):
            return _to_room(kind, parts, fields, data, now)
        data = _stamped(fields, data, now)
        if kind == "user" and len(parts) == 2:
            return Route(channel, data, loss_of(channel), sharing=_owner(fields), logged=False)
        if kind == "user":
            return _to_user(parts, data)
        return _route(channel, data, _audience(self._rules[kind], fields))

    def _parts(self, channel: str) -> tuple[str, list[str]]:
        """The kind of a channel, and all its parts, found to be as many as the kind needs."""
        if len(channel) > MAX_CHANNEL:
            raise UnknownChannel(f"a channel has at most {MAX_CHANNEL} characters")
        parts = channel.split(":")
        kind = parts[0]
        if kind == "user" and len(parts) <= 2:
            known = parts[-1] in SHARED
        elif kind == "user":
            known = valid_user(parts[1]) and valid_event(":".join(parts[2:]))
        elif kind in ("event", "room"):
            known = len(parts) >= 3 and valid_event(parts[-1])
        else:
            known = kind in self._rules and len(parts) >= 2 and valid_event(channel)
        if not known:
            raise UnknownChannel(self._expected())
        return kind, parts

    def _expected(self) -> str:
        return (
            "no such channel: accepted are {service}:{action} (service one of "
            f"{', '.join(sorted(self._rules))}), user:{{{'|'.join(sorted(SHARED))}}}, "
            "user:{userId}:{event}, event:{eventId}:{action}, room:{roomId}:{action}"
        )


_decode = msgspec.json.Decoder(_Fields).decode


def _read(data: bytes) -> tuple[_Fields, bytes]:
    """Judge a payload; give the fields that matter, and the payload without white space around it."""
    if len(data) > MAX_PAYLOAD:
        raise MessageTooLarge(f"the payload has {len(data)} bytes; accepted are at most {MAX_PAYLOAD}")
    if not is_utf8(data):
        raise InvalidPublication("the payload is not UTF-8")
    try:
        fields = _decode(data)
    except msgspec.ValidationError as error:
        raise InvalidPublication(f"the payload is not as expected: {error}") from None
    except msgspec.DecodeError as error:
        raise InvalidPublication(f"the payload is not JSON: {error}") from None
    except RecursionError:
        raise InvalidPublication(_TOO_DEEP) from None
    if too_deep(data):
        raise InvalidPublication(_TOO_DEEP)
    data = data.strip(b" \t\r\n")
    # What is spliced in relies on an empty object having no white space inside either.
    return fields, b"{}" if not data[1:-1].strip(b" \t\r\n") else data


_TOO_DEEP: Final = f"the payload nests deeper than {MAX_DEPTH} levels"


def _name(value: object, field: str) -> str | None:
    """An id in a payload as text; None where there is none."""
    if value is UNSET or value is None:
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        # JSON has one kind of numbers.
        return str(int(value))
    raise InvalidPublication(f"{field}: expected a text or a whole number")


def _user(fields: _Fields) -> str | None:
    user = _name(fields.user_id, "userId")
    if user is not None and not valid_user(user):
        raise InvalidPublication(
            "userId: expected 1 to 128 printable characters, no space and none of : { } * ? [ ]"
        )
    return user


def _owner(fields: _Fields) -> str:
    user = _user(fields)
    if user is None:
        raise NoOwner("the payload has no userId, and this channel is for the user that it names")
    return user


def _room(room: str, named_by: str) -> str:
    if not valid_room(room):
        raise InvalidPublication(
            f"{named_by}: expected parts of A-Z a-z 0-9 _ - joined by colons, at most 128 characters in all"
        )
    return room


def _audience(target: Target, fields: _Fields) -> Audience:
    if target is Target.EVERYONE:
        return Audience(everyone=True)
    if target is Target.OWNER:
        return Audience(users=frozenset({_owner(fields)}))
    if target is Target.NAMED and (user := _user(fields)) is not None:
        return Audience(users=frozenset({user}))
    event = _name(fields.event_id, "eventId")
    if event is not None:
        return Audience(rooms=frozenset({_room(f"event:{event}", "eventId")}))
    if target is Target.EVENT_OR_EVERYONE:
        return Audience(everyone=True)
    room = _name(fields.room_id, "roomId")
    if room is not None:
        return Audience(rooms=frozenset({_room(room, "roomId")}))
    raise NoOwner("the payload names nobody to deliver to: give userId, eventId or roomId")


def _route(event: str, data: bytes, audience: Audience) -> Route:
    loss = loss_of(event)
    return Route(event, data, loss, audience, logged=loss is not Loss.DROP)


def _to_user(parts: list[str], data: bytes) -> Route:
    """``user:{id}:{event}``: an event without a colon is one of ``user:``."""
    event = ":".join(parts[2:] if len(parts) > 3 else ("user", parts[2]))
    return _route(event, data, Audience(users=frozenset({parts[1]})))


def _to_room(kind: str, parts: list[str], fields: _Fields, data: bytes, now: int) -> Route:
    """``event:{id}:{action}`` and ``room:{id}:{action}``; the payload says which, too."""
    named = ":".join(parts[1:-1])
    room = _room(f"event:{named}" if kind == "event" else named, "the channel's id")
    field, said = ("eventId", fields.event_id) if kind == "event" else ("roomId", fields.room_id)
    added = []
    if said is UNSET:
        added.append(b'"%b":"%b"' % (field.encode(), named.encode()))
    elif _name(said, field) != named:
        raise InvalidPublication(f"{field}: differs from the one in the channel")
    event = f"{kind}:{parts[-1]}"
    audience = Audience(rooms=frozenset({room}))
    if event != "room:message":
        return _route(event, _stamped(fields, spliced(data, added), now), audience)
    lacking = tuple(name for name in _MESSAGE_FIELDS if fields.lacks(name))
    return Route(event, spliced(data, added), Loss.MUST, audience, history=True, splice=lacking)


def _stamped(fields: _Fields, data: bytes, now: int) -> bytes:
    return spliced(data, [b'"timestamp":%d' % now]) if fields.lacks("timestamp") else data
