"""MemoryQueues: who waits in which queue, on one node that runs alone; the same steps as the scripts'."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable
from collections.abc import Sequence as Series
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, execute
from twisted.python.failure import Failure
from zope.interface import implementer

from ..broker.memory import MemoryBroker
from ..errors import (
    BrokerUnavailable,
    PastTime,
    QueueConflict,
    QueueFull,
    TooManyQueues,
    UnknownProceed,
    WorkerReplaced,
)
from ..ids import session_number, unique_id
from ..messages import Audience, Publication, Sequence, user_room
from .interface import (
    LEASE,
    MAX_TAKEN,
    RETENTION,
    Change,
    IQueues,
    Joined,
    Proceed,
    Proceeded,
    Pulled,
    QueueLimits,
    Waiting,
)
from .payloads import left_payload, proceed_payload


class _Entry(msgspec.Struct):
    """What a user is in a queue: w waits, p may proceed, l has left; see queue.lua."""

    kind: str
    number: int
    since: int
    connection: str = ""
    position: int | None = None
    told: bytes = b""
    reason: str = ""
    proceed: str = ""


class _Turn(msgspec.Struct):
    """A proceed."""

    user: str
    state: str
    expires: int
    since: int
    time: int
    publication: Publication
    number: int


class _Event:
    """One event's queue; see queue.lua."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.leader = ""
        self.cursor = 0
        self.replay: int | None = None
        self.until = 0
        self.told = 0
        # Both grow at their end, since numbers do.
        self.waiting: dict[str, int] = {}
        self.changes: dict[str, int] = {}
        self.entries: dict[str, _Entry] = {}
        self.turns: dict[str, _Turn] = {}

    @property
    def empty(self) -> bool:
        return not (self.waiting or self.changes or self.entries or self.turns)


class _Worker(msgspec.Struct):
    session: str
    until: float


