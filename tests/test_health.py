"""Tests for realtime.health."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from realtime.health import Health, Phase, resident_bytes


class HealthTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.alive = True
        self.health = Health(
            node="n1",
            version="1.2.3",
            seconds=self.clock.seconds,
            limit=100,
            connections=lambda: 7,
            broker=lambda: [] if self.alive else ["broker_unavailable"],
            memory=lambda: 4096,
        )

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

    def test_all_causes_are_named(self) -> None:
        self.alive = False
        self.assertEqual(self.health.causes(), ["starting", "broker_unavailable"])

    def test_alive_whatever_else(self) -> None:
        self.alive = False
        self.assertEqual(self.health.liveness(), {"status": "alive"})

    def test_report(self) -> None:
        self.health.phase = Phase.SERVING
        self.clock.advance(90.7)
        self.assertEqual(
            self.health.report(),
            {
                "status": "healthy",
                "causes": [],
                "service": "realtime",
                "version": "1.2.3",
                "node": "n1",
                "phase": "serving",
                "uptime": 90,
                "connections": {"open": 7, "limit": 100},
                "memory": {"resident": 4096},
                "broker": {"alive": True},
            },
        )

    def test_report_of_a_node_that_wants_no_traffic(self) -> None:
        self.health.phase = Phase.DRAINING
        report = self.health.report()
        self.assertEqual((report["status"], report["causes"]), ("unhealthy", ["draining"]))


class MemoryTests(SynchronousTestCase):
    def test_it_is_this_process(self) -> None:
        before = resident_bytes()
        self.assertGreater(before, 1_000_000)
        block = bytearray(b"x" * 64_000_000)
        self.assertGreater(resident_bytes(), before + len(block) // 2)
