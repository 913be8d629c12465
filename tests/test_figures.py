"""Tests of the figures that charts are made of: each is what the metrics of a node hold."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from realtime.figures import SAMPLES, figures
from realtime.metrics import Metrics


class FigureTests(SynchronousTestCase):
    def test_known(self) -> None:
        """Each is of a metric that there is: a name that was changed would be nought for ever."""
        metrics = Metrics()
        metrics.received("room:message", "socketio", 10)
        metrics.delivered("room:message", [("socketio", 3)], 0.002, 10)
        told = figures(metrics.registry)
        self.assertEqual((told["received"], told["sent"]), (1, 3))
        self.assertEqual((told["latency"]["0.0025"], told["latency"]["+Inf"]), (1, 1))
        names = {sample.name for family in metrics.registry.collect() for sample in family.samples}
        self.assertEqual(set(SAMPLES) - names, set())

    def test_counted(self) -> None:
        """What was counted is told, summed over labels; latency by bound."""
        metrics = Metrics()
        metrics.refused("rate.limited")
        metrics.refused("auth.required")
        metrics.slow_consumer()
        told = figures(metrics.registry)
        self.assertEqual((told["refused"], told["slowConsumers"]), (2, 1))
        self.assertGreater(told["cpuSeconds"], 0)
        self.assertEqual(
            set(told),
            {
                *("received", "sent", "refused", "slowConsumers", "users", "rooms", "members"),
                *("queueBytes", "cpuSeconds", "latency"),
            },
        )
