"""Tests for realtime.pace: work of other services, a little in each turn."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from realtime.pace import BUDGET, Pace


class PaceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.pace = Pace(self.clock)
        self.done: list[int] = []

    def do(self, *numbers: int, takes: float = BUDGET / 2) -> None:
        for number in numbers:
            self.pace.do(lambda number=number: self.work(number, takes))  # type: ignore[misc]

    def work(self, number: int, takes: float) -> None:
        self.clock.rightNow += takes
        self.done.append(number)

    def turn(self) -> list[int]:
        """What is done in the next turn."""
        self.done.clear()
        calls, self.clock.calls = self.clock.calls, []
        for call in calls:
            call.func(*call.args, **call.kw)
        return list(self.done)

    def test_now(self) -> None:
        """What comes alone waits for nothing."""
        self.do(1)
        self.assertEqual(self.done, [1])
        self.turn()
        self.do(2)
        self.assertEqual(self.done, [2])

    def test_a_little_in_each_turn(self) -> None:
        """In order; what comes later waits behind what waits."""
        self.do(*range(5))
        self.assertEqual((self.done, len(self.pace)), ([0, 1], 3))
        self.assertEqual(self.turn(), [2, 3])
        self.do(5)
        self.assertEqual(self.turn(), [4, 5])
        self.assertEqual(self.turn(), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_long_work(self) -> None:
        """At least one thing is done in a turn."""
        self.do(*range(3), takes=10 * BUDGET)
        self.assertEqual(self.done, [0])
        self.assertEqual([self.turn(), self.turn()], [[1], [2]])

    def test_work_that_fails(self) -> None:
        """It does not end the line."""
        self.do(1, takes=BUDGET)
        self.pace.do(lambda: 1 / 0)
        self.do(2)
        self.assertEqual(self.turn(), [2])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_work_that_asks_for_more(self) -> None:
        """It comes after what waits."""
        self.do(0, takes=BUDGET)
        self.pace.do(lambda: self.do(9, takes=0))
        self.do(1, takes=0)
        self.assertEqual(self.turn(), [1, 9])
