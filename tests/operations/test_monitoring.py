"""Alert rules, their runbook and the dashboard: by promtool, and in a Prometheus that runs.

A real Prometheus reads real metrics of which each alert's condition is made; of one node none is.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import treq
import yaml
from prometheus_client.exposition import generate_latest
from twisted.internet import reactor
from twisted.internet.task import LoopingCall
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.resource import Resource
from twisted.web.server import Site

from realtime.errors import InternalError
from realtime.metrics import NO_CONNECTIONS, Metrics

from ..clients.children import Child, program
from ..redis_servers import free_port, until

ROOT = Path(__file__).parents[2]
RULES = ROOT / "docker/prometheus/realtime.rules.yml"
DASHBOARD = ROOT / "docker/grafana/dashboards/realtime.json"
#: What is not ours in a query, beside functions: labels, and words of the language.
NAME = re.compile(r"\b(?:realtime|process|python|up)(?:_[a-z0-9_]+)?\b")


def rules() -> list[dict[str, Any]]:
    """Every rule."""
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def queries() -> Iterator[str]:
    """Every query of rules and dashboard."""
    yield from (rule["expr"] for rule in rules())
    dashboard = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]["query"]


def names() -> dict[str, frozenset[str]]:
    """The sample names of all metrics, with their labels."""
    found: dict[str, frozenset[str]] = {}
    metrics = Metrics()
    # histograms by label show once something was observed
    metrics.processed("room:join", 1)
    metrics.delivered("room:message", [("plain", 1)], 1)
    metrics.published("booking", "accepted")
    metrics.watch_health(version="1", node="n", ready=bool, connections_limit=1, memory_limit=1)
    figures(metrics)
    for family in metrics.registry.collect():
        for sample in family.samples:
            found[sample.name] = frozenset(sample.labels)
    return found


def figures(metrics: Metrics, **changed: Any) -> None:
    """What a node in good order lets its metrics read, but for what is changed."""
    told: dict[str, Any] = {
        "connections": {**NO_CONNECTIONS, ("plain", "websocket"): 5},
        "ready": True,
        "limit": 10,
        "memory": 1 << 40,
        "redis_up": 1.0,
        "resets": 0.0,
        "state": "holder",
        "lost": 0,
        "keys_age": -1.0,
        **changed,
    }
    counts = "users rooms members queue_bytes strangers waiting receipts api_waiting"
    nothing = dict.fromkeys(counts.split(), lambda: 0)
    metrics.watch(connections=lambda: told["connections"], **nothing)
    metrics.watch_health(
        version="1",
        node="n",
        ready=lambda: told["ready"],
        connections_limit=told["limit"],
        memory_limit=told["memory"],
    )
    metrics.watch_trust(
        bans=lambda: 0, pending_logins=lambda: 0, limited_users=lambda: 0, keys_age=lambda: told["keys_age"]
    )
    metrics.redis.connected("commands")
    metrics.redis.watch(redis_up=lambda: told["redis_up"], bus_resets=lambda: _value(told["resets"]))
    relay: Any = SimpleNamespace(
        state=SimpleNamespace(value=told["state"]),
        lost=lambda reason: _value(told["lost"]),
        held=0,
        held_bytes=0,
        takeovers=0,
        repeats=0,
        stream_lag=0,
        stream_resets=lambda what: 0,
    )
    metrics.redis.watch_relay(relay)


def _value(told: Any) -> float:
    return float(told() if callable(told) else told)


class Growing:
    """A figure that grows by one whenever it is read."""

    def __init__(self) -> None:
        self.value = 0

    def __call__(self) -> int:
        self.value += 1
        return self.value


#: How each alert comes about: what a node's figures are then, or what happens again and again.
FIGURES: dict[str, Callable[[], dict[str, Any]]] = {
    "RealtimeNotReady": lambda: {"ready": False},
    "RealtimeRedisAway": lambda: {"redis_up": 0.0},
    "RealtimeConnections": lambda: {"connections": {("wamp", "websocket"): 5, ("socketio", "polling"): 5}},
    "RealtimeMemory": lambda: {"memory": 1},
    "RealtimeMessagesLost": lambda: {"lost": Growing()},
    "RealtimeNoRelay": lambda: {"state": "listener"},
    "RealtimeGaps": lambda: {"resets": Growing()},
    "RealtimeKeysOld": lambda: {"keys_age": 4000.0},
}
EVENTS: dict[str, Callable[[Metrics], object]] = {
    "RealtimeBusSlow": lambda metrics: metrics.redis.heard(0.4),
    "RealtimeReactorLag": lambda metrics: metrics.lagged(0.2),
    "RealtimeDeliverySlow": lambda metrics: metrics.delivered("room:message", [("wamp", 1)], 0.4),
    "RealtimeSlowConsumers": lambda metrics: [metrics.slow_consumer() for _ in range(10)],
    "RealtimeHandshakesRefused": lambda metrics: [
        metrics.handshake_refused("forbidden") for _ in range(20)
    ],
    "RealtimePublicationsUnowned": lambda metrics: metrics.published("booking", "publish.no_owner"),
    "RealtimeRecoveriesFail": lambda metrics: metrics.recovered("gap"),
    "RealtimeFaults": lambda metrics: metrics.refused(InternalError.code),
}
#: What happens all the time on a node in good order.
USUAL: tuple[Callable[[Metrics], object], ...] = (
    lambda metrics: metrics.redis.heard(0.002),
    lambda metrics: metrics.lagged(0.001),
    lambda metrics: metrics.delivered("room:message", [("wamp", 1)], 0.004),
    lambda metrics: metrics.published("booking", "accepted"),
    lambda metrics: metrics.recovered("recovered"),
    lambda metrics: metrics.refused("rate.limited"),
)


class TextTests(SynchronousTestCase):
    """What the files say."""

    def test_promtool(self) -> None:
        """promtool takes the rules, and the configuration that names them."""
        for command, path in (("rules", RULES), ("config", RULES.with_name("prometheus.yml"))):
            done = subprocess.run(
                [program("promtool"), "check", command, str(path)],
                capture_output=True,
                text=True,
                check=False,
            )
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_names(self) -> None:
        """Every query of the rules and the dashboard names metrics that there are."""
        known = names().keys() | {"up", "realtime"}
        count = 0
        for query in queries():
            words = set(NAME.findall(re.sub(r'"[^"]*"', "", query)))
            self.assertTrue(words, query)
            self.assertEqual(words - known, set(), query)
            count += 1
        self.assertGreater(count, 60)

    def test_labels(self) -> None:
        """Every label that a query chooses or sums by is one of its metrics'."""
        labels = frozenset().union(*names().values()) | {"job", "instance", "le"}
        for query in queries():
            for listed in re.findall(r"(?:by|on) \(([^)]*)\)", query):
                self.assertLessEqual(set(re.split(r",\s*", listed)), labels, query)
            for label in re.findall(r"[{,](\w+)=", query):
                self.assertIn(label, labels, query)

    def test_values(self) -> None:
        """A rule that chooses by the value of a label chooses one that there is."""
        known: dict[str, set[str]] = {}
        metrics = Metrics()
        metrics.published("booking", "publish.no_owner")
        figures(metrics)
        for family in metrics.registry.collect():
            for sample in family.samples:
                for label, value in sample.labels.items():
                    known.setdefault(label, set()).add(value)
        chosen = [found for rule in rules() for found in re.findall(r'(\w+)=~?"([^"]*)"', rule["expr"])]
        self.assertGreater(len(chosen), 3)
        for label, values in chosen:
            if label != "job":
                self.assertLessEqual(set(values.split("|")), known[label])

    def test_all_metrics_are_shown(self) -> None:
        """What is counted is on the dashboard, or in a rule: else nobody would see it."""
        text = " ".join(queries())
        quiet = {"realtime_relay_held_bytes", "realtime_relay_repeats", "realtime_stream_resets"}
        for family in Metrics().registry.collect():
            if family.name.startswith("realtime_") and family.name not in quiet:
                self.assertIn(family.name, text)

    def test_runbook(self) -> None:
        """Each alert links to its own part of the runbook, and says how bad it is."""
        page = (ROOT / "docs/runbook.rst").read_text()
        headings = re.findall(r"^(\w+)\n-+\n\n\*(\w+): (.+)\.\*$", page, re.MULTILINE)
        told = [
            (rule["alert"], rule["labels"]["severity"].capitalize(), rule["annotations"]["summary"])
            for rule in rules()
        ]
        self.assertEqual(headings, told)
        for rule in rules():
            link = f"docs/runbook.rst#{rule['alert'].lower()}"
            self.assertEqual(rule["annotations"]["runbook"], link)

    def test_dashboard(self) -> None:
        """Panels have ids of their own, and do not lie on each other."""
        panels = json.loads(DASHBOARD.read_text())["panels"]
        self.assertEqual(len({panel["id"] for panel in panels}), len(panels))
        places = set()
        for panel in panels:
            grid = panel["gridPos"]
            self.assertLessEqual(grid["x"] + grid["w"], 24)
            for x in range(grid["x"], grid["x"] + grid["w"]):
                for y in range(grid["y"], grid["y"] + grid["h"]):
                    self.assertNotIn((x, y), places, panel["title"])
                    places.add((x, y))


