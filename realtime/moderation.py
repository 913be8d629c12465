"""Moderation: whether what a client says may be said: rights, mutes, content, spam, in that order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from .bans import Bans
from .config_file import ContentRule, Mode, SpamRule
from .connections import Connection
from .content import NoFilter
from .errors import ContentRefused, Muted, SpamRefused
from .events import RoomMessage
from .messages import Identity
from .metrics import Metrics
from .rights import Rights
from .security import Security
from .spam import Spam

#: What takes the place of each character that is masked.
MASK: Final = "*"

#: Texts of one message's data that are looked at, at most; one with more is refused.
MAX_TEXTS: Final = 1000


class Moderation:
    """Judges what clients say.

    :param wall: seconds since the epoch.
    """

    def __init__(
        self, rights: Rights, bans: Bans, metrics: Metrics, security: Security, wall: Callable[[], float]
    ) -> None:
        self._rights = rights
        self._bans = bans
        self._metrics = metrics
        self._security = security
        self._wall = wall
        self.replace(ContentRule(), NoFilter(), SpamRule())

    def replace(self, content: ContentRule, found: Any, spam: SpamRule) -> None:
        """Judge by these rules from now on.

        :param found: the `IContentFilter` of `content`.
        """
        self._mode: Mode = content.mode
        self._filter = found
        self._spam = Spam(spam)

    def check_voice(self, identity: Identity, room: str) -> None:
        """Let somebody speak, or type, in a room that they are in.

        :raises RoomForbidden: its rule does not admit them.
        :raises Muted: they are muted there.
        """
        self._rights.check_publish(identity, room)
        if self._bans.mutes:
            left = self._bans.muted(room, identity.user)
            if left != 0:
                self._metrics.moderated("muted")
                raise Muted(retry_after=left)

    def message(self, connection: Connection, identity: Identity, message: RoomMessage) -> RoomMessage:
        """A message as it may be said.

        :raises RoomForbidden, Muted: see `check_voice`.
        :raises ContentRefused: it holds what is not wanted.
        :raises SpamRefused: it is one too many of its kind.
        """
        room = message.room_id
        self.check_voice(identity, room)
        mode = self._rights.rule(room).filter or self._mode
        if mode != "off":
            message = self._filtered(connection, message, mode)
        if self._spam.rule.enabled:
            text = bytes(message.data).decode() if message.text is None else message.text
            try:
                self._spam.check(identity.user, room, text, self._wall())
            except SpamRefused:
                self._tell(connection, "spam", room)
                raise
        return message

    def presence_text(self, connection: Connection, text: str | None) -> str | None:
        """The text of a presence as it may be shown.

        :raises ContentRefused: it holds what is not wanted.
        """
        if not text or self._mode == "off":
            return text
        return self._text(connection, text, self._mode, "presence")

    def _filtered(self, connection: Connection, message: RoomMessage, mode: Mode) -> RoomMessage:
        if message.text is not None:
            text = self._text(connection, message.text, mode, message.room_id)
            if text == message.text:
                return message
            return msgspec.structs.replace(message, text=text)
        value = msgspec.json.decode(message.data)
        texts = _Texts(lambda text: self._text(connection, text, mode, message.room_id))
        changed = texts.visit(value)
        if not texts.changed:
            return message
        return msgspec.structs.replace(message, data=msgspec.Raw(msgspec.json.encode(changed)))

    def _text(self, connection: Connection, text: str, mode: Mode, place: str) -> str:
        """A text as it may be said, by what the filter finds in it."""
        spans = self._filter.find(text)
        if not spans:
            return text
        self._tell(connection, _DONE[mode], place)
        if mode == "reject":
            raise ContentRefused()
        return text if mode == "flag" else _masked(text, spans)

    def _tell(self, connection: Connection, what: str, place: str) -> None:
        self._metrics.moderated(what)
        self._security.tell(
            "content",
            user=connection.user,
            address=connection.handshake.address,
            connection=connection.id,
            reason=f"{what} {place}",
        )


_DONE: Final[dict[Mode, str]] = {"flag": "flagged", "mask": "masked", "reject": "refused"}


class _Texts:
    """Goes through all texts of a JSON value.

    :param judge: a text as it may be said.
    :ivar changed: whether any is not as it was.
    """

    def __init__(self, judge: Callable[[str], str]) -> None:
        self._judge = judge
        self._left = MAX_TEXTS
        self.changed = False

    def visit(self, value: Any) -> Any:
        """The value with its texts as they may be said; binary data is left alone."""
        if isinstance(value, str):
            return self._visit_text(value)
        if isinstance(value, list):
            return [self.visit(item) for item in value]
        if isinstance(value, dict):
            if len(value) == 1 and "$binary" in value:
                return value
            return {self._visit_text(name): self.visit(item) for name, item in value.items()}
        return value

    def _visit_text(self, text: str) -> str:
        self._left -= 1
        if self._left < 0:
            raise ContentRefused(f"the data holds over {MAX_TEXTS} texts")
        judged = self._judge(text)
        self.changed = self.changed or judged != text
        return judged


def _masked(text: str, spans: list[tuple[int, int]]) -> str:
    parts = []
    last = 0
    for start, end in spans:
        parts += [text[last:start], MASK * (end - start)]
        last = end
    return "".join([*parts, text[last:]])
