"""Endings: how a connection and its session end on this node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from .arrivals import Arrivals
from .broker.interface import IStateStore
from .connections import Connection, Connections, State
from .deadlines import Deadlines
from .errors import BrokerUnavailable, Close, RealtimeError
from .messages import Owner
from .metrics import Metrics
from .nobodies import Nobodies
from .notices import Notices
from .rooms import Rooms
from .security import Security
from .session_rules import SessionRules

_log = Logger()


class Endings:
    """Ends connections and sessions: those that are meant to come back, and those that are not.

    :param wall: seconds since the epoch.
    :ivar nobodies: the connections that have no session yet, or no more.
    :ivar grace: sessions, by owner and id, whose transport is gone and whose user is still shown.
    :ivar settling: connections that took up a session a moment ago, see `ISession.settle`.
    """

    def __init__(
        self,
        clock: IReactorTime,
        wall: Callable[[], float],
        rules: SessionRules,
        *,
        store: IStateStore,
        connections: Connections,
        arrivals: Arrivals,
        rooms: Rooms,
        notices: Notices,
        metrics: Metrics,
        security: Security,
    ) -> None:
        self._wall = wall
        self._rules = rules
        self._store = store
        self._connections = connections
        self._arrivals = arrivals
        self._rooms = rooms
        self._notices = notices
        self._metrics = metrics
        self._security = security
        self.nobodies: Final = Nobodies(clock, rules, self.end)
        self.grace: Final[Deadlines[tuple[Owner, str]]] = Deadlines(clock, rules.grace, self._gone)
        self.settling: Final[Deadlines[Connection]] = Deadlines(clock, rules.login, _settle)

    def closed(self, connection: Connection, reason: str) -> None:
        """The transport is gone: the session waits to be taken up."""
        self.nobodies.remove(connection)
        self.settling.cancel(connection)
        live = connection.state is State.LIVE
        connection.state = State.ENDED
        if live:
            self.dismiss(connection)
            self.suspend(connection)
            self._metrics.disconnected(reason)
            _tell_disconnected(connection, reason)

    def end(self, connection: Connection, close: Close) -> None:
        """Close a connection that is meant to come back."""
        self.closed(connection, close.reason)
        connection.outlet.close(close)

    def left(self, connection: Connection) -> None:
        """The client ends its session for good; it may begin another in `SessionRules.login`."""
        self._finish(connection, State.LEFT, "client_disconnect")
        self.nobodies.add(connection)

    def _finish(self, connection: Connection, state: State, reason: str) -> None:
        self.nobodies.remove(connection)
        self.settling.cancel(connection)
        live = connection.state is State.LIVE
        connection.state = state
        if live:
            self.dismiss(connection)
            self._metrics.disconnected(reason)
            _log.info(
                "left",
                kind="connection",
                connection=connection.id,
                user=connection.user,
                reason=reason,
            )
            self._store.forget(connection.owner, connection.session_id).addErrback(not_kept)

    def terminate(self, connection: Connection, close: Close) -> None:
        """End a session and its connection for good; the client does not come back by itself."""
        self._finish(connection, State.ENDED, close.reason)
        frame = connection.session.disconnected()
        if frame is not None:
            connection.outlet.write(frame)
        connection.outlet.close(close)

    def expel(self, connection: Connection, error: RealtimeError, close: Close) -> None:
        """End a session for good, and say why."""
        self.tell("session ended", connection, error.code)
        self._notices.error(connection, error)
        self.terminate(connection, close)

    def evict(self, user: str) -> bool:
        """End one of a user's connections here that owes a pong; whether there was one."""
        for connection in self._connections.of_user(user):
            if connection.outlet.owes_pong:
                self.end(connection, Close.EVICTED)
                return True
        return False

    def displace(self, owner: Owner) -> bool:
        """Close the connection that held a session, unless another has taken that up meanwhile."""
        self._arrivals.displace(owner)
        old = self._connections.get(owner.connection)
        if old is None or old.owner != owner:
            return False
        self.dismiss(old)
        old.state = State.ENDED
        self._metrics.disconnected(Close.REPLACED.reason)
        _tell_disconnected(old, Close.REPLACED.reason)
        old.outlet.close(Close.REPLACED)
        return True

    def dismiss(self, connection: Connection) -> None:
        """Nothing reaches the connection any more, and nobody finds it here."""
        self._rooms.dismiss(connection)
        self._connections.remove(connection)

    def suspend(self, connection: Connection) -> None:
        """Its transport is gone: the session waits to be taken up, and leaves after the grace."""
        owner, session = connection.owner, connection.session_id
        last_seen = self._wall() - self._rules.dead
        self._store.suspend(owner, session, last_seen).addErrback(not_kept)
        self.grace.start((owner, session))

    def _gone(self, key: tuple[Owner, str]) -> None:
        self._store.withdraw(*key).addErrback(not_kept)

    def tell(self, kind: str, connection: Connection, reason: str) -> None:
        """A line of the security log about a connection."""
        self._security.tell(
            kind,
            user=connection.user,
            address=connection.handshake.address,
            connection=connection.id,
            reason=reason,
        )


def _tell_disconnected(connection: Connection, reason: str) -> None:
    _log.info(
        "disconnected",
        kind="connection",
        connection=connection.id,
        user=connection.user,
        reason=reason,
    )


def _settle(connection: Connection) -> None:
    connection.session.settle()
    connection.reencode()


def not_kept(failure: Failure) -> None:
    """The store, or the bus, has not taken what was to be kept of a session."""
    if failure.check(BrokerUnavailable):
        # What the store has of this node is compared with what is live once it is back.
        return
    _log.failure("session state could not be kept", failure)
