"""Queueing: clients in booking queues: their joining, their leaving, and what they must not miss of it."""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from .broker.interface import IBroker
from .connections import Connection, Connections, State
from .errors import BrokerUnavailable, InvalidMessage
from .events import OfQueue, QueueConfirm
from .messages import Event, Sequence
from .names import valid_room
from .periodic import Periodic
from .queues.interface import IQueues
from .rights import Rights

_log = Logger()

#: Places that are kept in one step.
TOUCHED: Final = 500
#: Seconds between looks for what is over, and between tries to greet those whom the bus kept from it.
SWEEP: Final = 5.0
AGAIN: Final = 1.0

#: How much longer a place is kept in the store: by so much may the last sign of its user be older.
MARGIN: Final = 1.25

Fields = dict[str, Any]


def check_event(event: str) -> str:
    """The room that stands for an event, whose rules count for its queue too.

    :raises InvalidMessage: it is no event id.
    """
    room = f"event:{event}"
    if not valid_room(room):
        raise InvalidMessage("eventId: expected parts of A-Z a-z 0-9 _ - joined by colons, at most 122")
    return room


class Queueing:
    """What the clients of this node do in queues.

    :param ttl: seconds for which a place is kept for a user who is not connected.
    """

    def __init__(
        self,
        clock: IReactorTime,
        *,
        queues: IQueues,
        broker: IBroker,
        connections: Connections,
        rights: Rights,
        ttl: float,
    ) -> None:
        self._queues = queues
        self._broker = broker
        self._connections = connections
        self._rights = rights
        # The places of users who are connected here, and connections that are yet to be greeted.
        self._places: dict[str, set[str]] = {}
        self._ungreeted: dict[Connection, Sequence] = {}
        self._periodic = Periodic(
            clock, (AGAIN, self._greet_again), (SWEEP, self._sweep), ((MARGIN - 1) * ttl, self._touch)
        )

    def start(self) -> None:
        """Begin to keep places, and to end what is over."""
        self._periodic.start()

    def stop(self) -> None:
        """End it."""
        self._periodic.stop()

    @property
    def waiting(self) -> int:
        """Places of users who are connected here."""
        return sum(map(len, self._places.values()))

    # -- what clients send

    async def join(self, connection: Connection, join: OfQueue, _: Event) -> Fields:
        """``queue:join``; answers the event, and the last position if there was one."""
        event = join.event
        room = check_event(event)
        identity = connection.identity
        assert identity is not None
        self._rights.check_join(identity, room)
        joined = await self._queues.join(event, connection.user, connection.id)
        told: Fields = {"eventId": event}
        if joined.proceed:
            return {**told, "proceed": True}
        self._places.setdefault(connection.user, set()).add(event)
        return told if joined.position is None else {**told, "position": joined.position}

    async def leave(self, connection: Connection, leave: OfQueue, _: Event) -> Fields:
        """``queue:leave``"""
        event = leave.event
        check_event(event)
        await self._queues.leave(event, connection.user, "left")
        self._places.get(connection.user, set()).discard(event)
        return {"eventId": event}

    async def confirm(self, connection: Connection, confirm: QueueConfirm, _: Event) -> Fields:
        """``queue:confirm``"""
        event = confirm.event
        check_event(event)
        await self._queues.confirm(event, connection.user, confirm.proceed_id)
        return {"eventId": event, "proceedId": confirm.proceed_id}

    # -- what they must not miss

    def arrived(self, connection: Connection, opened: Sequence) -> None:
        """A session has begun at that place, or was taken up: tell it where its user stands."""
        greeting = self._queues.greet(connection.user, connection.id, opened)
        greeting.addCallbacks(
            self._greeted, self._not_greeted, callbackArgs=(connection,), errbackArgs=(connection, opened)
        )
        greeting.addErrback(lambda failure: _log.failure("a user in queues was not greeted", failure))

    def _greeted(self, events: frozenset[str], connection: Connection) -> None:
        if events and connection.state is State.LIVE:
            self._places.setdefault(connection.user, set()).update(events)

    def _not_greeted(self, failure: Failure, connection: Connection, opened: Sequence) -> None:
        failure.trap(BrokerUnavailable)
        self._ungreeted[connection] = opened

    def _greet_again(self) -> None:
        if not self._ungreeted or not self._broker.alive():
            return
        ungreeted, self._ungreeted = self._ungreeted, {}
        for connection, opened in ungreeted.items():
            if connection.state is State.LIVE:
                self.arrived(connection, opened)

    # -- keeping places, and ending what is over

    def _touch(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._touch_all()).addErrback(_away)

    async def _touch_all(self) -> None:
        for user in [user for user in self._places if not self._connections.of_user(user)]:
            del self._places[user]
        places = [(event, user) for user, events in self._places.items() for event in events]
        for at in range(0, len(places), TOUCHED):
            for event, user in await self._queues.touch(places[at : at + TOUCHED]):
                self._places.get(user, set()).discard(event)
        self._places = {user: events for user, events in self._places.items() if events}

    def _sweep(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._sweep_all()).addErrback(_away)

    async def _sweep_all(self) -> None:
        while await self._queues.sweep():
            pass


def _away(failure: Failure) -> None:
    """The bus is away: the next time will do."""
    failure.trap(BrokerUnavailable)