@implementer(IQueues)
class MemoryQueues:
    """Keeps it in this process.

    :param wall: seconds since the epoch.
    :param told: called with each change, as JSON; null where there is merely something to pull.
    """

    def __init__(
        self,
        broker: MemoryBroker,
        limits: QueueLimits,
        wall: Callable[[], float],
        told: Callable[[bytes], object],
    ) -> None:
        self._broker = broker
        self._limits = limits
        self._wall = wall
        self._tell = told
        self._number = 0
        self._events: dict[str, _Event] = {}
        self._of_user: dict[str, set[str]] = {}
        self._ends: dict[tuple[str, str], float] = {}
        self._order: list[tuple[float, tuple[str, str]]] = []
        self._workers: dict[str, _Worker] = {}
        # Events without leader, and those of which something may not have been heard.
        self._orphans: set[str] = set()
        self._ready: set[str] = set()

    def _now(self) -> int:
        return int(self._wall() * 1000)

    def _next(self) -> int:
        self._number = max(self._number + 1, self._now() * 1000)
        return self._number

    # -- of clients

    def join(self, event: str, user: str, connection: str) -> Deferred[Joined]:
        return execute(self._join, event, user, connection)

    def _join(self, name: str, user: str, connection: str) -> Joined:
        event = self._events.get(name) or _Event(name)
        entry = event.entries.get(user)
        until = self._wall() + self._limits.ttl
        if entry is not None and entry.kind == "w":
            self._end_at(name, f"u {user}", until)
            return Joined(entry.number, True, entry.position)
        if entry is not None and entry.kind == "p":
            turn = event.turns.get(entry.proceed)
            if turn is not None and turn.expires > self._now():
                self._say_again(turn, connection)
                return Joined(0, known=True, proceed=True)
        limits = self._limits
        crowded = name not in self._events and len(self._events) >= limits.events
        if crowded or len(event.waiting) >= limits.waiting:
            raise QueueFull()
        if len(self._of_user.get(user, set()) - {name}) >= limits.per_user:
            raise TooManyQueues()
        self._events[name] = event
        number = self._next()
        event.waiting[user] = number
        event.entries[user] = _Entry("w", number, self._now(), connection)
        self._of_user.setdefault(user, set()).add(name)
        self._end_at(name, f"u {user}", until)
        self._change(event, f"u {user}", number)
        return Joined(number)

    def leave(self, event: str, user: str, reason: str) -> Deferred[bool]:
        return execute(self._leave, event, user, reason)

    def _leave(self, name: str, user: str, reason: str) -> bool:
        event = self._events.get(name)
        entry = None if event is None else event.entries.get(user)
        if event is None or entry is None or entry.kind == "l":
            return False
        self._go(event, user, entry, reason)
        self._tidy(event)
        return True

    def _go(self, event: _Event, user: str, entry: _Entry, reason: str) -> None:
        number, now, subject = self._next(), self._now(), f"u {user}"
        if entry.kind == "p":
            turn = event.turns.get(entry.proceed)
            self._forget(event, user)
            if turn is not None and turn.state in ("sent", "acknowledged"):
                turn.state, turn.time = "declined" if reason == "left" else "removed", now
                self._change(event, f"p {entry.proceed}", number)
        else:
            del event.waiting[user]
            if event.changes.get(subject, 0) > event.told:
                # No worker has heard that they came.
                del event.changes[subject]
                self._forget(event, user)
                left = Change(number, "left", event.name, user, now, reason=reason)
                self._tell(msgspec.json.encode(left))
            else:
                event.entries[user] = _Entry("l", number, now, reason=reason)
                self._end_at(event.name, subject, self._wall() + RETENTION)
                self._change(event, subject, number)
        self._say(user, "queue:left", left_payload(event.name, reason, now), logged=True)

    def confirm(self, event: str, user: str, proceed: str) -> Deferred[None]:
        return execute(self._confirm, event, user, proceed)

    def _confirm(self, name: str, user: str, proceed: str) -> None:
        event = self._events.get(name)
        turn = None if event is None else event.turns.get(proceed)
        if event is None or turn is None or turn.user != user:
            raise UnknownProceed()
        if turn.state == "acknowledged":
            return
        if turn.state != "sent" or turn.expires <= self._now():
            raise UnknownProceed()
        turn.state, turn.time = "acknowledged", self._now()
        self._change(event, f"p {proceed}", self._next())

    def greet(self, user: str, connection: str, opened: Sequence) -> Deferred[frozenset[str]]:
        return execute(self._greet, user, connection, opened)

    def _greet(self, user: str, connection: str, opened: Sequence) -> frozenset[str]:
        found = set()
        for name in sorted(self._of_user.get(user, ())):
            event = self._events[name]
            entry = event.entries[user]
            if entry.kind == "w":
                found.add(name)
                if entry.told:
                    self._say(user, "queue:position", entry.told, only=connection)
            elif entry.kind == "p":
                turn = event.turns[entry.proceed]
                older = turn.number <= opened.number
                if older and turn.state == "sent" and turn.expires > self._now():
                    self._say_again(turn, connection)
        return frozenset(found)

    def touch(self, places: Series[tuple[str, str]]) -> Deferred[list[tuple[str, str]]]:
        return execute(self._touch, places)

    def _touch(self, places: Series[tuple[str, str]]) -> list[tuple[str, str]]:
        over = []
        for name, user in places:
            if user in self._waiting(name):
                self._end_at(name, f"u {user}", self._wall() + self._limits.ttl)
            else:
                over.append((name, user))
        return over

    def _waiting(self, name: str) -> dict[str, int]:
        event = self._events.get(name)
        return {} if event is None else event.waiting

    # -- of workers

    def positions(self, event: str, told: Series[tuple[str, int, bytes]]) -> Deferred[list[str]]:
        return execute(self._positions, event, told)

    def _positions(self, name: str, told: Series[tuple[str, int, bytes]]) -> list[str]:
        absent = []
        for user, position, payload in told:
            if user not in self._waiting(name):
                absent.append(user)
                continue
            entry = self._events[name].entries[user]
            entry.position, entry.told = position, payload
            self._say(user, "queue:position", payload)
        return absent

    def proceed(self, proceed: Proceed) -> Deferred[Proceeded]:
        return execute(self._proceed, proceed)

    def _proceed(self, proceed: Proceed) -> Proceeded:
        event = self._events.get(proceed.event)
        entry = None if event is None else event.entries.get(proceed.user)
        made = proceed.id or ("" if entry is None else str(entry.number))
        turn = None if event is None else event.turns.get(made)
        if turn is not None:
            if turn.user != proceed.user:
                raise QueueConflict()
            return Proceeded(made, turn.state, True, turn.since)
        if event is None or entry is None or entry.kind != "w":
            return Proceeded(proceed.id, "not_waiting")
        now = self._now()
        if proceed.expires <= now:
            raise PastTime("expiresAt is not a time to come")
        subject = f"u {proceed.user}"
        del event.waiting[proceed.user]
        event.changes.pop(subject, None)
        self._ends.pop((event.name, subject), None)
        event.entries[proceed.user] = _Entry("p", entry.number, entry.since, proceed=made)
        payload = proceed_payload(msgspec.structs.replace(proceed, id=made), now)
        publication = Publication(
            *("queue:proceed", payload, _user(proceed.user), unique_id(now), now), expires=proceed.expires
        )
        # Its place is known before its delivery may have come to an end.
        turn = _Turn(proceed.user, "sent", proceed.expires, entry.since, now, publication, 2**53)
        event.turns[made] = turn
        self._end_at(event.name, f"p {made}", proceed.expires / 1000)
        placed: list[Any] = []
        self._broker.publish(publication).addBoth(placed.append)
        if isinstance(placed[0], Failure):
            del event.turns[made]
            placed[0].raiseException()
        turn.number = placed[0].sequence.number
        return Proceeded(made, "sent", False, entry.since)

    def members(self, event: str, after: int, limit: int) -> Deferred[tuple[list[Waiting], int]]:
        return execute(self._members, event, after, limit)

    def _members(self, name: str, after: int, limit: int) -> tuple[list[Waiting], int]:
        event = self._events.get(name)
        if event is None:
            return [], 0
        found = _after(event.waiting, after, limit)
        entries = [(user, event.entries[user]) for user, _ in found]
        told = [Waiting(user, entry.number, entry.since, entry.position) for user, entry in entries]
        return told, len(event.waiting)

    def pull(self, worker: str, session: str, replay: bool, begin: str, limit: int) -> Deferred[Pulled]:
        return execute(self._pull, worker, session, replay, begin, limit)

    def _pull(self, name: str, session: str, replay: bool, begin: str, limit: int) -> Pulled:
        worker = self._workers.get(name)
        if worker is not None and worker.session != session and begin != "first":
            raise WorkerReplaced()
        begins = worker is None or worker.session != session or bool(begin)
        now = self._wall()
        for other, known in list(self._workers.items()):
            if known.until <= now and other != name:
                self._dismiss(other)
        if begins:
            self._dismiss(name)
        self._workers[name] = _Worker(session, now + LEASE)
        self._take(name, replay)
        changes: list[Change] = []
        more = False
        for ready in sorted(self._ready):
            event = self._events[ready]
            if event.leader == name:
                if limit > len(changes) and self._hear(event, changes, limit):
                    self._ready.discard(ready)
                else:
                    more = True
        return Pulled(begins, changes, more)

    def _dismiss(self, name: str) -> None:
        if self._workers.pop(name, None) is None:
            return
        for event in self._events.values():
            if event.leader == name:
                event.leader = ""
                self._orphans.add(event.name)

    def _take(self, name: str, replay: bool) -> None:
        if not self._orphans:
            return
        share = math.ceil(len(self._events) / len(self._workers))
        leads = sum(event.leader == name for event in self._events.values())
        for orphan in sorted(self._orphans)[: max(0, min(MAX_TAKEN, share - leads))]:
            event = self._events[orphan]
            event.leader, event.cursor, event.until = name, 0, 0
            event.replay = 0 if replay else None
            self._orphans.discard(orphan)
            self._ready.add(orphan)

    def _hear(self, event: _Event, changes: list[Change], limit: int) -> bool:
        """Add what an event's leader has not heard; whether that was all."""
        left = limit - len(changes)
        if event.replay is not None:
            found = _after(event.waiting, event.replay, left)
            for user, number in found:
                changes.append(self._told(event, f"u {user}", number))
                event.replay = number
                event.told = max(event.told, number)
            if len(found) == left:
                return False
            event.replay, event.until = None, self._number
        left = limit - len(changes)
        heard = _after(event.changes, event.cursor, left)
        for subject, number in heard:
            change = self._told(event, subject, number)
            if number > event.until or change.kind != "joined":
                changes.append(change)
            event.cursor = number
        event.told = max(event.told, event.cursor)
        return len(heard) < left

    def acknowledge(self, changes: Series[Change]) -> Deferred[None]:
        return execute(self._acknowledge, changes)

    def _acknowledge(self, changes: Iterable[Change]) -> None:
        for change in changes:
            event = self._events.get(change.event_id)
            if event is None or event.changes.get(change.subject) != change.id:
                continue
            del event.changes[change.subject]
            if change.kind == "receipt":
                turn = event.turns.get(change.proceed_id)
                if turn is not None and turn.expires <= self._now():
                    self._forget_turn(event, change.proceed_id)
            elif event.entries[change.user_id].kind == "l":
                self._forget(event, change.user_id)
            self._tidy(event)

    def release(self, worker: str, session: str) -> Deferred[None]:
        known = self._workers.get(worker)
        if known is not None and known.session == session:
            self._dismiss(worker)
            self._tell(b"null")
        return execute(lambda: None)

    # -- what is over

    def sweep(self) -> Deferred[int]:
        return execute(self._sweep)

    def _sweep(self) -> int:
        now, count = self._wall(), 0
        while self._order and self._order[0][0] <= now:
            time, key = heapq.heappop(self._order)
            if self._ends.get(key) != time:
                continue
            del self._ends[key]
            count += 1
            event = self._events.get(key[0])
            if event is not None:
                if key[1].startswith("u "):
                    self._over(event, key[1][2:])
                else:
                    self._turn_over(event, key[1][2:])
                self._tidy(event)
        if len(self._order) > 2 * len(self._ends) + 1000:
            self._order = [(time, key) for key, time in self._ends.items()]
            heapq.heapify(self._order)
        return count

    def _over(self, event: _Event, user: str) -> None:
        entry = event.entries.get(user)
        if entry is not None and entry.kind == "w":
            self._go(event, user, entry, "absent")
        elif entry is not None and entry.kind == "l":
            event.changes.pop(f"u {user}", None)
            self._forget(event, user)

    def _turn_over(self, event: _Event, name: str) -> None:
        turn = event.turns.get(name)
        if turn is None:
            return
        entry = event.entries.get(turn.user)
        if entry is not None and entry.kind == "p" and entry.proceed == name:
            self._forget(event, turn.user)
        if turn.state == "sent":
            turn.state, turn.time = "expired", self._now()
            self._change(event, f"p {name}", self._next())
        until = turn.expires / 1000 + RETENTION
        if until > self._wall() and f"p {name}" in event.changes:
            self._end_at(event.name, f"p {name}", until)
        else:
            self._forget_turn(event, name)

    def _end_at(self, event: str, what: str, time: float) -> None:
        self._ends[event, what] = time
        heapq.heappush(self._order, (time, (event, what)))

    def _forget(self, event: _Event, user: str) -> None:
        event.entries.pop(user, None)
        self._ends.pop((event.name, f"u {user}"), None)
        queues = self._of_user.get(user, set())
        queues.discard(event.name)
        if not queues:
            self._of_user.pop(user, None)

    def _forget_turn(self, event: _Event, name: str) -> None:
        event.turns.pop(name, None)
        event.changes.pop(f"p {name}", None)
        self._ends.pop((event.name, f"p {name}"), None)

    def _tidy(self, event: _Event) -> None:
        if event.empty:
            self._events.pop(event.name, None)
            self._orphans.discard(event.name)
            self._ready.discard(event.name)

    # -- telling

    def _change(self, event: _Event, subject: str, number: int) -> None:
        event.changes.pop(subject, None)
        event.changes[subject] = number
        self._ready.add(event.name)
        if not event.leader:
            self._orphans.add(event.name)
        self._tell(msgspec.json.encode(self._told(event, subject, number)))

    def _told(self, event: _Event, subject: str, number: int) -> Change:
        name = subject[2:]
        if subject.startswith("p "):
            turn = event.turns[name]
            return Change(
                *(number, "receipt", event.name, turn.user, turn.time), proceed_id=name, state=turn.state
            )
        entry = event.entries[name]
        if entry.kind == "l":
            return Change(number, "left", event.name, name, entry.since, reason=entry.reason)
        return Change(
            *(number, "joined", event.name, name, entry.since, entry.connection), position=entry.position
        )

    def _say(self, user: str, event: str, data: bytes, *, only: str = "", logged: bool = False) -> None:
        now = self._now()
        publication = Publication(event, data, _user(user, only), unique_id(now), now, logged=logged)
        self._broker.publish(publication).addErrback(_unsaid)

    def _say_again(self, turn: _Turn, connection: str) -> None:
        again = msgspec.structs.replace(
            turn.publication, audience=_user(turn.user, connection), logged=False
        )
        self._broker.publish(again).addErrback(_unsaid)


def _after(numbers: dict[str, int], after: int, limit: int) -> list[tuple[str, int]]:
    """Those with a number above one, lowest first, at most so many."""
    found = []
    # From the end: mostly few are above it.
    for name in reversed(numbers):
        if numbers[name] <= after:
            break
        found.append((name, numbers[name]))
    found.reverse()
    return found[:limit]


def _user(user: str, only: str = "") -> Audience:
    sessions = frozenset((session_number(only),)) if only else None
    return Audience(rooms=frozenset((user_room(user),)), only_sessions=sessions)


def _unsaid(failure: Any) -> None:
    """The bus has been stopped: nobody is left whom it could be told."""
    failure.trap(BrokerUnavailable)
