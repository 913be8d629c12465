"""Names of rooms, users, services and events: their grammar (DESIGN.md section 3)."""

from __future__ import annotations

import re
from typing import Final

#: The most characters of a room id, of a user id, and of an event name.
NAME_LENGTH: Final = 128

#: A room id: parts of letters, digits, ``_`` and ``-``, joined by colons.
ROOM_PATTERN: Final = r"^[A-Za-z0-9_-]+(:[A-Za-z0-9_-]+)*\Z"

#: What a user id may not hold, besides what can't be printed.
FORBIDDEN_IN_USERS: Final = frozenset(" :{}*?[]")

_room = re.compile(ROOM_PATTERN).match
_service = re.compile(r"[a-z][a-z0-9_-]{0,31}\Z").match


def valid_room(text: str) -> bool:
    """Whether a text is a room id."""
    return len(text) <= NAME_LENGTH and _room(text) is not None


def valid_user(text: str) -> bool:
    """Whether a text is a user id: printable, at most 128 characters, no space and none of ``:{}*?[]``."""
    return 0 < len(text) <= NAME_LENGTH and text.isprintable() and FORBIDDEN_IN_USERS.isdisjoint(text)


def valid_event(text: str) -> bool:
    """Whether a text can be an event's name, or the last parts of one: the grammar of room ids."""
    return valid_room(text)


def valid_service(text: str) -> bool:
    """Whether a text can be the name of a publishing service: a-z 0-9 _ -, at most 32 characters."""
    return _service(text) is not None
