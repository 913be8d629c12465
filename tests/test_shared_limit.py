"""A user's rate limit over several nodes: they tell each other, and no message waits for it."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from realtime.errors import BrokerUnavailable, RateLimited
from realtime.limits import RateLimit
from realtime.shared_limit import PERIOD, SharedLimit
from realtime.trust.memory import MemoryTrust

from .test_limits import connection


class SharedLimitTests(SynchronousTestCase):
    """Three nodes with one `ITrust`."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.trust = MemoryTrust(self.clock.seconds)
        self.clock.advance(1000.0)
        self.nodes = [RateLimit(60, 60.0) for _ in range(3)]
        self.shared = [SharedLimit(self.clock, node, self.trust) for node in self.nodes]
        for shared in self.shared:
            shared.start()
            self.addCleanup(shared.stop)

    def taken(self, node: int, tries: int, user: str = "alice") -> int:
        """How many of so many messages a node takes from a new connection."""
        client = connection(user)
        count = 0
        for _ in range(tries):
            try:
                self.nodes[node].take(client, self.clock.seconds())
            except RateLimited:
                continue
            count += 1
        return count

    def test_spent_here_is_spent_there(self) -> None:
        self.assertEqual(self.taken(0, 100), 60)
        self.clock.advance(PERIOD)
        # Another node learns of it when the user sends there.
        self.assertEqual(self.taken(1, 1), 1)
        self.clock.advance(PERIOD)
        self.assertEqual(self.taken(1, 20), 0)
        self.assertEqual(self.taken(1, 60, "bob"), 60)

    def test_flood_over_three_nodes(self) -> None:
        """However a user spreads it, over ten windows little more than ten windows' messages pass."""
        passed = 0
        for _ in range(int(600 / PERIOD)):
            for node in range(3):
                passed += self.taken(node, 5)
            self.clock.advance(PERIOD)
        self.assertGreaterEqual(passed, 600)
        self.assertLessEqual(passed, 600 + 3 * 60)

    def test_what_is_spent_while_asking(self) -> None:
        """What was spent since the question was asked is not forgotten by its answer."""
        waiting: list[Deferred[object]] = []
        charge = self.trust.charge

        def slow(amounts: object, window: float) -> Deferred[object]:
            held: Deferred[object] = Deferred()
            held.addCallback(lambda _: charge(amounts, window))  # type: ignore[arg-type]
            waiting.append(held)
            return held

        self.patch(self.trust, "charge", slow)
        self.assertEqual(self.taken(0, 30), 30)
        self.clock.advance(PERIOD)
        self.assertEqual(self.taken(0, 20), 20)
        waiting.pop().callback(None)
        self.assertEqual(self.taken(0, 100), 10)

    def test_bus_away(self) -> None:
        """Each node has its own limits meanwhile."""
        self.patch(self.trust, "charge", lambda *_: fail(BrokerUnavailable()))
        self.assertEqual(self.taken(0, 100), 60)
        self.clock.advance(PERIOD)
        self.assertEqual(self.taken(1, 100), 60)
        self.assertEqual(self.taken(0, 100), 0)
