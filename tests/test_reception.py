"""The reception serves strangers in a part of each turn, in their order."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from realtime.reception import MOST, PER_TURN, Reception


class ReceptionTests(SynchronousTestCase):
    """`Reception`, on a clock that goes on while somebody is served."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.reception = Reception(self.clock)
        self.served: list[int] = []

    def turn(self) -> None:
        """The beginning of the reactor's next turn. (`Clock.advance` takes what comes due meanwhile.)"""
        now = self.clock.seconds()
        for call in [call for call in self.clock.getDelayedCalls() if call.getTime() <= now]:
            self.clock.calls.remove(call)
            call.func(*call.args, **call.kw)

    def work(self, number: int, seconds: float) -> None:
        """Serve somebody, which takes so long."""
        self.served.append(number)
        self.clock.rightNow += seconds

    def offer(self, number: int, seconds: float) -> None:
        """Somebody comes."""
        if self.reception.ready():
            self.work(number, seconds)
        else:
            self.reception.wait(lambda: self.work(number, seconds))

    def test_few(self) -> None:
        """Whoever comes is served at once while there is time."""
        for number in range(4):
            self.offer(number, PER_TURN / 4)
        self.assertEqual(self.served, [0, 1, 2, 3])

    def test_many(self) -> None:
        """Then the rest waits for later turns, and nobody overtakes them."""
        for number in range(7):
            self.offer(number, PER_TURN / 2)
        self.assertEqual(self.served, [0, 1])
        self.assertEqual(len(self.reception), 5)
        self.turn()
        self.assertEqual(self.served, [0, 1, 2, 3])
        self.offer(7, 0)
        self.assertEqual(self.served, [0, 1, 2, 3])
        self.turn()
        self.turn()
        self.assertEqual(self.served, [0, 1, 2, 3, 4, 5, 6, 7])

    def test_slow(self) -> None:
        """However long one takes, one is served in each turn."""
        for number in range(4):
            self.offer(number, 1.0)
        for count in (2, 3, 4, 4):
            self.turn()
            self.assertEqual(len(self.served), count)

    def test_long_turns(self) -> None:
        """Where turns take long because of others, strangers have a share of them, within a bound."""
        for others, share in ((0.004, 0.001), (1.0, MOST)):
            self.offer(0, PER_TURN)
            for number in range(200):
                self.offer(number, share / 10)
            self.clock.rightNow += others - PER_TURN
            served = len(self.served)
            self.turn()
            self.assertIn(len(self.served) - served, (10, 11))
            while len(self.reception):
                self.turn()

    def test_time_for_others_counts(self) -> None:
        """What is done for others after the first stranger of a turn is time of that turn, too."""
        self.offer(0, 0)
        self.clock.rightNow += PER_TURN
        self.offer(1, 0)
        self.assertEqual(self.served, [0])
        self.turn()
        self.assertEqual(self.served, [0, 1])

    def test_enter(self) -> None:
        """A coroutine goes on in its turn."""

        async def come(number: int) -> None:
            await self.reception.enter()
            self.work(number, PER_TURN)

        coming = [Deferred.fromCoroutine(come(number)) for number in range(3)]
        for count in (1, 2, 3):
            self.assertEqual(len(self.served), count)
            self.turn()
        for one in coming:
            self.successResultOf(one)

    def test_failure(self) -> None:
        """One who can't be served hinders nobody, and is logged."""
        self.offer(0, PER_TURN)
        self.reception.wait(lambda: 1 // 0)  # type: ignore[arg-type,return-value]
        self.offer(1, 0)
        self.turn()
        self.assertEqual(self.served, [0, 1])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_nothing_is_left(self) -> None:
        """Where nobody comes the reactor is not woken."""
        for number in range(3):
            self.offer(number, PER_TURN)
        for _ in range(5):
            self.turn()
        self.assertEqual(self.clock.getDelayedCalls(), [])
