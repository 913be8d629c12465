"""Entrance: how a session that the store has admitted becomes live on this node."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from .auth import Authenticator
from .connections import Connection, Connections, State
from .endings import Endings
from .errors import Close, TokenRevoked, UserBlocked
from .metrics import Metrics
from .rooms import Rooms

_log = Logger()


class Entrance:
    """Lets connections in, step by step; none of the steps waits.

    :param traced: called with each connection that has become somebody, before it is told anything.
    """

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        connections: Connections,
        rooms: Rooms,
        endings: Endings,
        metrics: Metrics,
        traced: Callable[[Connection], object],
    ) -> None:
        self._authenticator = authenticator
        self._connections = connections
        self._rooms = rooms
        self._endings = endings
        self._metrics = metrics
        self._traced = traced

    def answer(self, connection: Connection) -> None:
        """Answer the client's CONNECT, if its protocol has such an answer."""
        if connection.identity is not None:
            self._traced(connection)
        frame = connection.session.connected(connection.id, connection.session_id)
        if frame is not None:
            connection.outlet.write(frame)

    def enter(self, connection: Connection) -> None:
        """From here on publications reach the connection."""
        if connection.state is State.ENDED:
            # The transport went while the store was asked: it leaves as it would have later.
            self._endings.suspend(connection)
            return
        connection.state = State.LIVE
        self._traced(connection)
        connection.reencode()
        self._endings.nobodies.remove(connection)
        self._connections.add(connection)
        self._rooms.admit(connection)
        for room in list(connection.rooms):
            self._rooms.enter(connection, room, room in connection.joined)
        self._metrics.connected(connection.outlet.transport)
        self._endings.tell("login", connection, connection.outlet.transport)
        _log.info(
            "connected",
            kind="connection",
            connection=connection.id,
            user=connection.user,
            address=connection.handshake.address,
        )

    def hold_to_bans(self, connection: Connection) -> None:
        """End a session whose token was revoked while the store was asked."""
        if connection.state is State.LIVE and connection.identity is not None:
            try:
                self._authenticator.standing(connection.identity)
            except (TokenRevoked, UserBlocked) as error:
                self._endings.expel(connection, error, Close.REVOKED)
