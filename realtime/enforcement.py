"""Enforcement: what a ban does to those who are here, on every node, when it is made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from twisted.logger import Logger

from .auth import Authenticator
from .bans import Bans
from .connections import Connection, Connections
from .endings import Endings
from .errors import Close, TokenRevoked, UserBlocked
from .trust.interface import Ban, Change, ITrust

_log = Logger()


class Enforcement:
    """Keeps this node's table of bans, and ends the sessions that they are of.

    :param traced: called when there may be other traces.
    """

    def __init__(
        self,
        bans: Bans,
        *,
        trust: ITrust,
        authenticator: Authenticator,
        connections: Connections,
        endings: Endings,
        traced: Callable[[], object] = lambda: None,
    ) -> None:
        self._bans = bans
        self._trust = trust
        self._authenticator = authenticator
        self._connections = connections
        self._endings = endings
        self._traced = traced

    def start(self) -> None:
        """Begin to hear of bans."""
        self._trust.start(self.heard, self.reset).addErrback(_failed)

    def stop(self) -> None:
        """Hear of them no more."""
        self._trust.stop().addErrback(_failed)

    def heard(self, change: Change) -> None:
        """A ban was made or lifted, here or on another node."""
        self._bans.apply(change)
        if change.ban.kind == "trace":
            self._traced()
        elif not change.lifted:
            self._end(list(self._whom(change.ban)))

    def reset(self, bans: Iterable[Ban]) -> None:
        """These are all bans that stand; some may be news."""
        self._bans.reset(bans)
        self._traced()
        self._end(list(self._connections))

    def _whom(self, ban: Ban) -> Iterator[Connection]:
        """Whose session a ban may be of."""
        if ban.kind in ("issued", "block"):
            yield from self._connections.of_user(ban.key)
        elif ban.kind == "token":
            for connection in self._connections:
                if connection.identity is not None and connection.identity.jti == ban.key:
                    yield connection

    def _end(self, connections: list[Connection]) -> None:
        for connection in connections:
            if connection.identity is None:
                continue
            try:
                self._authenticator.standing(connection.identity)
            except (TokenRevoked, UserBlocked) as error:
                self._endings.expel(connection, error, Close.REVOKED)


def _failed(failure: Any) -> None:
    _log.failure("bans could not be kept", failure)