class FiringTests(TestCase):
    """Issue 8, "Must show" 2: each alert fires where its condition is made, and no other does."""

    timeout = 90

    def setUp(self) -> None:
        self.root = Resource()
        self.cases: dict[str, Metrics] = {}
        for rule in rules():
            if rule["alert"] != "RealtimeNodeDown":
                self.case(rule["alert"])
        self.case("none")
        self.port = reactor.listenTCP(0, Site(self.root), interface="127.0.0.1")
        self.addCleanup(self.port.stopListening)
        happening = LoopingCall(self.happen)
        happening.start(0.1)
        self.addCleanup(happening.stop)

    def case(self, name: str) -> None:
        """A node of which one condition holds."""
        metrics = self.cases[name] = Metrics()
        figures(metrics, **FIGURES.get(name, dict)())
        self.root.putChild(name.encode(), metrics_at(metrics))

    def happen(self) -> None:
        for name, metrics in self.cases.items():
            for usual in USUAL:
                usual(metrics)
            event = EVENTS.get(name)
            if event is not None:
                for _ in range(3):
                    event(metrics)

    async def test_each(self) -> None:
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        (directory / "rules.yml").write_text(quickly(RULES.read_text()))
        (directory / "prometheus.yml").write_text(json.dumps(self.configuration()))
        port = free_port()
        log: list[str] = []
        child = Child(log.append)
        command = [
            program("prometheus"),
            *(f"--config.file={directory / 'prometheus.yml'}", f"--storage.tsdb.path={directory / 'data'}"),
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        child.start(command, {"HOME": str(directory)}, directory)
        self.addCleanup(child.stop, 10)
        wanted = {(rule["alert"], rule["alert"]) for rule in rules()}

        async def firing() -> bool:
            answer = await treq.get(f"http://127.0.0.1:{port}/api/v1/alerts", persistent=False)
            alerts = (await answer.json())["data"]["alerts"]
            self.fired = {
                (one["labels"]["alertname"], one["labels"]["job"])
                for one in alerts
                if one["state"] == "firing"
            }
            return wanted <= self.fired

        self.fired: set[tuple[str, str]] = set()
        try:
            await until(firing, "every alert", 45)
        finally:
            missing = sorted(wanted - self.fired)
            if missing:
                print("\n", missing, "\n", "\n".join(log[-5:]))
        self.assertEqual(self.fired, wanted)

    def configuration(self) -> dict[str, Any]:
        """A job for each node; of one there is nothing to read."""
        ours = f"127.0.0.1:{self.port.getHost().port}"
        jobs = {name: (f"/{name}", ours) for name in self.cases}
        jobs["RealtimeNodeDown"] = ("/metrics", "127.0.0.1:1")
        return {
            "global": {
                "scrape_interval": "500ms",
                "scrape_timeout": "400ms",
                "evaluation_interval": "500ms",
            },
            "rule_files": ["rules.yml"],
            "scrape_configs": [
                {"job_name": name, "metrics_path": path, "static_configs": [{"targets": [target]}]}
                for name, (path, target) in jobs.items()
            ],
        }


def quickly(text: str) -> str:
    """The rules with seconds for minutes; for jobs of any name."""
    text = re.sub(r"for: \d+[ms]", "for: 1s", text)
    text = re.sub(r"\[\d+m\]", "[4s]", text)
    return text.replace('up{job="realtime"}', "up")


def metrics_at(metrics: Metrics) -> Resource:
    """``/metrics`` of one node, wherever it is."""

    class Page(Resource):
        isLeaf = True

        def render_GET(self, request: Any) -> bytes:
            return generate_latest(metrics.registry)

    return Page()
