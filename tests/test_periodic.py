"""Periodic calls come at their times, and survive what fails."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from realtime.periodic import Periodic


class PeriodicTests(SynchronousTestCase):
    """`Periodic`."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.calls: list[float] = []

    def call(self) -> None:
        self.calls.append(self.clock.seconds())

    def test_times(self) -> None:
        """Each function is called at its own pace, until all are stopped."""
        slow: list[float] = []
        periodic = Periodic(self.clock, (1.0, self.call), (2.5, lambda: slow.append(self.clock.seconds())))
        self.clock.advance(5)
        periodic.start()
        self.clock.pump([0.5] * 10)
        self.assertEqual((self.calls, slow), ([6.0, 7.0, 8.0, 9.0, 10.0], [7.5, 10.0]))
        periodic.stop()
        periodic.stop()
        self.clock.advance(10)
        self.assertEqual((len(self.calls), len(slow)), (5, 2))

    def test_failure(self) -> None:
        """A call that fails is logged, and not the last one."""

        def fail() -> None:
            self.call()
            raise ZeroDivisionError

        Periodic(self.clock, (1.0, fail)).start()
        self.clock.pump([1.0] * 3)
        self.assertEqual(len(self.calls), 3)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 3)

    def test_waiting(self) -> None:
        """A call waits for the one before it."""
        waiting: list[Deferred[None]] = []

        def wait() -> Deferred[None]:
            waiting.append(Deferred())
            return waiting[-1]

        Periodic(self.clock, (1.0, wait)).start()
        self.clock.pump([1.0] * 3)
        self.assertEqual(len(waiting), 1)
        waiting[0].callback(None)
        self.clock.pump([1.0] * 2)
        self.assertEqual(len(waiting), 2)
