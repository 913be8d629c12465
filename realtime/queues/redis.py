"""RedisQueues: who waits in which queue, for all nodes over one Redis; each step one script (queue.lua)."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Series
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred
from zope.interface import implementer

from ..broker.redis import RedisBroker
from ..errors import PastTime, QueueConflict, QueueFull, TooManyQueues, UnknownProceed, WorkerReplaced
from ..ids import session_number, unique_id
from ..messages import Sequence
from .interface import (
    LEASE,
    MAX_TAKEN,
    Change,
    IQueues,
    Joined,
    Proceed,
    Proceeded,
    Pulled,
    QueueLimits,
    Waiting,
)
from .payloads import proceed_parts

#: What is ended in one go.
SWEPT: Final = 200

_decode_change = msgspec.json.Decoder(Change).decode


@implementer(IQueues)
class RedisQueues:
    """Keeps it in Redis. Changes are told to all nodes by the signal `signals.QUEUED`.

    :param wall: seconds since the epoch.
    """

    def __init__(self, broker: RedisBroker, limits: QueueLimits, wall: Callable[[], float]) -> None:
        self._broker = broker
        self._limits = limits
        self._ttl = round(limits.ttl * 1000)
        self._wall = wall

    def join(self, event: str, user: str, connection: str) -> Deferred[Joined]:
        limits = self._limits
        asked = self._broker.run(
            "queue_join",
            *(event, user, connection, session_number(connection)),
            *(self._ttl, limits.waiting, limits.per_user, limits.events),
        )
        return asked.addCallback(_joined)

    def leave(self, event: str, user: str, reason: str) -> Deferred[bool]:
        asked = self._broker.run("queue_leave", event, user, reason)
        return asked.addCallback(lambda answer: answer[1] == b"1")

    def confirm(self, event: str, user: str, proceed: str) -> Deferred[None]:
        def confirmed(answer: list[bytes]) -> None:
            if answer[0] != b"OK":
                raise UnknownProceed()

        return self._broker.run("queue_confirm", event, user, proceed).addCallback(confirmed)

    def greet(self, user: str, connection: str, opened: Sequence) -> Deferred[frozenset[str]]:
        return Deferred.fromCoroutine(self._greet(user, connection, opened))

    async def _greet(self, user: str, connection: str, opened: Sequence) -> frozenset[str]:
        # Most users are in no queue: they cost a look.
        if not (await self._broker.read("queue_user", user))[1]:
            return frozenset()
        place = (opened.number, opened.epoch)
        _, *events = await self._broker.run("queue_greet", user, session_number(connection), *place)
        return frozenset(event.decode() for event in events)

    def touch(self, places: Series[tuple[str, str]]) -> Deferred[list[tuple[str, str]]]:
        flat = [name for place in places for name in place]

        def over(answer: list[bytes]) -> list[tuple[str, str]]:
            names = [name.decode() for name in answer[1:]]
            return list(zip(names[::2], names[1::2], strict=True))

        return self._broker.run("queue_touch", self._ttl, *flat).addCallback(over)

    def positions(self, event: str, told: Series[tuple[str, int, bytes]]) -> Deferred[list[str]]:
        flat = [part for one in told for part in one]
        asked = self._broker.run("queue_positions", event, *flat)
        return asked.addCallback(lambda answer: [user.decode() for user in answer[1:]])

    def proceed(self, proceed: Proceed) -> Deferred[Proceeded]:
        now = int(self._wall() * 1000)
        parts = proceed_parts(proceed, now)
        asked = self._broker.run(
            "queue_proceed",
            *(proceed.event, proceed.user, proceed.id, proceed.expires, unique_id(now), now),
            *parts,
        )
        return asked.addCallback(_proceeded, proceed)

    def members(self, event: str, after: int, limit: int) -> Deferred[tuple[list[Waiting], int]]:
        def read(answer: list[Any]) -> tuple[list[Waiting], int]:
            _, count, *flat = answer
            found = [
                Waiting(user.decode(), int(number), int(since), int(position) if position else None)
                for user, number, since, position in zip(*(flat[at::4] for at in range(4)), strict=True)
            ]
            return found, int(count)

        return self._broker.read("queue_members", event, after, limit).addCallback(read)

    def pull(self, worker: str, session: str, replay: bool, begin: str, limit: int) -> Deferred[Pulled]:
        asked = self._broker.run(
            "queue_pull",
            *(worker, session, "1" if replay else "", begin),
            *(round(LEASE * 1000), MAX_TAKEN, limit),
        )
        return asked.addCallback(_pulled)

    def acknowledge(self, changes: Series[Change]) -> Deferred[None]:
        flat = [part for change in changes for part in (change.event_id, change.subject, change.id)]
        return self._broker.run("queue_acknowledge", *flat).addCallback(lambda answer: None)

    def release(self, worker: str, session: str) -> Deferred[None]:
        return self._broker.run("queue_release", worker, session).addCallback(lambda answer: None)

    def sweep(self) -> Deferred[int]:
        return self._broker.run("queue_sweep", SWEPT).addCallback(lambda answer: int(answer[1]))


def _joined(answer: list[Any]) -> Joined:
    what = answer[0]
    if what == b"FULL":
        raise QueueFull()
    if what == b"TOO MANY":
        raise TooManyQueues()
    if what == b"PROCEED":
        return Joined(0, known=True, proceed=True)
    _, number, known, position = answer
    return Joined(int(number), known == b"1", int(position) if position else None)


def _proceeded(answer: list[Any], proceed: Proceed) -> Proceeded:
    what = answer[0]
    if what == b"CONFLICT":
        raise QueueConflict()
    if what == b"PAST":
        raise PastTime("expiresAt is not a time to come")
    if what == b"NOT WAITING":
        return Proceeded(proceed.id, "not_waiting")
    _, made, state, since = answer
    return Proceeded(made.decode(), state.decode(), what == b"REPEATED", int(since))


def _pulled(answer: list[Any]) -> Pulled:
    if answer[0] != b"OK":
        raise WorkerReplaced()
    _, begun, more, *texts = answer
    return Pulled(begun == b"1", [_decode_change(text) for text in texts], more == b"1")
