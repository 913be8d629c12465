"""Tests of the figures that charts are made of: each is what the metrics of a node hold."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from realtime.figures import figures
from realtime.metrics import Metrics


class FigureTests(SynchronousTestCase):
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
