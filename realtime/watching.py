"""Watching: services that want to hear of what happens on all nodes, and how they are told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from .queues.interface import Change

#: What this service says of users, to others, ends with this.
OURS: Final = b',"source":"realtime"}'

#: What there is to be told of.
KINDS: Final = frozenset(("presence", "queue"))

#: Told of one thing: its kind, and what it is, as JSON.
Told = Callable[[str, bytes], None]


class _Presence(msgspec.Struct, rename="camel", omit_defaults=True):
    user_id: str
    status: str
    timestamp: int
    text: str | None = None


class _Change(_Presence):
    event: str = ""


_decode: Final = msgspec.json.Decoder(_Presence).decode


class Watching:
    """Who watches through this node."""

    def __init__(self) -> None:
        self._watchers: dict[object, tuple[frozenset[str], frozenset[str], Told]] = {}

    def __len__(self) -> int:
        return len(self._watchers)

    def start(self, who: object, users: frozenset[str], told: Told, kinds: frozenset[str] = KINDS) -> None:
        """Tell somebody from now on.

        :param users: of whom; of all if it is empty.
        :param kinds: of what.
        """
        self._watchers[who] = (kinds, users, told)

    def stop(self, who: object) -> None:
        """Tell them no more."""
        self._watchers.pop(who, None)

    def presence(self, event: str, data: bytes) -> None:
        """The presence of a user has changed, on whichever node.

        :param data: the payload of ``user:online`` and its like.
        """
        if not self._watchers:
            return
        if data.endswith(OURS):
            data = data[: -len(OURS)] + b"}"
        try:
            change = _decode(data)
        except msgspec.DecodeError:
            return
        told = msgspec.json.encode(
            _Change(change.user_id, change.status, change.timestamp, change.text, event)
        )
        self._tell(change.user_id, "presence", told)

    def queue(self, change: Change) -> None:
        """Somebody has joined or left a booking queue, or has got a proceed, on whichever node."""
        if self._watchers:
            self._tell(change.user_id, "queue", msgspec.json.encode(change))

    def _tell(self, user: str, kind: str, told: bytes) -> None:
        for kinds, users, tell in list(self._watchers.values()):
            if kind in kinds and (not users or user in users):
                tell(kind, told)
