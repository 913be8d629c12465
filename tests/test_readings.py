"""Tests of readings that many share."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from realtime.errors import BrokerUnavailable
from realtime.readings import Readings


class ReadingsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.under_way: list[tuple[str, Deferred[int]]] = []
        self.readings: Readings[int] = Readings(self.read)

    def read(self, name: str) -> Deferred[int]:
        reading: Deferred[int] = Deferred()
        self.under_way.append((name, reading))
        return reading

    def test_shared(self) -> None:
        """Who asks during a reading shares the next one with all who do."""
        first = self.readings.ask("a")
        others = [self.readings.ask("a") for _ in range(1000)]
        self.assertEqual(len(self.under_way), 1)
        self.under_way[0][1].callback(1)
        self.assertEqual(self.successResultOf(first), 1)
        self.assertEqual(len(self.under_way), 2)
        self.assertNoResult(others[0])
        self.under_way[1][1].callback(2)
        self.assertEqual([self.successResultOf(one) for one in others], [2] * 1000)
        self.assertEqual((len(self.under_way), len(self.readings)), (2, 0))

    def test_names(self) -> None:
        """Each name is read by itself."""
        one, other = self.readings.ask("a"), self.readings.ask("b")
        self.assertEqual([name for name, _ in self.under_way], ["a", "b"])
        self.under_way[1][1].callback(2)
        self.assertEqual(self.successResultOf(other), 2)
        self.assertNoResult(one)

    def test_failure(self) -> None:
        """A reading that fails fails for those who share it, and for nobody else."""
        first, second = self.readings.ask("a"), self.readings.ask("a")
        third = self.readings.ask("a")
        self.under_way[0][1].errback(BrokerUnavailable())
        self.failureResultOf(first, BrokerUnavailable)
        self.under_way[1][1].errback(BrokerUnavailable())
        self.failureResultOf(second, BrokerUnavailable)
        self.failureResultOf(third, BrokerUnavailable)
        again = self.readings.ask("a")
        self.under_way[2][1].callback(3)
        self.assertEqual(self.successResultOf(again), 3)

    def test_at_once(self) -> None:
        """What is here already is told at once, also to who asks while being told."""
        told: list[int] = []
        readings: Readings[int] = Readings(lambda name: succeed(len(told)))
        asked = readings.ask("a")
        asked.addCallback(told.append)
        asked.addCallback(lambda _: readings.ask("a").addCallback(told.append))
        self.successResultOf(asked)
        self.assertEqual(told, [0, 1])
        self.failureResultOf(Readings(lambda name: fail(BrokerUnavailable())).ask("a"), BrokerUnavailable)
