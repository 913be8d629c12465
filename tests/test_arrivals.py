"""What is heard of a session while the store is asked for it."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from realtime.arrivals import Arrivals
from realtime.connections import Connection
from realtime.messages import Handshake, Owner
from realtime.wire.plain import PlainSession

from .outlets import MemoryOutlet


class ArrivalTests(SynchronousTestCase):
    """`Arrivals`."""

    def test_expected(self) -> None:
        """While one is expected it is found by its id and told of its owners' ends; then no more."""
        arrivals = Arrivals()
        first, second = (Connection(PlainSession(), MemoryOutlet(), Handshake("::1"), 0.0) for _ in "ab")
        with arrivals.expect(first, "a") as one, arrivals.expect(second, "a") as other:
            arrivals.displace(Owner("alice", "a", 2))
            arrivals.displace(Owner("alice", "b", 1))
            self.assertEqual(one.displaced, [Owner("alice", "a", 2)])
            self.assertEqual(other.displaced, one.displaced)
            self.assertEqual(arrivals.among(("a", "c")), [first, second])
            self.assertEqual(arrivals.among(("c",)), [])
        self.assertEqual(arrivals.among(("a",)), [])

    def test_failure(self) -> None:
        """One whose store fails is expected no more."""
        arrivals = Arrivals()
        connection = Connection(PlainSession(), MemoryOutlet(), Handshake("::1"), 0.0)
        with self.assertRaises(ValueError), arrivals.expect(connection, "a"):
            raise ValueError
        self.assertEqual(arrivals.among(("a",)), [])
