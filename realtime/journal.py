"""Journal: what the log says of messages, of which it takes a sample, and of what was slow.

Of a message it says what it is, whose, and how large. What is in it is shown only where that is wanted,
and never of payments, of what lets somebody in, and of what services publish as clients.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Final

from twisted.logger import Logger

from .connections import Connection
from .line_limit import LineLimit
from .messages import Publication
from .payload import without_secrets

_log = Logger()

#: Lines in `line_limit.WINDOW`, at most: of messages, and of what was slow.
MESSAGES: Final = 2000
SLOW: Final = 100

#: Bytes of a message that are looked at to be shown.
_SHOWN: Final = 1024
_PRIVATE: Final = ("auth:", "payment:", "service:")


class Journal:
    """Writes the lines.

    :param seconds: a monotonic clock.
    :param every: one of so many messages is told; 0 for none.
    :param payloads: whether what is in messages is shown.
    :param slow: seconds from which something is slow; 0 for never.
    :ivar sampling: whether `received` and `delivered` are to be called.
    :ivar slow: seconds from which `handled` is to be called.
    """

    def __init__(
        self, seconds: Callable[[], float], *, every: int = 0, payloads: bool = False, slow: float = 0.0
    ) -> None:
        self.sampling = every > 0
        self.slow = slow or inf
        self._every = every
        self._payloads = payloads
        self._came = self._went = 0
        self._messages = LineLimit("messages", MESSAGES, seconds)
        self._slow_ones = LineLimit("what was slow", SLOW, seconds)

    def shown(self, event: str, data: bytes) -> dict[str, str]:
        """What a line shows of what is in a message: its field ``data``, or nothing."""
        if not self._payloads or not data or event.startswith(_PRIVATE):
            return {}
        return {"data": without_secrets(data[:_SHOWN]).decode("utf-8", "backslashreplace")}

    # -- messages

    def received(self, connection: Connection, event: str, data: bytes) -> None:
        """A client sent an event."""
        self._came += 1
        if self._came % self._every == 0 and self._messages.take():
            _log.info(
                "in: {event}",
                kind="message",
                event=event,
                user=connection.user,
                connection=connection.id,
                protocol=connection.session.protocol,
                bytes=len(data),
                **self.shown(event, data),
            )

    def delivered(self, publication: Publication, receivers: int, late: float) -> None:
        """A publication went to so many connections, so many seconds after it came."""
        self._went += 1
        if self._went % self._every == 0 and self._messages.take():
            position = publication.position
            _log.info(
                "out: {event}",
                kind="message",
                event=publication.event,
                id=publication.id,
                offset=None if position is None else position.offset,
                bytes=len(publication.data),
                receivers=receivers,
                milliseconds=round(late * 1000, 1),
                **self.shown(publication.event, publication.data),
            )

    # -- what was slow

    def handled(self, connection: Connection, event: str, seconds: float) -> None:
        """An event of a client took so long until it was answered."""
        if self._slow_ones.take():
            _log.info(
                "slow: {event} took {milliseconds} ms",
                kind="performance",
                event=event,
                user=connection.user,
                connection=connection.id,
                milliseconds=round(seconds * 1000),
            )

    def commanded(self, link: str, command: str, seconds: float) -> None:
        """Redis took so long to answer a command."""
        if self._slow_ones.take():
            _log.info(
                "slow: Redis answered {command} of {link} after {milliseconds} ms",
                kind="performance",
                link=link,
                command=command,
                milliseconds=round(seconds * 1000),
            )

    def turned(self, seconds: float) -> None:
        """The reactor was late by so much: something has held it."""
        if seconds >= self.slow and self._slow_ones.take():
            _log.info(
                "slow: the reactor was held for {milliseconds} ms",
                kind="performance",
                milliseconds=round(seconds * 1000),
            )
