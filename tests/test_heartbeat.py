from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from realtime.heartbeat import PATIENCE, Heartbeat


class HeartbeatTests(SynchronousTestCase):
    """Peers are pinged at their interval and given up after their timeout, exactly."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.events: list[tuple[str, str, float]] = []
        self.heartbeat: Heartbeat[str] = Heartbeat(
            self.clock, 25.0, 20.0, lambda key: self.note("ping", key), lambda key: self.note("dead", key)
        )

    def note(self, event: str, key: str) -> None:
        self.events.append((event, key, self.clock.seconds()))

    def taken(self) -> list[tuple[str, str, float]]:
        events, self.events = self.events, []
        return events

    def test_ping_pong(self) -> None:
        self.heartbeat.start("a")
        self.assertFalse(self.heartbeat.owes_pong("a"))
        self.clock.pump([24.5, 0.5])
        self.assertEqual(self.taken(), [("ping", "a", 25.0)])
        self.assertTrue(self.heartbeat.owes_pong("a"))
        self.clock.advance(19.5)
        self.heartbeat.pong("a")
        self.assertFalse(self.heartbeat.owes_pong("a"))
        self.clock.pump([24.5, 0.5])
        self.assertEqual(self.taken(), [("ping", "a", 69.5)])

    def test_silent(self) -> None:
        """A peer is silent once it owes a pong for longer than one that lives takes for it."""
        for name in "ab":
            self.heartbeat.start(name)
            self.clock.advance(1)
        self.clock.pump([23, 1])
        self.assertEqual((self.heartbeat.debtor(), self.heartbeat.silent("a")), (None, False))
        self.clock.advance(PATIENCE - 1.5)
        self.assertIsNone(self.heartbeat.debtor())
        self.clock.advance(0.5)
        self.assertEqual(self.heartbeat.debtor(), "a")
        self.assertFalse(self.heartbeat.silent("b"))
        self.heartbeat.pong("a")
        self.clock.advance(1)
        self.assertEqual(self.heartbeat.debtor(), "b")

    def test_no_pong(self) -> None:
        self.heartbeat.start("a")
        self.clock.pump([25, 19.5, 0.5])
        self.assertEqual(self.taken(), [("ping", "a", 25.0), ("dead", "a", 45.0)])
        self.assertEqual((len(self.heartbeat), self.clock.getDelayedCalls()), (0, []))

    def test_a_pong_unasked_does_not_put_off_the_ping(self) -> None:
        self.heartbeat.start("a")
        for _ in range(5):
            self.clock.advance(5)
            self.heartbeat.pong("a")
        self.heartbeat.pong("unknown")
        self.assertEqual(self.taken(), [("ping", "a", 25.0)])

    def test_other_packets_give_time_once_for_each_ping(self) -> None:
        self.heartbeat.start("a")
        self.heartbeat.heard("a")
        self.clock.advance(25)
        for _ in range(3):
            self.clock.advance(10)
            self.heartbeat.heard("a")
        self.assertEqual([event for event, _, _ in self.taken()], ["ping", "dead"])
        self.heartbeat.start("a")
        self.clock.advance(25)
        self.clock.advance(15)
        self.heartbeat.heard("a")
        self.clock.advance(15)
        self.heartbeat.pong("a")
        self.clock.advance(25)
        self.clock.advance(15)
        self.heartbeat.heard("a")
        self.clock.advance(15)
        self.assertEqual([event for event, _, _ in self.taken()], ["ping", "ping"])

    def test_a_late_reactor_makes_no_time_longer(self) -> None:
        """The timeout counts from when the ping was due: 45 after the start it is over."""
        self.heartbeat.start("a")
        self.clock.advance(25.05)
        self.clock.advance(19.95)
        self.assertEqual(self.taken()[-1], ("dead", "a", 45.0))

    def test_a_standstill_is_not_held_against_the_peer(self) -> None:
        self.heartbeat.start("a")
        self.clock.advance(60)
        self.assertEqual(self.taken(), [("ping", "a", 60.0)])
        self.clock.advance(19.9)
        self.assertEqual(self.taken(), [])

    def test_check_before_the_reactor_comes(self) -> None:
        self.heartbeat.start("a")
        self.heartbeat.check("a")
        self.clock.rightNow += 25
        self.heartbeat.check("a")
        self.clock.rightNow += 20
        self.heartbeat.check("a")
        self.assertEqual([event for event, _, _ in self.taken()], ["ping", "dead"])

    def test_stop(self) -> None:
        self.heartbeat.start("a")
        self.heartbeat.start("b")
        self.clock.advance(25)
        self.heartbeat.start("c")
        self.heartbeat.stop("a")
        self.heartbeat.stop("c")
        self.heartbeat.stop("unknown")
        self.clock.advance(30)
        self.assertEqual(self.taken()[2:], [("dead", "b", 45.0 + 10)])
