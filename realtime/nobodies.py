"""Nobodies: the connections that have not logged in, and how long and how many may stay so."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from .addresses import block_of
from .connections import Connection
from .deadlines import Deadlines
from .errors import Close
from .session_rules import SessionRules
from .strangers import Strangers


class Nobodies:
    """Those of one node.

    :param end: called with one that was nobody for too long, or had to make room, and why it ends.
    """

    def __init__(
        self, clock: IReactorTime, rules: SessionRules, end: Callable[[Connection, Close], None]
    ) -> None:
        self._end = end
        self._login: Deadlines[Connection] = Deadlines(clock, rules.login, self._not_logged_in)
        self._all: Strangers[Connection] = Strangers(rules.nobodies, max(1, rules.nobodies // 2))

    def __len__(self) -> int:
        return len(self._all)

    def add(self, connection: Connection) -> None:
        """From now on it has `SessionRules.login` to become somebody."""
        self._login.start(connection)
        evicted = self._all.add(connection, block_of(connection.handshake.address))
        if evicted is not None:
            self._end(evicted, Close.EVICTED)

    def remove(self, connection: Connection) -> None:
        """It has logged in, or is over."""
        self._login.cancel(connection)
        self._all.remove(connection)

    def _not_logged_in(self, connection: Connection) -> None:
        self._end(connection, Close.CONNECT_TIMEOUT)
