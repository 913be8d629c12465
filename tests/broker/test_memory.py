"""The memory broker and state store keep the contract, and their own bounds."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from realtime.broker.memory import MemoryBroker
from realtime.broker.memory_state import MemoryStateStore
from realtime.messages import Audience

from . import contract
from .contract import Announced, BrokerContract, Delivered, StoreContract


class _Memory(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.delivered = Delivered()
        self.make()

    def make(self, max_channels: int = 1000, max_total: int = 10**6) -> None:
        self.broker = MemoryBroker(
            self.clock,
            retention=contract.RETENTION,
            idempotency=contract.WINDOW,
            max_messages=contract.MAX_MESSAGES,
            max_bytes=contract.MAX_BYTES,
            history=contract.HISTORY,
            history_ttl=contract.HISTORY_TTL,
            max_channels=max_channels,
            max_total=max_total,
        )
        self.store = MemoryStateStore(
            self.clock, self.broker, Announced(), window=contract.WINDOW, wall=self.clock.seconds
        )
        self.successResultOf(self.broker.start(self.delivered))


class MemoryBrokerTests(_Memory, BrokerContract):
    """`MemoryBroker` provides `IBroker`."""


class MemoryStateStoreTests(_Memory, StoreContract):
    """`MemoryStateStore` provides `IStateStore`."""


class MemoryBoundsTests(_Memory):
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
        self.broker.release("a")
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
        self.broker.release("a")
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
        for _ in range(9):
            self.publish("a", b"x" * 1000)
        self.assertEqual(self.broker.entries, contract.MAX_BYTES // 1000)
        page = self.successResultOf(self.broker.history("a", None, None, 9))
        self.assertEqual(len(page.publications), contract.MAX_BYTES // 1000)

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
        from realtime.messages import Owner

        for n in range(1000):
            owner = Owner(f"u{n}", f"c{n}", 1)
            self.successResultOf(self.store.open(owner, f"s{n}", 5))
            self.successResultOf(self.store.join(owner, f"s{n}", f"r{n}", True, 5))
            self.successResultOf(self.store.attach(owner, 0))
            self.successResultOf(self.store.suspend(owner, f"s{n}", 0.0))
        self.clock.advance(contract.WINDOW + 1)
        self.clock.advance(contract.RETENTION + 1)
        self.broker.sweep()
        self.assertEqual((self.store.users, self.store.sessions), (0, 0))
        self.assertEqual((self.broker.channels, self.broker.stored), (1, 0))
