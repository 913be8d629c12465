"""MemoryReceipts: the receipts of one node that runs alone."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from .memory import MemoryBroker
from .receipts import CHANGED, WATCHED, IReceiptStore, Mark, Marks, Receipt, counted

_NOTHING: Final = (0, 0, 0)


class _Kept:
    __slots__ = ("beyond", "made", "marks", "until")

    def __init__(self, made: float, until: float) -> None:
        self.made = made
        self.until = until
        self.marks: dict[str, Mark] = {}
        self.beyond = _NOTHING


@implementer(IReceiptStore)
class MemoryReceipts:
    """Keeps them in this process.

    :param wall: seconds since the epoch.
    :param timeout: seconds for which acknowledgements are awaited.
    :param ttl: seconds for which a receipt is kept.
    :param most: receipts kept at the most.
    :param forgotten: called with how many had to go for that.
    """

    def __init__(
        self,
        broker: MemoryBroker,
        wall: Callable[[], float],
        *,
        timeout: float,
        ttl: float,
        most: int,
        forgotten: Callable[[int], object],
    ) -> None:
        self._broker = broker
        self._wall = wall
        self._timeout = timeout
        self._ttl = ttl
        self._most = most
        self._forgotten = forgotten
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._watched = 0.0
        broker.on_receipt = self._open

    def _open(self, name: str) -> None:
        now = self._wall()
        self._sweep(now)
        self._kept[name] = _Kept(now, now + self._timeout)
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)
            self._forgotten(1)

    def _sweep(self, now: float) -> None:
        kept = self._kept
        while kept and next(iter(kept.values())).made + self._ttl <= now:
            kept.popitem(last=False)

    def note(self, marks: Sequence[Marks]) -> Deferred[frozenset[str]]:
        self._sweep(self._wall())
        gone, changed = [], []
        for told in marks:
            kept = self._kept.get(told.id)
            if kept is None:
                gone.append(told.id)
                continue
            for mark in told.marks:
                known = kept.marks.get(mark.connection)
                if known is None or known.rank < mark.rank:
                    kept.marks[mark.connection] = mark
            if told.beyond is not None:
                kept.beyond = told.beyond
            changed.append(told.id)
        if changed and self._wall() < self._watched:
            self._broker.signal(CHANGED, " ".join(changed).encode())
        return succeed(frozenset(gone))

    def read(self, ids: Sequence[str]) -> Deferred[list[Receipt | None]]:
        self._sweep(self._wall())
        return succeed([self._receipt(name) for name in ids])

    def _receipt(self, name: str) -> Receipt | None:
        kept = self._kept.get(name)
        if kept is None:
            return None
        marks = tuple(kept.marks.values())
        counts = counted(marks, [kept.beyond])
        return Receipt(name, int(kept.made * 1000), int(kept.until * 1000), counts, marks)

    def watch(self) -> Deferred[None]:
        self._watched = self._wall() + WATCHED
        return succeed(None)
