"""Newest: what an event of loss class ``latest`` tells the value of, by which a newer one is known."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Final

import msgspec

#: The events that tell a user's status.
_STATUSES: Final = frozenset(("user:online", "user:offline", "user:status_change"))

#: Fields of a payload that say what it is about, not how that is now: ``eventId``, ``ticketType``…
_NAMING: Final = re.compile(r"(?i:id|key|type|category|class|section|zone|block|row|seat|tier|sku|name)$")

#: Name a message, not what it is about.
_MESSAGES: Final = frozenset(("messageId", "message_id"))

_FIELDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Newest:
    """What one event tells the value of.

    That is found out only if the event must wait for somebody, and then once.

    :ivar event: its name.
    """

    __slots__ = ("_channel", "_data", "_key", "event")

    def __init__(self, event: str, data: bytes, channel: str = "") -> None:
        self.event = event
        self._data = data
        self._channel = channel
        self._key: Hashable = None

    @property
    def key(self) -> Hashable:
        """Equal for two events of which the later makes the earlier one worthless.

        Of statuses that is the user, whichever of the events tells it. Of all others the event's name,
        its channel, and the fields of its payload that name something.
        """
        if self._key is None:
            self._key = self._found()
        return self._key

    def _found(self) -> Hashable:
        try:
            fields = _FIELDS.decode(self._data)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            fields = {}
        if self.event in _STATUSES:
            return "user:status_change", bytes(fields.get("userId", b""))
        named = sorted(
            (name, bytes(value))
            for name, value in fields.items()
            if _NAMING.search(name) and name not in _MESSAGES
        )
        return self.event, self._channel, *named
