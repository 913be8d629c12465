"""Rights: who may join a room, publish in it, read its history, see who is there.

The rules are a table by room pattern; the first that matches counts, and after those of the
configuration file come the ones that always stand: ``private:`` rooms need a grant, all others are
open. What a room's rule is, is looked up once.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from typing import Final, Literal

import msgspec

from .config_file import Mode, RoomRule
from .errors import InvalidRoom, RealtimeError, RoomForbidden
from .messages import Identity, Publication, user_room
from .names import valid_room

Action = Literal["join", "publish", "history", "presence"]

#: Rooms that are joined for their members and closed to everybody else.
RESERVED: Final = ("user:", "role:")

#: Events that tell who is where.
PRESENCE: Final = frozenset(
    ("room:user_joined", "room:user_left", "user:online", "user:offline", "user:status_change")
)

#: What stands after the rules of the configuration file.
DEFAULTS: Final = (
    RoomRule("private:*", join=("granted",)),
    RoomRule("*"),
)

#: Rooms whose rule is remembered, at most.
_REMEMBERED: Final = 20_000


def granted(identity: Identity, room: str) -> bool:
    """Whether the token names the room, exactly or by a pattern that ends in ``*``."""
    return any(
        room.startswith(grant[:-1]) if grant.endswith("*") else room == grant for grant in identity.grants
    )


class Access(msgspec.Struct, frozen=True):
    """Who may do one thing in some rooms."""

    everyone: bool
    granted: bool
    roles: frozenset[str]
    users: frozenset[str]

    @classmethod
    def of(cls, whom: Iterable[str]) -> Access:
        """From what the configuration file says."""
        words = set(whom)
        return cls(
            "everyone" in words,
            "granted" in words,
            frozenset(word[5:] for word in words if word.startswith("role:")),
            frozenset(word[5:] for word in words if word.startswith("user:")),
        )

    def admits(self, identity: Identity, room: str) -> bool:
        """Whether somebody may."""
        return (
            self.everyone
            or (self.granted and granted(identity, room))
            or not self.roles.isdisjoint(identity.roles)
            or identity.user in self.users
        )


class Rule(msgspec.Struct, frozen=True):
    """Who may do what in some rooms."""

    pattern: str
    join: Access
    publish: Access
    history: Access
    presence: Access
    filter: Mode | None

    @classmethod
    def of(cls, rule: RoomRule) -> Rule:
        """From the configuration file's."""
        return cls(
            rule.pattern,
            Access.of(rule.join),
            Access.of(rule.publish),
            Access.of(rule.history),
            Access.of(rule.presence),
            rule.filter,
        )

    def matches(self, room: str) -> bool:
        if self.pattern.endswith("*"):
            return room.startswith(self.pattern[:-1])
        return room == self.pattern


class Rights:
    """The rules of this deployment.

    :param rules: those of the configuration file.
    :param reserved: beginnings of room ids that are closed to all clients.
    :ivar hiding: whether there are rooms in which not everyone may see who comes and goes.
    """

    def __init__(self, rules: Iterable[RoomRule] = (), reserved: Iterable[str] = ()) -> None:
        self.replace(rules, reserved)

    def replace(self, rules: Iterable[RoomRule], reserved: Iterable[str]) -> None:
        """Let these rules take the place of those before."""
        self._rules = tuple(map(Rule.of, (*rules, *DEFAULTS)))
        self._reserved = (*RESERVED, *reserved)
        self._known: dict[str, Rule] = {}
        self.hiding = any(not rule.presence.everyone for rule in self._rules)

    def rule(self, room: str) -> Rule:
        """The rule that counts for a room."""
        rule = self._known.get(room)
        if rule is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            rule = next(rule for rule in self._rules if rule.matches(room))
            self._known[room] = rule
        return rule

    def check_name(self, room: str) -> None:
        """Refuse what is no room id, and rooms that are closed to clients.

        :raises InvalidRoom: it does not follow the grammar.
        :raises RoomForbidden: it is reserved.
        """
        if not valid_room(room):
            raise InvalidRoom()
        if room.startswith(self._reserved) or room in ("user", "role"):
            raise RoomForbidden("this room is joined for its members and closed to others")

    def check_join(self, identity: Identity, room: str) -> None:
        """Refuse who may not be in a room.

        :raises InvalidRoom: it is no room id.
        :raises RoomForbidden: it is reserved, or its rule does not admit them.
        """
        self.check_name(room)
        rule = self.rule(room)
        if not rule.join.admits(identity, room):
            if rule.join.granted:
                raise RoomForbidden("your token carries no grant for this room")
            raise RoomForbidden("you may not join this room")

    def check_publish(self, identity: Identity, room: str) -> None:
        """Refuse who may not speak in a room that they are in.

        :raises RoomForbidden: its rule does not admit them.
        """
        publish = self.rule(room).publish
        if not publish.everyone and not publish.admits(identity, room):
            raise RoomForbidden("you may not publish in this room")

    def check_history(self, identity: Identity, room: str) -> None:
        """Refuse who may not read what was said before.

        :raises RoomForbidden: the room's rule does not admit them.
        """
        if not self.rule(room).history.admits(identity, room):
            raise RoomForbidden("you may not read this room's history")

    def may(self, action: Action, identity: Identity, room: str) -> bool:
        """Whether somebody may do something in a room that they are in."""
        access: Access = getattr(self.rule(room), action)
        return access.admits(identity, room)

    def shows(self, identity: Identity, rooms: Set[str], publication: Publication) -> bool:
        """Whether a publication may be shown to somebody: of who comes and goes, not in every room.

        :param rooms: those that they are in.
        """
        if not self.hiding or publication.event not in PRESENCE:
            return True
        return any(
            room.startswith(RESERVED) or self.rule(room).presence.admits(identity, room)
            for room in publication.audience.targets & rooms
        )

    def may_be_in(self, identity: Identity, room: str) -> bool:
        """Whether an identity may stay in a room, or come back; also one that was joined for it."""
        if room.startswith("user:"):
            return room == user_room(identity.user)
        if room.startswith("role:"):
            return room.removeprefix("role:") in identity.roles
        try:
            self.check_join(identity, room)
        except RealtimeError:
            return False
        return True

    def granted_rooms(self, identity: Identity) -> list[str]:
        """The rooms that a token joins; its patterns only open rooms."""
        return [
            room for room in identity.grants if valid_room(room) and not room.startswith(self._reserved)
        ]
