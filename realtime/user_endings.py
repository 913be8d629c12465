"""UserEndings: how the sessions of a user end for good, on all nodes."""

from __future__ import annotations

import msgspec
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from . import signals
from .arrivals import Arrivals
from .broker.interface import IBroker, IStateStore
from .connections import Connections
from .endings import Endings
from .errors import Close, Kicked
from .notices import Notices
from .signals import Ended


class UserEndings:
    """Ends them in the store, and has every node close its connections of them."""

    def __init__(
        self,
        *,
        broker: IBroker,
        store: IStateStore,
        connections: Connections,
        arrivals: Arrivals,
        endings: Endings,
        notices: Notices,
    ) -> None:
        self._broker = broker
        self._store = store
        self._connections = connections
        self._arrivals = arrivals
        self._endings = endings
        self._notices = notices

    async def disconnect_user(self, user: str, close: Close = Close.KICKED, message: str = "") -> int:
        """End all sessions of a user for good, on all nodes; how many connections that were.

        :param message: what those who are kicked are told.
        """
        ended = await self.forget_user(user, close)
        await self.tell_ended(msgspec.structs.replace(ended, message=message))
        return len(ended.connections)

    async def disconnect(self, user: str, connection: str, close: Close, message: str = "") -> int:
        """End the session of one of a user's connections for good, wherever it is; 0 if it is not there."""
        presence = await self._store.presence(user)
        if all(meta.connection != connection for meta in presence.metas):
            return 0
        await self.tell_ended(Ended(user, (connection,), close.reason, message))
        return 1

    async def forget_user(self, user: str, close: Close) -> Ended:
        """End all sessions of a user in the store; their connections are yet to be told."""
        connections = await self._store.forget_user(user)
        return Ended(user, tuple(sorted(connections)), close.reason)

    def tell_ended(self, ended: Ended) -> Deferred[None]:
        """Have the nodes close the connections of sessions that have ended.

        With the bus away those that are here are closed, and the others when the store is compared.
        """

        def here(failure: Failure) -> Failure:
            self.ended(ended)
            return failure

        return self._broker.signal(*signals.encode(ended)).addErrback(here)

    def ended(self, ended: Ended) -> None:
        """The sessions of some of a user's connections have ended for good: close those that are here."""
        close = next((close for close in Close if close.reason == ended.reason), Close.KICKED)
        for connection in self._arrivals.among(ended.connections):
            # The store began it before it ended it; only its answer is still on the way.
            self._endings.terminate(connection, close)
        connections = [c for c in self._connections.of_user(ended.user) if c.id in ended.connections]
        for connection in connections:
            self._endings.dismiss(connection)
        for connection in connections:
            self._endings.tell("session ended", connection, close.reason)
            if close is Close.KICKED:
                self._notices.error(connection, Kicked(ended.message))
            self._endings.terminate(connection, close)
