"""Tests for realtime.ingress.admin."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from realtime.health import Health, Phase
from realtime.ingress.admin import health_resource, metrics_resource
from realtime.metrics import Metrics
from realtime.pulse import Pulse

from .exchange import Exchange


class HealthTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        pulse = Pulse(self.clock)
        pulse.start()
        self.addCleanup(pulse.stop)
        self.health = Health(
            node="n1",
            version="1.2.3",
            seconds=self.clock.seconds,
            pulse=pulse,
            max_lag=5.0,
            limit=100,
            connections=lambda: 7,
            bus=lambda: [],
            parts={},
        )
        self.exchange = Exchange(health_resource(self.health), Clock())

    def test_serving(self) -> None:
        self.health.phase = Phase.SERVING
        health = self.exchange.ask("GET", "/health", {})
        self.assertEqual((health.status, health.json["status"]), (200, "healthy"))
        self.assertEqual(health.json["connections"], {"status": "healthy", "open": 7, "limit": 100})
        self.assertGreater(health.json["memory"]["resident"], 0)
        ready = self.exchange.ask("GET", "/health/ready", {})
        self.assertEqual((ready.status, ready.json), (200, {"status": "ready"}))

    def test_draining(self) -> None:
        self.health.phase = Phase.DRAINING
        self.assertEqual(self.exchange.ask("GET", "/health", {}).status, 503)
        ready = self.exchange.ask("GET", "/health/ready", {})
        self.assertEqual((ready.status, ready.json["causes"]), (503, ["draining"]))
        self.assertEqual(self.exchange.ask("GET", "/health/live", {}).status, 200)

    def test_stuck(self) -> None:
        """A reactor that is late fails the liveness probe, and no other."""
        self.health.phase = Phase.SERVING
        self.clock.advance(6)
        live = self.exchange.ask("GET", "/health/live", {})
        self.assertEqual((live.status, live.json["status"]), (503, "stuck"))
        self.assertEqual(self.exchange.ask("GET", "/health/ready", {}).status, 200)

    def test_query_strings_are_ignored(self) -> None:
        self.assertEqual(self.exchange.ask("GET", "/health/live?probe=1", {}).status, 200)

    def test_head(self) -> None:
        answer = self.exchange.ask("HEAD", "/health/live", {})
        self.assertEqual((answer.status, answer.body), (200, b""))
        self.assertEqual(self.exchange.ask("GET", "/health/live", {}).status, 200)

    def test_headers(self) -> None:
        answer = self.exchange.ask("GET", "/health/live", {})
        self.assertEqual(answer.headers["content-type"], "application/json")
        self.assertEqual(answer.headers["cache-control"], "no-store")

    def test_other_paths_and_methods(self) -> None:
        for path in ("/", "/metrics", "/health/", "/health/dead", "/HEALTH"):
            self.assertEqual(self.exchange.ask("GET", path, {}).status, 404, path)
        answer = self.exchange.ask("POST", "/health", {}, b"{}")
        self.assertEqual((answer.status, answer.headers["allow"]), (405, "GET, HEAD"))


class MetricsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.metrics = Metrics()
        self.exchange = Exchange(metrics_resource(self.metrics.registry), Clock())

    def test_prometheus_can_read_it(self) -> None:
        self.metrics.delivered("booking:confirmed", [("plain", 3)], 0.001)
        answer = self.exchange.ask("GET", "/metrics", {})
        self.assertEqual(answer.status, 200)
        self.assertTrue(answer.headers["content-type"].startswith("text/plain; version="))
        families = {family.name: family for family in text_string_to_metric_families(answer.body.decode())}
        sent = {
            sample.labels["event"]: sample.value
            for sample in families["realtime_messages_sent"].samples
            if sample.name.endswith("_total") and sample.labels["protocol"] == "plain"
        }
        self.assertEqual(sent["booking:confirmed"], 3)
        self.assertIn("process_resident_memory_bytes", families)

    def test_head(self) -> None:
        self.assertEqual(self.exchange.ask("HEAD", "/metrics", {}).status, 200)

    def test_other_paths(self) -> None:
        self.assertEqual(self.exchange.ask("GET", "/", {}).status, 404)
