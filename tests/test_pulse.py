"""The pulse sees a reactor that is late, and a process that grows past its memory."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from realtime.pulse import INTERVAL, LOOKS, WORST, Pulse


class LagTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.beats: list[float] = []
        self.pulse = Pulse(self.clock, beaten=self.beats.append)
        self.addCleanup(self.pulse.stop)

    def beat(self, count: int = 1) -> None:
        self.clock.pump([INTERVAL] * count)

    def test_in_time(self) -> None:
        """Beats that come when they are due are not late."""
        self.pulse.start()
        self.beat(4)
        self.assertEqual((self.pulse.lag, self.pulse.worst), (0, 0))
        self.assertEqual(self.beats, [0, 0, 0, 0])

    def test_late(self) -> None:
        """A turn that took long shows as lag until the next beat, and as the worst for a while."""
        self.pulse.start()
        self.clock.advance(INTERVAL + 2)
        self.assertEqual(self.pulse.lag, 2)
        self.beat()
        self.assertEqual((self.pulse.lag, self.pulse.worst), (0, 2))
        self.assertEqual(self.beats, [2, 0])
        self.beat(int(WORST / INTERVAL))
        self.assertEqual(self.pulse.worst, 2)
        self.beat(int(WORST / INTERVAL) + 1)
        self.assertEqual(self.pulse.worst, 0)

    def test_overdue(self) -> None:
        """A beat that has not come yet counts as late already: the reactor may be on its way to it."""
        self.pulse.start()
        self.clock.rightNow += INTERVAL + 3
        self.assertEqual((self.pulse.lag, self.pulse.worst), (3, 3))

    def test_stopped(self) -> None:
        """Before the start and after the end there is no lag, and nothing beats."""
        self.clock.advance(9)
        self.assertEqual(self.pulse.lag, 0)
        self.pulse.start()
        self.pulse.stop()
        self.clock.advance(9)
        self.assertEqual((self.pulse.lag, self.beats), (0, []))
        self.assertEqual(self.clock.getDelayedCalls(), [])


class MemoryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.resident = 50

    def pulse(self, limit: int) -> Pulse:
        pulse = Pulse(self.clock, limit=limit, memory=lambda: self.resident)
        pulse.start()
        self.addCleanup(pulse.stop)
        return pulse

    def grow(self, resident: int) -> None:
        self.resident = resident
        self.clock.pump([INTERVAL] * LOOKS)

    def test_limit(self) -> None:
        """Full past the limit, until it is well below: not off and on with each connection."""
        pulse = self.pulse(100)
        found = []
        for resident in (100, 101, 99, 96, 95, 99):
            self.grow(resident)
            found.append((pulse.resident, pulse.full))
        self.assertEqual(
            found, [(100, False), (101, True), (99, True), (96, True), (95, False), (99, False)]
        )

    def test_no_limit(self) -> None:
        pulse = self.pulse(0)
        self.grow(1 << 50)
        self.assertEqual((pulse.resident, pulse.full), (1 << 50, False))
