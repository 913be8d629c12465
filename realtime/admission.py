"""Admission: asks the store for a session here, under the cap of its user's connections."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeVar

from . import signals
from .arrivals import Arrivals
from .broker.interface import Begun, IBroker, IStateStore, Limits, Recovered, Restored
from .connections import Connection, Connections
from .endings import Endings, not_kept
from .errors import Close, SessionReplaced, TooManyConnections
from .messages import Owner, SessionRecord
from .session_rules import SessionRules
from .signals import Crowded, Ended
from .user_endings import UserEndings

T = TypeVar("T")

#: How many times the connections of a user that are allowed are let in, where the limit is only tried.
DRY_RUN: Final = 100


class Admission:
    """Admits sessions that begin, and those that are taken up.

    The answer is a session's place in the order of things: from there to its entry (`Entrance`)
    nothing may wait.

    :param wall: seconds since the epoch.
    :param over: called when a user has one connection more than may be.
    """

    def __init__(
        self,
        wall: Callable[[], float],
        rules: SessionRules,
        *,
        broker: IBroker,
        store: IStateStore,
        connections: Connections,
        arrivals: Arrivals,
        endings: Endings,
        user_endings: UserEndings,
        over: Callable[[], None],
    ) -> None:
        self._wall = wall
        self._evict_oldest = rules.evict_oldest
        self._limits = Limits(rules.connections, rules.members)
        self._loose = Limits(rules.connections * DRY_RUN, rules.members) if rules.dry_run else None
        self._over = over
        self._broker = broker
        self._store = store
        self._connections = connections
        self._arrivals = arrivals
        self._endings = endings
        self._user_endings = user_endings

    async def begin(
        self, connection: Connection, owner: Owner, session: str, rooms: Mapping[str, bool]
    ) -> Begun:
        """Begin a session, see `IStateStore.begin`.

        :raises SessionReplaced: it was taken up elsewhere before the answer came.
        """
        connection.since = self._now()
        with self._arrivals.expect(connection, owner.connection) as arrival:
            begun = await self._admit(
                owner.user,
                lambda limits: self._store.begin(owner, session, rooms, connection.since, limits),
            )
            if owner in arrival.displaced:
                raise SessionReplaced()
        return begun

    async def take_over(
        self, connection: Connection, record: SessionRecord, read: Recovered
    ) -> Restored | None:
        """Take up a session, see `IStateStore.take_over`.

        :raises SessionReplaced: it was taken up elsewhere before the answer came.
        """
        user = record.owner.user
        connection.since = self._now()
        with self._arrivals.expect(connection, record.owner.connection) as arrival:
            restored = await self._admit(
                user, lambda limits: self._store.take_over(record, read, connection.since, limits)
            )
            if restored is not None and restored.owner in arrival.displaced:
                raise SessionReplaced()
        return restored

    async def _admit(self, user: str, enter: Callable[[Limits], Awaitable[T]]) -> T:
        """Enter under the user's cap; one of the user's connections that owes a pong makes room."""
        try:
            return await enter(self._limits)
        except TooManyConnections:
            self._over()
            if self._loose is not None:
                return await enter(self._loose)
            if self._endings.evict(user) or (self._evict_oldest and await self._supersede(user)):
                return await enter(self._limits)
            # One on another node makes room for the next try.
            self._broker.signal(*signals.encode(Crowded(user))).addErrback(not_kept)
            raise

    async def _supersede(self, user: str) -> bool:
        """End a user's oldest connection; whether it was here, else its node makes room soon."""
        presence = await self._store.presence(user)
        if not presence.metas:
            return False
        oldest = min(presence.metas, key=lambda meta: meta.since)
        connection = self._connections.get(oldest.connection)
        if connection is None:
            await self._user_endings.tell_ended(Ended(user, (oldest.connection,), Close.SUPERSEDED.reason))
            return False
        self._endings.terminate(connection, Close.SUPERSEDED)
        return True

    def _now(self) -> int:
        return int(self._wall() * 1000)
