"""Tests for realtime.receipt_watches: who is told of which receipts, and when."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from realtime.broker.receipts import Receipt
from realtime.errors import BrokerUnavailable
from realtime.receipt_watches import GATHER, ReceiptWatches

UNTIL = 60.0


class Store:
    """Receipts that are all alike.

    :ivar counts: theirs.
    :ivar away: whether the bus is.
    """

    def __init__(self) -> None:
        self.counts = (2, 2, 1)
        self.away = False
        self.read_ids: list[list[str]] = []
        self.watched = 0

    def read(self, ids: list[str]) -> Deferred[list[Receipt | None]]:
        self.read_ids.append(list(ids))
        if self.away:
            return fail(BrokerUnavailable())
        return succeed(
            [
                None if name == "gone" else Receipt(name, 0, int(UNTIL * 1000), self.counts, ())
                for name in ids
            ]
        )

    def watch(self) -> Deferred[None]:
        self.watched += 1
        return fail(BrokerUnavailable()) if self.away else succeed(None)


class ReceiptWatchesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.store = Store()
        self.watches = ReceiptWatches(self.clock, self.clock.seconds, self.store)  # type: ignore[arg-type]
        self.addCleanup(self.watches.stop_all)
        self.told: list[tuple[str, str, int, bool]] = []

    def watch(self, who: str, *ids: str) -> None:
        def told(receipt: Receipt, now: float) -> None:
            self.told.append((who, receipt.id, receipt.counts[2], receipt.over(now)))

        self.watches.start(who, frozenset(ids), told)

    def news(self, data: bytes = b"") -> list[tuple[str, str, int, bool]]:
        """What is told a moment after a signal."""
        if data:
            self.watches.changed(data)
        self.clock.advance(GATHER)
        told, self.told = self.told, []
        return told

    def test_as_they_are_now(self) -> None:
        """Whoever names receipts hears of them at once; of one that is not kept, nothing."""
        self.watch("a", "r1", "gone")
        self.assertEqual(self.news(), [("a", "r1", 1, False)])

    def test_who_is_told(self) -> None:
        """Each of what they want to hear; nothing is read that nobody wants."""
        self.watch("a", "r1")
        self.news()
        self.assertEqual(self.news(b"r2 r3"), [])
        self.assertEqual(len(self.store.read_ids), 1)
        self.watch("b")
        self.assertEqual(
            self.news(b"r1 r2"), [("b", "r1", 1, False), ("a", "r1", 1, False), ("b", "r2", 1, False)]
        )
        self.watches.stop("b")
        self.assertEqual(self.news(b"r1 r2"), [("a", "r1", 1, False)])
        self.watches.stop("a")
        self.watches.stop("nobody")
        self.assertEqual(self.news(b"r1 r2"), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_gathered(self) -> None:
        """Of what changes several times within a moment they are told once."""
        self.watch("a")
        for _ in range(5):
            self.watches.changed(b"r1")
        self.assertEqual(self.news(), [("a", "r1", 1, False)])

    def test_the_last_word(self) -> None:
        """When the time is over nobody says so but the clock; not of what all have acknowledged."""
        self.watch("a")
        self.assertEqual(self.news(b"r1"), [("a", "r1", 1, False)])
        self.store.counts = (2, 2, 2)
        self.assertEqual(self.news(b"r2"), [("a", "r2", 2, False)])
        self.store.counts = (2, 2, 1)
        self.clock.pump([1.0] * 61)
        self.assertEqual(self.news(), [("a", "r1", 1, True)])
        self.clock.pump([1.0] * 60)
        self.assertEqual(self.news(), [])

    def test_the_bus_is_away(self) -> None:
        """What could not be read is read once the bus is back."""
        self.watch("a")
        self.store.away = True
        self.assertEqual(self.news(b"r1"), [])
        self.store.away = False
        self.assertEqual(self.news(), [("a", "r1", 1, False)])

    def test_nodes_go_on_telling(self) -> None:
        """The wish to be told is renewed before it ends, while somebody watches."""
        self.watch("a")
        self.clock.pump([5.0] * 6)
        self.assertEqual(self.store.watched, 4)
        self.watches.stop("a")
        self.clock.pump([5.0] * 6)
        self.assertEqual(self.store.watched, 4)
