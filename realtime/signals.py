"""Signals: what nodes tell each other beside publications, by name."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from .broker.interface import Preferences

#: The name of a signal of a ban, whose data are its maker's (`trust.redis`).
BANNED: Final = "banned"

#: The name of a signal of a change in a booking queue: a `queues.interface.Change`, or null.
QUEUED: Final = "queued"


class Ended(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Sessions of one user that have ended for good, by connection.

    :ivar reason: that of a `Close`.
    :ivar message: what those who are kicked are told; empty for what they are told without one.
    """

    user: str
    connections: tuple[str, ...]
    reason: str
    message: str = ""


class Preferred(msgspec.Struct, frozen=True, gc=False):
    """A user has new preferences."""

    user: str
    preferences: Preferences


class Crowded(msgspec.Struct, frozen=True, gc=False):
    """A user was refused a connection for having too many: one that owes a pong is to make room."""

    user: str


class Asked(msgspec.Struct, frozen=True, gc=False):
    """An operator's question to a node, or to all; see `inquiries`.

    :ivar by: the node that asks.
    :ivar number: its question's.
    :ivar to: the node that is asked; empty for all.
    """

    by: str
    number: int
    to: str
    what: str
    arguments: dict[str, str]


class Told(msgspec.Struct, frozen=True, gc=False):
    """The answer of a node: JSON, null where it has none.

    :ivar by: the node that answers.
    :ivar to: the node that asked.
    """

    by: str
    to: str
    number: int
    body: msgspec.Raw


class Removed(msgspec.Struct, frozen=True, gc=False):
    """Sessions of one user were taken out of a room by a service.

    :ivar connections: those that were live.
    :ivar reason: what they are told.
    :ivar to: the room into which they are to be put; empty for none.
    """

    user: str
    room: str
    connections: tuple[str, ...]
    reason: str
    to: str = ""


Signal = Ended | Preferred | Crowded | Removed | Asked | Told

_TYPES: Final[dict[str, Any]] = {
    "ended": Ended,
    "preferred": Preferred,
    "crowded": Crowded,
    "asked": Asked,
    "told": Told,
    "removed": Removed,
}
_NAMES: Final = {kind: name for name, kind in _TYPES.items()}


def encode(signal: Signal) -> tuple[str, bytes]:
    """The name and the data under which `IBroker.signal` sends it."""
    return _NAMES[type(signal)], msgspec.json.encode(signal)


def decode(name: str, data: bytes) -> Signal | None:
    """What was signalled; None for what this version does not know."""
    kind = _TYPES.get(name)
    try:
        found: Signal | None = None if kind is None else msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return found
