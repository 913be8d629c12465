"""The drain closes in time, no faster than it may, and in no order that anybody could foresee."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from realtime.drain import HEADROOM, HURRY, PAUSE, Drain
from realtime.errors import Close

from .generated import unhurried


class Socket:
    """Notes when it is closed; goes at once, or never."""

    def __init__(self, house: DrainTests, stays: bool = False) -> None:
        self.house = house
        self.stays = stays

    def close(self, close: Close) -> None:
        self.house.assertIs(close, Close.DRAIN)
        self.house.closed.append((self.house.clock.seconds(), self))
        if not self.stays:
            self.house.sockets.remove(self)


class DrainTests(SynchronousTestCase):
    """`Drain`."""

    def begin(self, count: int, stays: bool = False, **given: Any) -> Deferred[None]:
        self.clock = Clock()
        self.closed: list[tuple[float, Socket]] = []
        self.sockets = [Socket(self, stays) for _ in range(count)]
        self.made = list(self.sockets)
        self.settled: list[float] = []
        self.drain = Drain(
            self.clock,
            **{
                "settle": 0.0,
                "rate": 100,
                "timeout": 10.0,
                "sockets": lambda: self.sockets,
                "settled": lambda: self.settled.append(self.clock.seconds()),
                **given,
            },
        )
        return Deferred.fromCoroutine(self.drain.run())

    def pass_time(self, seconds: float, step: float = PAUSE) -> None:
        self.clock.pump([step] * round(seconds / step))

    def most_in(self, seconds: float) -> int:
        """The most closes within any such time."""
        times = [time for time, _ in self.closed]
        return max(sum(start <= time < start + seconds for time in times) for start in times)

    def test_nobody(self) -> None:
        self.successResultOf(self.begin(0))
        self.assertEqual(self.settled, [0])

    def test_rate(self) -> None:
        """So many a second, evenly, and done when the last is gone."""
        done = self.begin(250)
        self.pass_time(3)
        self.assertNoResult(done)
        self.pass_time(0.3)
        self.successResultOf(done)
        self.assertEqual(len(self.closed), 250)
        self.assertLessEqual(self.most_in(1), 100 * (HEADROOM + PAUSE))

    def test_slow_rate(self) -> None:
        """One in ten seconds is one in ten seconds."""
        self.begin(3, rate=1, timeout=60.0)
        self.pass_time(4)
        self.assertEqual(len(self.closed), 3)
        self.assertLessEqual(self.most_in(0.9), 1)

    @unhurried
    @given(st.lists(st.floats(0.001, 0.4), min_size=10, max_size=60), st.integers(1, 400))
    def test_any_pace_of_the_reactor(self, steps: list[float], rate: int) -> None:
        """However late the reactor is, no batch is larger than two pauses' worth, or one."""
        self.begin(200, rate=rate, timeout=1000.0)
        self.clock.pump(steps)
        times = [time for time, _ in self.closed]
        most = max(1, int(2 * PAUSE * rate))
        for time in set(times):
            self.assertLessEqual(times.count(time), most)
        self.assertLessEqual(len(times), rate * (sum(steps) + PAUSE) + 1)

    def test_shuffled(self) -> None:
        """Not in the order in which they came."""
        self.begin(100)
        self.pass_time(2)
        self.assertNotEqual([socket for _, socket in self.closed], self.made)

    def test_settle(self) -> None:
        """Nobody is told or closed before."""
        done = self.begin(5, settle=3.0)
        self.clock.advance(2.9)
        self.assertEqual((self.settled, self.closed), ([], []))
        self.clock.advance(0.2)
        self.assertEqual(len(self.settled), 1)
        self.pass_time(0.3)
        self.successResultOf(done)

    def test_bound(self) -> None:
        """Who does not go is left after the timeout, and too many are told of."""
        done = self.begin(50, stays=True, rate=2, timeout=3.0)
        self.pass_time(2.9)
        self.assertNoResult(done)
        self.pass_time(0.3)
        self.successResultOf(done)
        self.assertLessEqual(len(self.closed), 7)

    def test_hurry(self) -> None:
        """All that are left at once, and a moment for them; in the settle delay too."""
        done = self.begin(50, stays=True, rate=10)
        self.pass_time(1)
        self.drain.hurry()
        self.drain.hurry()
        self.assertEqual(len(self.closed), 50)
        self.pass_time(HURRY - 0.2)
        self.assertNoResult(done)
        self.pass_time(0.5)
        self.successResultOf(done)
        done = self.begin(50, settle=30.0)
        self.clock.advance(1)
        self.drain.hurry()
        self.successResultOf(done)
        self.assertEqual(len(self.closed), 50)
