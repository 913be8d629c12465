"""Topics and subscriptions of WAMP: which topic an event has, what a subscription needs, what it matches.

==================================  =================================================================
topic                               what is published to it
==================================  =================================================================
``room.{roomId}.{action}``          the event ``room:{action}`` of one room
``event.{eventId}.{action}``        the event ``event:{action}`` of the room ``event:{eventId}``
``user.{userId}.{event}``           what is for one user alone, beside the topic of its event
``{service}.{action}``              every other event
==================================  =================================================================

Room ids keep their colons. Dots in user ids are percent-encoded.
"""

from __future__ import annotations

import itertools
from typing import Final
from urllib.parse import unquote
from weakref import WeakValueDictionary

import msgspec

from ..errors import InvalidMessage, InvalidRoom, RoomForbidden
from ..messages import Publication
from ..names import valid_room

EXACT: Final = "exact"
PREFIX: Final = "prefix"
WILDCARD: Final = "wildcard"

#: Characters of a topic, or of a pattern, that is subscribed to.
MAX_URI: Final = 512

#: Kinds of topic whose second part names what they belong to.
_OWNED: Final = ("room", "event", "user", "role")

#: The first part of the topics of WAMP itself.
_RESERVED: Final = "wamp"

_ENCODED: Final = str.maketrans({"%": "%25", ".": "%2E", "#": "%23"})


def encoded(user: str) -> str:
    """A user id as one part of a topic."""
    return user.translate(_ENCODED)


def topic_of_event(event: str, room: str | None = None) -> str:
    """The topic of an event, which may be one room's."""
    kind, _, action = event.partition(":")
    if room is not None and kind == "room":
        return f"room.{room}.{action.replace(':', '.')}"
    if room is not None and kind == "event" and room.startswith("event:"):
        return f"event.{room.removeprefix('event:')}.{action.replace(':', '.')}"
    return event.replace(":", ".")


def topic_of(publication: Publication) -> str:
    """The topic of a publication."""
    rooms = publication.audience.rooms
    return topic_of_event(publication.event, next(iter(rooms)) if len(rooms) == 1 else None)


def personal_topic(publication: Publication, user: str) -> str | None:
    """The topic under which a publication belongs to this user alone; None if it is not for them."""
    if not user or user not in publication.audience.users:
        return None
    return f"user.{encoded(user)}.{publication.event.removeprefix('user:').replace(':', '.')}"


class Subscription:
    """What somebody is subscribed to. All who are to the same share it, and its id.

    :ivar room: the room to which its topics belong; None for all others.
    :ivar personal: whether it may match the topics of one user.
    """

    __slots__ = ("__weakref__", "_parts", "id", "match", "personal", "room", "uri")

    def __init__(self, number: int, match: str, uri: str) -> None:
        self.id = number
        self.match = match
        self.uri = uri
        self._parts = uri.split(".")
        self.room = named_room(match, uri)
        self.personal = self._personal()

    def _personal(self) -> bool:
        if self.match == PREFIX:
            return self.uri.startswith("user.") or "user.".startswith(self.uri)
        return len(self._parts) >= 3 and self._parts[0] in ("user", "")

    def matches(self, topic: str) -> bool:
        """Whether it is subscribed to this topic."""
        if self.match == EXACT:
            return topic == self.uri
        if self.match == PREFIX:
            return topic.startswith(self.uri)
        parts = topic.split(".")
        return len(parts) == len(self._parts) and all(
            wanted in ("", part) for wanted, part in zip(self._parts, parts, strict=True)
        )


def named_room(match: str, uri: str) -> str | None:
    """The one room whose topics these all are; None if there is no such."""
    parts = uri.split(".")
    # Of a prefix the last part may go on: `room.4` is the beginning of `room.42.message`, too.
    whole = len(parts) - 1 if match == PREFIX else len(parts)
    if len(parts) < 3 or whole < 2 or parts[0] not in ("room", "event") or not parts[1]:
        return None
    return parts[1] if parts[0] == "room" else f"event:{parts[1]}"


