"""ReceiptWatches: services that want to hear of receipts as they change, on whichever node."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from .broker.receipts import MANY, RANKS, WATCHED, IReceiptStore, Receipt
from .errors import BrokerUnavailable
from .periodic import Periodic

_log = Logger()

#: Seconds for which changes are gathered.
GATHER: Final = 0.05
#: Receipts that are awaited of all who watch; past it the oldest is not told of when it expires.
MOST: Final = 10_000

#: Told of a receipt, and of the time at which it was so (seconds since the epoch).
Told = Callable[[Receipt, float], object]


class ReceiptWatches:
    """Who watches through this node.

    :param wall: seconds since the epoch.
    """

    def __init__(self, clock: IReactorTime, wall: Callable[[], float], store: IReceiptStore) -> None:
        self._clock = clock
        self._wall = wall
        self._store = store
        self._watchers: dict[object, frozenset[str]] = {}
        self._of_all: dict[object, Told] = {}
        self._of_one: dict[str, dict[object, Told]] = {}
        # ids of which there is news
        self._changed: dict[str, None] = {}
        # ids of receipts that some have not acknowledged -> until when that is awaited, milliseconds
        self._open: dict[str, int] = {}
        self._due: IDelayedCall | None = None
        self._reading = False
        self._periodic = Periodic(clock, (WATCHED / 3, self._watch), (1.0, self._look))
        self._running = False

    def __len__(self) -> int:
        return len(self._watchers)

    def start(self, who: object, ids: frozenset[str], told: Told) -> None:
        """Tell somebody from now on: how these receipts are now, and whenever they change.

        :param ids: of all, if it is empty; then only of changes.
        """
        self._watchers[who] = ids
        if not ids:
            self._of_all[who] = told
        for name in ids:
            self._of_one.setdefault(name, {})[who] = told
        if not self._running:
            self._running = True
            self._periodic.start()
        self._watch()
        if ids:
            self._hear(ids)

    def stop(self, who: object) -> None:
        """Tell them no more."""
        for name in self._watchers.pop(who, ()):
            watchers = self._of_one[name]
            del watchers[who]
            if not watchers:
                del self._of_one[name]
        self._of_all.pop(who, None)
        if not self._watchers:
            self.stop_all()

    def stop_all(self) -> None:
        """Tell nobody any more."""
        self._watchers.clear()
        self._of_all.clear()
        self._of_one.clear()
        self._changed.clear()
        self._open.clear()
        if self._running:
            self._running = False
            self._periodic.stop()
        if self._due is not None and self._due.active():
            self._due.cancel()
        self._due = None

    def _watch(self) -> None:
        self._store.watch().addErrback(_away)

    def changed(self, data: bytes) -> None:
        """The signal of `broker.receipts`: these receipts have changed."""
        if self._watchers:
            self._hear(data.decode().split(" "))

    def _hear(self, ids: Iterable[str]) -> None:
        for name in ids:
            if self._of_all or name in self._of_one:
                self._changed[name] = None
        if self._changed and self._due is None and not self._reading:
            self._due = self._clock.callLater(GATHER, self._read)

    def _look(self) -> None:
        """Whose time is over: nobody says so but the clock."""
        now = self._wall() * 1000
        over = [name for name, until in self._open.items() if until <= now]
        for name in over:
            del self._open[name]
        self._hear(over)

    def _read(self) -> None:
        self._due = None
        self._reading = True
        names = list(self._changed)[:MANY]
        for name in names:
            del self._changed[name]
        reading = self._store.read(names)
        reading.addCallbacks(self._tell, self._not_read, errbackArgs=(names,)).addErrback(_away)
        reading.addBoth(self._done)

    def _not_read(self, failure: Failure, names: list[str]) -> Failure:
        if self._watchers:
            self._changed.update(dict.fromkeys(names))
        return failure

    def _done(self, result: object) -> None:
        self._reading = False
        if self._changed:
            self._hear(())

    def _tell(self, receipts: list[Receipt | None]) -> None:
        now = self._wall()
        for receipt in receipts:
            if receipt is None or not self._watchers:
                continue
            if receipt.over(now) or settled(receipt):
                self._open.pop(receipt.id, None)
            else:
                self._open[receipt.id] = receipt.until
                if len(self._open) > MOST:
                    del self._open[next(iter(self._open))]
            for told in [*self._of_all.values(), *self._of_one.get(receipt.id, {}).values()]:
                told(receipt, now)


def settled(receipt: Receipt) -> bool:
    """Whether all have acknowledged to whom it went so far."""
    return receipt.counts[0] == receipt.counts[len(RANKS) - 1]


def _away(failure: Failure) -> None:
    """Without the bus there is no news; there will be another time."""
    if not failure.check(BrokerUnavailable):
        _log.failure("receipts could not be read", failure)
