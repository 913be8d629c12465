"""Receipts: which connections of this node got a publication whose publisher wants to know.

A connection is targeted, then written to, then acknowledges. What is new of that goes to the
`IReceiptStore` a moment later, for all receipts at once, so that no receiver costs a command of its own
and no publication waits for it. Whoever has not acknowledged in time has expired: that needs no word of a
node, which may be dead.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from .broker.receipts import MANY, RANKS, IReceiptStore, Mark, Marks
from .connections import Connection
from .errors import BrokerUnavailable
from .messages import Publication, number_of
from .metrics import Metrics
from .periodic import Periodic

_log = Logger()

#: Seconds for which what is new is gathered, and until what could not be told is told again.
GATHER: Final = 0.01
AGAIN: Final = 1.0
#: Marks in one telling.
MARKS: Final = 2000
#: Connections of whose progress this node knows, over all receipts; past it the oldest receipts are
#: awaited no more.
MOST: Final = 200_000

TARGETED, WRITTEN, ACKNOWLEDGED = range(len(RANKS))


class _Awaited:
    """One publication that this node has delivered, and how far it has come.

    :ivar ranks: of each connection.
    :ivar named: those that are told of by name.
    :ivar fresh: what is yet to be told of them.
    :ivar beyond: how many of the others have reached each rank; `stale` where that is yet to be told.
    """

    __slots__ = ("beyond", "due", "fresh", "id", "named", "ranks", "stale")

    def __init__(self, name: str, due: float) -> None:
        self.id = name
        self.due = due
        self.ranks: dict[str, int] = {}
        self.named: set[str] = set()
        self.fresh: dict[str, Mark] = {}
        self.beyond = [0, 0, 0]
        self.stale = False

    @property
    def owing(self) -> int:
        """How many have not acknowledged."""
        return sum(rank < ACKNOWLEDGED for rank in self.ranks.values())


class Receipts:
    """The receipts of what this node delivers.

    :param timeout: seconds for which acknowledgements are awaited.
    :param named: connections that one receipt tells of by name.
    """

    def __init__(
        self,
        clock: IReactorTime,
        store: IReceiptStore,
        metrics: Metrics,
        *,
        timeout: float,
        named: int,
    ) -> None:
        self._clock = clock
        self._store = store
        self._metrics = metrics
        self._timeout = timeout
        self._named = named
        # by number in the sequence, oldest first
        self._awaited: OrderedDict[int, _Awaited] = OrderedDict()
        self._known = 0
        self._changed: dict[str, _Awaited] = {}
        self._telling: Deferred[None] | None = None
        self._due: IDelayedCall | None = None
        self._stopped = False
        self._sweeps = Periodic(clock, (1.0, self._sweep))

    def start(self) -> None:
        """Begin to look who has not acknowledged in time."""
        self._sweeps.start()

    def stop(self) -> Deferred[None]:
        """Tell what is yet to be told, and no more after that."""
        self._sweeps.stop()
        self._stopped = True
        if self._due is not None and self._due.active():
            self._due.cancel()
        return Deferred.fromCoroutine(self._finish())

    async def _finish(self) -> None:
        if self._telling is not None:
            await self._telling
        with suppress(BrokerUnavailable):
            while self._changed:
                await self._tell()

    @property
    def awaited(self) -> int:
        """Connections that this node has delivered to, of receipts that are still awaited."""
        return self._known

    # -- what happens

    def delivered(self, publication: Publication, connections: Iterable[Connection]) -> None:
        """A publication with a receipt was written to these connections, as far as their transports go."""
        awaited = self._await(publication)
        for connection in connections:
            self._deliver(awaited, connection)
        self._limit()

    def replayed(self, connection: Connection, publications: Iterable[Publication]) -> None:
        """A session was taken up, and gets these now, which it had missed."""
        for publication in publications:
            if publication.receipt:
                self._deliver(self._await(publication), connection)
        self._limit()

    def acknowledged(self, connection: Connection, number: int) -> bool:
        """A connection has got the publication with this number; False if it was not asked for that."""
        awaited = self._awaited.get(number)
        if awaited is None or awaited.ranks.get(connection.id, ACKNOWLEDGED) >= ACKNOWLEDGED:
            return False
        self._reach(awaited, connection.id, connection.user, ACKNOWLEDGED)
        return True

    def _await(self, publication: Publication) -> _Awaited:
        number = number_of(publication)
        awaited = self._awaited.get(number)
        if awaited is None or awaited.id != publication.id:
            if awaited is not None:
                # The log has begun anew.
                self._forget(number)
            awaited = self._awaited[number] = _Awaited(
                publication.id, self._clock.seconds() + self._timeout
            )
        return awaited

    def _deliver(self, awaited: _Awaited, connection: Connection) -> None:
        name, user = connection.id, connection.user
        if connection.outlet.buffered:
            self._reach(awaited, name, user, TARGETED)
            connection.outlet.when_taken(partial(self._reach, awaited, name, user, WRITTEN))
        else:
            self._reach(awaited, name, user, WRITTEN)

    def _reach(self, awaited: _Awaited, name: str, user: str, rank: int) -> None:
        had = awaited.ranks.get(name, -1)
        if rank <= had:
            return
        awaited.ranks[name] = rank
        if had < 0:
            self._known += 1
            if len(awaited.named) < self._named:
                awaited.named.add(name)
        if name in awaited.named:
            awaited.fresh[name] = Mark(name, user, rank)
        else:
            for reached in range(had + 1, rank + 1):
                awaited.beyond[reached] += 1
            awaited.stale = True
        for reached in range(had + 1, rank + 1):
            self._metrics.receipted(RANKS[reached])
        self._changed[awaited.id] = awaited
        self._tell_in(GATHER)

    # -- what ends

    def _limit(self) -> None:
        while self._known > MOST and len(self._awaited) > 1:
            forgotten = self._forget(next(iter(self._awaited)))
            self._metrics.receipted("dropped", forgotten.owing)

    def _sweep(self) -> None:
        now = self._clock.seconds()
        while self._awaited:
            number, awaited = next(iter(self._awaited.items()))
            if awaited.due > now:
                return
            self._forget(number)
            self._metrics.receipted("expired", awaited.owing)

    def _forget(self, number: int) -> _Awaited:
        awaited = self._awaited.pop(number)
        self._known -= len(awaited.ranks)
        return awaited

    # -- telling the store

    def _tell_in(self, seconds: float) -> None:
        if self._telling is None and self._due is None and not self._stopped:
            self._due = self._clock.callLater(seconds, self._begin)

    def _begin(self) -> None:
        self._due = None
        telling = self._telling = self._tell()
        telling.addBoth(self._told)

    def _told(self, waiting: object) -> None:
        self._telling = None
        if self._changed:
            self._tell_in(AGAIN if isinstance(waiting, Failure) else GATHER)

    def _tell(self) -> Deferred[None]:
        """Tell what is new, or part of it."""
        told: list[tuple[_Awaited, Marks]] = []
        room = MARKS
        for awaited in list(self._changed.values()):
            if room <= 0 or len(told) >= MANY:
                break
            marks = _some(awaited, room)
            room -= 1 + len(marks.marks)
            told.append((awaited, marks))
            if not awaited.fresh:
                del self._changed[awaited.id]
        if not told:
            return succeed(None)
        noting = self._store.note([marks for _, marks in told])
        return noting.addCallbacks(self._noted, self._not_noted, errbackArgs=(told,))

    def _noted(self, gone: frozenset[str]) -> None:
        for name in gone:
            # It is kept no more: so much the less is there to tell.
            self._changed.pop(name, None)

    def _not_noted(self, failure: Failure, told: Sequence[tuple[_Awaited, Marks]]) -> Failure | None:
        """With the bus away it is not known whether it was kept; to say it once more does no harm."""
        if not failure.check(BrokerUnavailable):
            _log.failure("receipts could not be kept", failure)
            return None
        for awaited, marks in told:
            for mark in marks.marks:
                awaited.fresh.setdefault(mark.connection, mark)
            awaited.stale = awaited.stale or marks.beyond is not None
            self._changed[awaited.id] = awaited
        return failure


def _some(awaited: _Awaited, most: int) -> Marks:
    """What is new of one, at most so many marks."""
    names = list(awaited.fresh)[:most]
    marks = tuple(awaited.fresh.pop(name) for name in names)
    beyond: tuple[int, int, int] | None = None
    if awaited.stale:
        first, second, third = awaited.beyond
        beyond, awaited.stale = (first, second, third), False
    return Marks(awaited.id, marks, beyond)
