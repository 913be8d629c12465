"""Escalation: a client that goes on sending although it is refused is slowed, then closed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IReactorTime

from .addresses import block_of
from .connections import Connection
from .deadlines import Deadlines
from .limits import Buckets

#: Seconds for which nothing is read from a client that is slowed.
PAUSE: Final = 1.0

#: From which part of the refusals on, after which a client is closed, it is slowed.
SLOWED_FROM: Final = 0.1

#: Refusals between two pauses of a client that is slowed.
STEP: Final = 20


class Escalation:
    """Counts refusals, of a user on all connections here, of who is nobody by address.

    :param refusals: over `window`; past them the connection that earns one more is closed.
    :param window: seconds.
    :param close: closes a connection.
    :param began: called when a connection is refused that was not in a while.
    """

    def __init__(
        self,
        clock: IReactorTime,
        refusals: int,
        window: float,
        *,
        close: Callable[[Connection], None],
        began: Callable[[Connection], None],
    ) -> None:
        self._close = close
        self._began = began
        self._refusals = Buckets(refusals, window)
        self._slowed: Deadlines[Connection] = Deadlines(clock, PAUSE, self._resume)

    def refused(self, connection: Connection, now: float) -> None:
        """A message of the connection was refused because there were too many."""
        key = connection.user or f" {block_of(connection.handshake.address)}"
        interval, window = self._refusals.interval, self._refusals.window
        before = self._refusals.tats.get(key, 0.0) - now
        if before <= 0:
            self._began(connection)
        if self._refusals.take(key, now) > 0:
            self._close(connection)
            return
        count = round((max(before, 0.0) + interval) / interval)
        if (count * interval) > SLOWED_FROM * window and count % STEP == 0:
            connection.outlet.pause_reading()
            self._slowed.start(connection)

    def gone(self, connection: Connection) -> None:
        """The connection is over."""
        self._slowed.cancel(connection)

    def sweep(self, now: float) -> None:
        """Forget who was not refused for a while."""
        self._refusals.sweep(now)

    @staticmethod
    def _resume(connection: Connection) -> None:
        # While an earlier event of it waits, the router resumes it.
        if connection.parked is None:
            connection.outlet.resume_reading()
