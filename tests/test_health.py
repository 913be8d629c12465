"""Tests for realtime.health."""

from __future__ import annotations

import os

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from realtime.health import Health, Part, Phase
from realtime.pulse import INTERVAL, LOOKS, Pulse


class HealthTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.alive = True
        self.resident = 4096
        self.open = 7
        self.part: Part = {"status": "healthy", "held": 3}
        self.pulse = Pulse(self.clock, limit=8192, memory=lambda: self.resident)
        self.pulse.start()
        self.addCleanup(self.pulse.stop)
        self.health = Health(
            node="n1",
            version="1.2.3",
            seconds=self.clock.seconds,
            pulse=self.pulse,
            max_lag=5.0,
            limit=100,
            connections=lambda: self.open,
            bus=lambda: [] if self.alive else ["broker_unavailable"],
            parts={"relay": lambda: self.part},
        )

    def beat(self, seconds: float = INTERVAL * LOOKS) -> None:
        self.clock.pump([INTERVAL] * int(seconds / INTERVAL))

    def test_ready_only_while_serving(self) -> None:
        self.assertEqual(self.health.readiness(), {"status": "unavailable", "causes": ["starting"]})
        self.health.phase = Phase.SERVING
        self.assertEqual(self.health.readiness(), {"status": "ready"})
        self.health.phase = Phase.DRAINING
        self.assertEqual(self.health.readiness(), {"status": "unavailable", "causes": ["draining"]})

    def test_not_ready_without_the_bus(self) -> None:
        self.health.phase = Phase.SERVING
        self.alive = False
        self.assertEqual(self.health.causes(), ["broker_unavailable"])
        self.alive = True
        self.assertEqual(self.health.causes(), [])

    def test_not_ready_past_the_memory_limit(self) -> None:
        self.health.phase = Phase.SERVING
        self.resident = 9000
        self.beat()
        self.assertTrue(self.health.full)
        self.assertEqual(self.health.causes(), ["memory_limit"])
        self.assertEqual(self.health.report()["memory"]["status"], "unhealthy")
        self.assertTrue(self.health.live)

    def test_all_causes_are_named(self) -> None:
        self.alive = False
        self.assertEqual(self.health.causes(), ["starting", "broker_unavailable"])

    def test_alive_whatever_else(self) -> None:
        self.alive = False
        self.assertEqual(self.health.liveness(), {"status": "alive"})

    def test_alive_while_the_reactor_turns(self) -> None:
        """Late by the bound it is alive, past it stuck, and alive again once it turns."""
        self.clock.advance(INTERVAL + 5)
        self.assertEqual(self.health.liveness(), {"status": "alive"})
        self.clock.advance(INTERVAL + 5.1)
        self.assertEqual(self.health.liveness(), {"status": "stuck", "lag": 5100.0})
        self.health.phase = Phase.SERVING
        report = self.health.report()
        self.assertEqual((report["status"], report["reactor"]["status"]), ("degraded", "unhealthy"))
        self.beat()
        self.assertEqual(self.health.liveness(), {"status": "alive"})

    def test_report(self) -> None:
        self.health.phase = Phase.SERVING
        self.clock.advance(INTERVAL + 0.004)
        self.beat(90)
        self.assertEqual(
            self.health.report(),
            {
                "status": "healthy",
                "causes": [],
                "service": "realtime",
                "version": "1.2.3",
                "node": "n1",
                "pid": os.getpid(),
                "phase": "serving",
                "uptime": 90,
                "reactor": {"status": "healthy", "lag": 0.0, "worstLag": 0.0, "maxLag": 5000.0},
                "memory": {"status": "healthy", "resident": 4096, "limit": 8192},
                "connections": {"status": "healthy", "open": 7, "limit": 100},
                "relay": {"status": "healthy", "held": 3},
            },
        )

    def test_report_of_a_node_that_wants_no_traffic(self) -> None:
        self.health.phase = Phase.DRAINING
        report = self.health.report()
        self.assertEqual((report["status"], report["causes"]), ("unhealthy", ["draining"]))

    def test_report_of_a_part_that_is_not_well(self) -> None:
        """One part is told of in the whole; it alone does not turn clients away."""
        self.health.phase = Phase.SERVING
        self.open = 100
        report = self.health.report()
        self.assertEqual((report["status"], report["causes"]), ("degraded", []))
        self.assertEqual(report["connections"]["status"], "degraded")
        self.open = 7
        self.part = {"status": "unhealthy"}
        self.assertEqual(self.health.report()["status"], "degraded")
