"""The memory broker and state store keep the contract, and their own bounds."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from realtime.broker.interface import Limits
from realtime.broker.memory import MemoryBroker
from realtime.broker.memory_state import MemoryStateStore
from realtime.messages import Audience, Membership, Owner, Sequence, SessionRecord
from realtime.presence import Announcer

from . import contract
from .contract import BrokerContract, Delivered, Peer, StoreContract

#: Payload bytes per channel in the log, and again in the history.
MAX_BYTES = 4000


class _Memory:
    def setUp(self) -> None:
        self.clock = Clock()
        self.delivered = Delivered()
        self.peer = Peer()
        self.make()

    def make(
        self, max_channels: int = 1000, max_total: int = 10**6, max_bytes: int = contract.MAX_BYTES
    ) -> None:
        self.broker = MemoryBroker(
            self.clock,
            retention=contract.RETENTION,
            idempotency=contract.WINDOW,
            max_messages=contract.MAX_MESSAGES,
            max_bytes=max_bytes,
            history=contract.HISTORY,
            history_ttl=contract.HISTORY_TTL,
            max_channels=max_channels,
            max_total=max_total,
        )
        announcer = Announcer(self.clock.seconds)
        self.store = MemoryStateStore(
            self.clock, self.broker, announcer, window=contract.WINDOW, wall=self.clock.seconds
        )
        for started in (self.broker.start(self.delivered, self.peer), self.store.start(self.peer)):
            assert started.called

    async def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    async def settled(self) -> None:
        """The call is the marker."""

    async def now(self) -> float:
        return self.clock.seconds()


class MemoryBrokerTests(_Memory, BrokerContract, TestCase):
    """`MemoryBroker` provides `IBroker`."""


class MemoryStateStoreTests(_Memory, StoreContract, TestCase):
    """`MemoryStateStore` provides `IStateStore`."""


class DeliveryTests(_Memory, SynchronousTestCase):
    """The call is the marker, also within a delivery."""

    def test_recovered_during_delivery(self) -> None:
        """What waits behind the publication that is being delivered is not recovered: it comes live."""

        def publish() -> Any:
            return self.successResultOf(self.broker.publish(contract.publication("a")))

        def recovered(number: int) -> list[str]:
            found = self.successResultOf(self.broker.recover(record, place(number), 10**6))
            return [entry.id for entry in found.publications]

        def place(number: int) -> Sequence:
            return Sequence(now.epoch, now.generation, number)

        publish()
        now = self.broker.sequence()
        epoch = self.successResultOf(self.broker.history("a", None, None, 1)).position.epoch
        record = SessionRecord("s", Owner("alice", "c1", 1), {"a": Membership(0, epoch, True)}, place(0))
        seen: list[Any] = []

        def meanwhile() -> None:
            seen.extend((publish().id, self.broker.sequence(), recovered(1)))

        self.delivered.during = meanwhile
        told = publish()
        self.assertEqual(seen[1:], [told.sequence, [told.id]])
        self.assertEqual(recovered(told.sequence.number), [seen[0]])


class MemoryBoundsTests(_Memory, SynchronousTestCase):
    """What the memory broker keeps is bounded, and what it drops it never hides.

    The channel of everyone is always there, one of those counted.
    """

    def publish(self, room: str, data: bytes = b'{"n":1}') -> None:
        self.successResultOf(self.broker.publish(contract.publication(room, data=data)))

    def test_silent_channels_go(self) -> None:
        """A channel that nobody holds goes after its history's time, and comes back under a new epoch."""
        self.publish("a")
        before = self.successResultOf(self.broker.history("a", None, None, 9)).position
        self.clock.advance(contract.HISTORY_TTL + 1)
        self.broker.sweep()
        self.assertEqual(self.broker.channels, 1)
        self.publish("a")
        after = self.successResultOf(self.broker.history("a", None, None, 9)).position
        self.assertEqual(after.offset, 1)
        self.assertNotEqual(after.epoch, before.epoch)

    def test_channels_without_history_go_sooner(self) -> None:
        """A channel that shows no history is kept for recovery only."""
        self.successResultOf(self.broker.publish(contract.publication("user:a", "booking:created")))
        self.clock.advance(contract.RETENTION + 1)
        self.broker.sweep()
        self.assertEqual(self.broker.channels, 1)

    def test_held_channels_stay(self) -> None:
        """A channel in a session's record is kept, however silent."""
        self.broker.hold("a")
        self.clock.advance(contract.HISTORY_TTL * 2)
        self.broker.sweep()
        self.assertEqual(self.broker.channels, 2)
        self.broker.let_go("a")
        self.clock.advance(contract.HISTORY_TTL * 2)
        self.broker.sweep()
        self.assertEqual(self.broker.channels, 1)

    def test_number_of_channels(self) -> None:
        """Past the limit the longest silent channel goes."""
        self.make(max_channels=4)
        for room in ("a", "b", "c", "a", "d"):
            self.publish(room)
        self.assertEqual(self.broker.channels, 4)
        epochs = [
            self.successResultOf(self.broker.history(r, None, None, 1)).position.epoch for r in "abcd"
        ]
        self.assertEqual([bool(epoch) for epoch in epochs], [True, False, True, True])

    def test_number_of_channels_beside_held_ones(self) -> None:
        """However many silent channels sessions hold, what nobody holds is bounded."""
        self.make(max_channels=300)
        for n in range(200):
            self.broker.hold(f"user:{n}")
        for n in range(1000):
            self.publish(f"r{n}")
        self.assertEqual(self.broker.channels, 300)

    def test_released_channel_is_the_newest_to_go(self) -> None:
        """A channel's silence counts from when the last session left it."""
        self.make(max_channels=4)
        self.broker.hold("a")
        self.publish("b")
        self.publish("c")
        self.broker.let_go("a")
        self.publish("d")
        shown = [self.successResultOf(self.broker.history(r, None, None, 1)).position.epoch for r in "abc"]
        self.assertEqual([bool(epoch) for epoch in shown], [True, False, True])

    def test_everyone_stays(self) -> None:
        """The channel of everyone is never the one to go."""
        self.make(max_channels=2)
        self.successResultOf(self.broker.publish(contract.publication(audience=Audience(everyone=True))))
        self.publish("a")
        self.publish("b")
        position = self.successResultOf(self.broker.history("*", None, None, 1)).position
        self.assertEqual(position.offset, 1)

    def test_bytes_of_a_channel(self) -> None:
        """A channel's log and history hold no more bytes than could be replayed."""
        self.make(max_bytes=MAX_BYTES)
        for _ in range(9):
            self.publish("a", b"x" * 1000)
        self.assertEqual(self.broker.entries, MAX_BYTES // 1000)
        page = self.successResultOf(self.broker.history("a", None, None, 9))
        self.assertEqual(len(page.publications), MAX_BYTES // 1000)

    def test_bytes_in_all(self) -> None:
        """Past the total the longest silent channels are emptied; the newest keeps its own."""
        self.make(max_total=5000)
        for room in ("a", "b", "c"):
            self.publish(room, b"x" * 1000)
        self.assertLessEqual(self.broker.stored, 5000)
        shown = [
            len(self.successResultOf(self.broker.history(room, None, None, 9)).publications)
            for room in ("a", "b", "c")
        ]
        self.assertEqual(shown, [0, 1, 1])

    def test_nothing_stays_of_sessions(self) -> None:
        """After a thousand sessions came and went nothing is left of them."""
        for n in range(1000):
            owner = Owner(f"u{n}", f"c{n}", 1)
            self.successResultOf(self.store.begin(owner, f"s{n}", {f"r{n}": True}, 0, Limits(5, 5)))
            self.successResultOf(self.store.suspend(owner, f"s{n}", 0.0))
        self.clock.advance(contract.WINDOW + 1)
        self.clock.advance(contract.RETENTION + 1)
        self.broker.sweep()
        self.assertEqual((self.store.users, self.store.sessions), (0, 0))
        self.assertEqual((self.broker.channels, self.broker.stored), (1, 0))