def check(match: str, uri: str, user: str) -> None:
    """Refuse what this user can't subscribe to. Whether they may be in a room is judged elsewhere.

    :raises InvalidMessage: there are no such topics.
    :raises InvalidRoom: a room id is none.
    :raises RoomForbidden: the topics belong to others.
    """
    if len(uri) > MAX_URI:
        raise InvalidMessage(f"a topic has at most {MAX_URI} characters")
    parts = uri.split(".")
    kind = parts[0]
    if kind == _RESERVED and len(parts) > 1:
        raise RoomForbidden("topics of WAMP itself are closed: there are no meta events")
    if match == PREFIX:
        if len(parts) > 2:
            _check_owner(kind, parts[1], user)
    elif kind in _OWNED and len(parts) >= 3:
        _check_owner(kind, parts[1], user)
    elif len(parts) < 2 or (kind in ("room", "event", "role") and len(parts) < 3):
        raise InvalidMessage(
            "topics are room.{roomId}.{action}, event.{eventId}.{action}, {service}.{action}"
        )


def _check_owner(kind: str, owner: str, user: str) -> None:
    if kind == "role":
        raise RoomForbidden("topics of roles are closed")
    if kind == "user" and owner and unquote(owner) != user:
        raise RoomForbidden("these are the topics of another user")
    if kind in ("room", "event") and owner and not valid_room(owner):
        raise InvalidRoom()


class Interest:
    """A set of subscriptions, one object for all connections that have the same.

    :ivar user: the user, if one of them may match topics of one user; else empty.
    """

    __slots__ = ("__weakref__", "_exact", "_patterns", "subscriptions", "user")

    def __init__(self, subscriptions: frozenset[Subscription], user: str) -> None:
        self.subscriptions = subscriptions
        self.user = user
        ordered = sorted(subscriptions, key=lambda subscription: subscription.id)
        self._exact = {one.uri: one for one in ordered if one.match == EXACT}
        self._patterns = [one for one in ordered if one.match != EXACT]

    def matching(self, topic: str, personal: str | None) -> tuple[Subscription, ...]:
        """Those that match a topic, or its personal one; each once, by id."""
        found = [self._exact[one] for one in (topic, personal) if one in self._exact]
        found += [
            one
            for one in self._patterns
            if one.matches(topic) or (personal is not None and one.matches(personal))
        ]
        if len(found) > 1:
            found = sorted(set(found), key=lambda one: one.id)
        return tuple(found)


class Subscriptions:
    """The subscriptions of this node, each with its id for as long as anybody has it."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._by_key: WeakValueDictionary[tuple[str, str], Subscription] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._by_key)

    def get(self, match: str, uri: str) -> Subscription:
        """The subscription to a topic or a pattern, made if there is none."""
        found = self._by_key.get((match, uri))
        if found is None:
            found = self._by_key[match, uri] = Subscription(next(self._numbers), match, uri)
        return found


class Interests:
    """The interests of those who share their frames where they have the same."""

    def __init__(self) -> None:
        self._by_key: WeakValueDictionary[tuple[frozenset[Subscription], str], Interest] = (
            WeakValueDictionary()
        )

    def get(self, subscriptions: frozenset[Subscription], user: str) -> Interest:
        """The one object for these subscriptions of a user."""
        if not any(one.personal for one in subscriptions):
            user = ""
        key = (subscriptions, user)
        found = self._by_key.get(key)
        if found is None:
            found = self._by_key[key] = Interest(subscriptions, user)
        return found


class Place(msgspec.Struct, frozen=True):
    """What a client publishes to: the room, and the event that it is there."""

    room: str
    event: str


#: The topics of a room to which clients publish, with the event that this is.
_PUBLISHED: Final = {"message": "room:message", "typing": "user:typing"}


def place_of(uri: str) -> Place | None:
    """What a client's publishing to a topic means; None where only services publish."""
    kind, _, rest = uri.partition(".")
    room, _, action = rest.partition(".")
    event = _PUBLISHED.get(action) if kind == "room" else None
    return None if event is None else Place(room, event)


def channel_of(uri: str) -> str:
    """The channel whose publications have this topic.

    :raises InvalidMessage: there is none.
    """
    kind, _, rest = uri.partition(".")
    owner, dot, action = rest.partition(".")
    if kind in ("room", "event"):
        # The last part of such a channel is the action, all before it the room.
        if not dot or "." in action or ":" in action:
            raise InvalidMessage("what is published to a room has a topic of three parts")
        return f"{kind}:{owner}:{action}"
    if kind == "user" and dot:
        return f"user:{unquote(owner)}:{action.replace('.', ':')}"
    return uri.replace(".", ":")
