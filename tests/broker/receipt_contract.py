"""What every `IReceiptStore` must do. A test case mixes it in and gives `nodes`."""

from __future__ import annotations

from typing import Any

from zope.interface.verify import verifyObject

from realtime.broker.receipts import CHANGED, IReceiptStore, Mark, Marks
from realtime.messages import Audience, Publication

#: What the stores of the tests are made with: seconds, and receipts.
TIMEOUT = 60
TTL = 600
MOST = 5

ALICE = Mark("c1", "alice", 0)
BOB = Mark("c2", "bob é", 1)


def receipted(name: str = "p1") -> Publication:
    """A publication that is to have a receipt."""
    audience = Audience(rooms=frozenset(("lobby",)))
    return Publication("booking:created", b"{}", audience, name, 1, receipt=True)


class ReceiptContract:
    """The contract.

    :ivar broker: a broker with which publications open receipts.
    :ivar store: the store of its node.
    :ivar other: that of another node, or the same where there is no other.
    """

    broker: Any
    store: Any
    other: Any
    #: trial's own methods, as the mixin uses them.
    assertEqual: Any
    assertIsNone: Any
    assertTrue: Any

    async def advance(self, seconds: float) -> None:
        """Let time pass for the stores."""
        raise NotImplementedError

    async def signals(self) -> list[tuple[str, bytes]]:
        """What the other node was signalled so far."""
        raise NotImplementedError

    def forgotten(self) -> int:
        """How many receipts had to go."""
        raise NotImplementedError

    async def counts(self, name: str = "p1") -> tuple[int, int, int] | None:
        (found,) = await self.other.read([name])
        return None if found is None else found.counts

    async def test_interface(self) -> None:
        self.assertTrue(verifyObject(IReceiptStore, self.store))

    async def test_opened_with_its_publication(self) -> None:
        """It is there as soon as the publisher is answered; without a wish for it there is none."""
        await self.broker.publish(receipted())
        await self.broker.publish(Publication("x:y", b"{}", Audience(everyone=True), "p2", 1))
        found, none, missing = await self.other.read(["p1", "p2", "p3"])
        self.assertEqual((found.id, found.counts, found.marks), ("p1", (0, 0, 0), ()))
        self.assertEqual(found.until - found.made, TIMEOUT * 1000)
        self.assertIsNone(none)
        self.assertIsNone(missing)

    async def test_ranks_only_rise(self) -> None:
        """Whoever says what, and how often: a connection counts once, as far as it has come."""
        await self.broker.publish(receipted())
        for _ in range(2):
            await self.store.note([Marks("p1", (ALICE, BOB))])
        self.assertEqual(await self.counts(), (2, 1, 0))
        await self.other.note([Marks("p1", (Mark("c1", "alice", 2), Mark("c2", "bob é", 0)))])
        await self.store.note([Marks("p1", (ALICE,))])
        self.assertEqual(await self.counts(), (2, 2, 1))
        (found,) = await self.other.read(["p1"])
        self.assertEqual({mark.connection: mark for mark in found.marks}["c2"], BOB)

    async def test_beyond(self) -> None:
        """Those that are not named are counted; what a node says of them takes its former word's place."""
        await self.broker.publish(receipted())
        await self.store.note([Marks("p1", (ALICE,), (10, 5, 0))])
        await self.store.note([Marks("p1", (), (12, 11, 3))])
        await self.store.note([Marks("p1", (), None)])
        self.assertEqual(await self.counts(), (13, 11, 3))

    async def test_many_marks(self) -> None:
        await self.broker.publish(receipted())
        await self.store.note([Marks("p1", tuple(Mark(f"c{n}", "u", n % 3) for n in range(2000)))])
        self.assertEqual(await self.counts(), (2000, 1333, 666))

    async def test_kept_no_more(self) -> None:
        """After its time it is gone, and what is said of it makes no new one."""
        await self.broker.publish(receipted())
        await self.store.note([Marks("p1", (ALICE,))])
        await self.advance(TTL - 1)
        self.assertEqual(await self.counts(), (1, 0, 0))
        await self.advance(2)
        self.assertIsNone(await self.counts())
        gone = await self.store.note([Marks("p1", (BOB,)), Marks("p9", (BOB,))])
        self.assertEqual(gone, {"p1", "p9"})
        self.assertIsNone(await self.counts())
        self.assertEqual(self.forgotten(), 0)

    async def test_too_many(self) -> None:
        """The oldest goes for one more."""
        for n in range(MOST + 2):
            await self.broker.publish(receipted(f"p{n}"))
        found = await self.other.read([f"p{n}" for n in range(MOST + 2)])
        self.assertEqual([receipt is not None for receipt in found], [False] * 2 + [True] * MOST)
        self.assertEqual(self.forgotten(), 2)

    async def test_repeated(self) -> None:
        """A repetition opens nothing: the first one's receipt is the receipt."""
        await self.broker.publish(receipted(), "key")
        again = await self.broker.publish(receipted("p2"), "key")
        self.assertEqual((again.id, again.repeated), ("p1", True))
        self.assertIsNone(await self.counts("p2"))

    async def test_told_while_somebody_watches(self) -> None:
        await self.broker.publish(receipted())
        await self.broker.publish(receipted("p2"))
        await self.store.note([Marks("p1", (ALICE,))])
        self.assertEqual(await self.signals(), [])
        await self.other.watch()
        await self.store.note([Marks("p1", (BOB,)), Marks("p2", (BOB,)), Marks("p3", (BOB,))])
        self.assertEqual(await self.signals(), [(CHANGED, b"p1 p2")])
        await self.advance(31)
        await self.store.note([Marks("p1", (Mark("c2", "bob é", 2),))])
        self.assertEqual(await self.signals(), [(CHANGED, b"p1 p2")])
