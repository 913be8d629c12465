"""Several workers' metrics and health as those of one node."""

from __future__ import annotations

from typing import Any

from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from realtime.aggregate import health, merged
from realtime.metrics import Metrics


class MergedTests(SynchronousTestCase):
    """`merged`."""

    def test_metrics(self) -> None:
        """Every sample of every worker is there, once, with its worker; each family is described once."""
        first, second = Metrics(), Metrics()
        first.received("room:message", "socketio", 3)
        second.received("room:message", "socketio", 3)
        second.lagged(0.2)
        texts = {
            "1": generate_latest(first.registry).decode(),
            "2": generate_latest(second.registry).decode(),
        }
        together = merged(texts)
        expected = {
            (sample.name, *sorted({**sample.labels, "worker": worker}.items())): sample.value
            for worker, text in texts.items()
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
        found = {}
        for family in text_string_to_metric_families(together):
            for sample in family.samples:
                key = (sample.name, *sorted(sample.labels.items()))
                self.assertNotIn(key, found)
                found[key] = sample.value
        self.assertEqual(found, expected)
        described = [line for line in together.splitlines() if line.startswith("# TYPE")]
        self.assertEqual(len(described), len(set(described)))
        # Prometheus wants the samples of a name in one place
        names = [family.name for family in text_string_to_metric_families(together)]
        self.assertEqual(len(names), len(set(names)))

    def test_values_that_look_like_labels(self) -> None:
        text = '# HELP a x\n# TYPE a gauge\na{b="} {c"} 1.0\na 2.0\n'
        self.assertEqual(
            merged({"7": text}),
            '# HELP a x\n# TYPE a gauge\na{worker="7",b="} {c"} 1.0\na{worker="7"} 2.0\n',
        )

    def test_nobody(self) -> None:
        self.assertEqual(merged({}), "")


class HealthTests(SynchronousTestCase):
    """`health`."""

    @staticmethod
    def report(status: str = "healthy", causes: tuple[str, ...] = (), count: int = 3) -> dict[str, Any]:
        return {"status": status, "causes": [*causes], "connections": {"open": count, "limit": 10}}

    def test_well(self) -> None:
        told = health({"1": self.report(), "2": self.report(count=4)})
        self.assertEqual((told["status"], told["causes"]), ("healthy", []))
        self.assertEqual((told["connections"]["open"], told["connections"]["limit"]), (7, 20))
        self.assertEqual(set(told["workers"]), {"1", "2"})

    def test_one_of_them(self) -> None:
        """A node serves while one of its workers does."""
        for other in (None, self.report("unhealthy", ("starting",)), self.report("degraded")):
            told = health({"1": self.report(), "2": other})
            self.assertEqual((told["status"], told["causes"]), ("degraded", []), other)

    def test_none(self) -> None:
        told = health(
            {"1": self.report("unhealthy", ("redis",)), "2": self.report("unhealthy", ("lag", "redis"))}
        )
        self.assertEqual((told["status"], told["causes"]), ("unhealthy", ["lag", "redis"]))
        self.assertEqual(health({"1": None})["causes"], ["workers"])
