"""Tests for realtime.metrics."""

import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.metrics import MetricWrapperBase
from twisted.trial.unittest import SynchronousTestCase

from realtime.errors import Close, NoOwner, RateLimited, RealtimeError
from realtime.events import Loss
from realtime.metrics import API_STATUSES, FAULTS, Metrics
from realtime.wire.engineio import Fault

from .generated import unhurried


class MetricsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.metrics = Metrics()

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)

    def series(self) -> int:
        """How many time series there are."""
        return sum(len(family.samples) for family in self.metrics.registry.collect())

    def test_two_nodes_in_one_process_count_apart(self) -> None:
        other = Metrics()
        self.metrics.repeated()
        self.assertEqual(other.registry.get_sample_value("realtime_publications_repeated_total"), 0)

    def test_figures_are_read_when_asked_for(self) -> None:
        rooms = [3]
        self.metrics.watch(
            connections=lambda: {("plain", "websocket"): 5, ("socketio", "polling"): 2},
            users=lambda: 4,
            rooms=lambda: rooms[0],
            members=lambda: 9,
            queue_bytes=lambda: 100,
            strangers=lambda: 54,
            waiting=lambda: 55,
            receipts=lambda: 0,
            api_waiting=lambda: 0,
        )
        self.metrics.watch_logs(
            entries=lambda: 50, size=lambda: 51, channels=lambda: 52, sessions=lambda: 53
        )
        rooms[0] = 8
        self.assertEqual(self.value("realtime_connections", protocol="plain", transport="websocket"), 5)
        self.assertEqual(self.value("realtime_connections", protocol="socketio", transport="polling"), 2)
        self.assertEqual(self.value("realtime_users"), 4)
        self.assertEqual(self.value("realtime_rooms"), 8)
        self.assertEqual(self.value("realtime_room_members"), 9)
        self.assertEqual(self.value("realtime_queue_bytes"), 100)
        names = ("log_entries", "log_bytes", "channels", "sessions", "strangers", "strangers_waiting")
        self.assertEqual([self.value(f"realtime_{name}") for name in names], [50, 51, 52, 53, 54, 55])

    def test_all_of_them_are_documented(self) -> None:
        text = (Path(__file__).parents[1] / "docs" / "metrics.rst").read_text()
        documented = {
            name: (kind, set(re.findall(r"``(\w+)``", labels)))
            for name, kind, labels in re.findall(
                r"^``(realtime_\w+)`` +(gauge|counter|histogram) ((?:(?!  \w).)*)", text, re.MULTILINE
            )
        }
        registered = {}
        for collector in self.metrics.registry._collector_to_names:
            if isinstance(collector, MetricWrapperBase):
                registered[collector._name] = (collector._type, set(collector._labelnames))
            elif type(collector).__module__ == "realtime.collectors":
                (family,) = collector.collect()
                registered[family.name] = (family.type, set(family._labelnames))
        self.assertEqual(documented, registered)

    def test_histogram(self) -> None:
        """Buckets are cumulative, an observation counts at its bound, and what is above all in +Inf."""
        for seconds in (0.0001, 0.0005, 0.0006, 99.0, -1.0):
            self.metrics.processed("room:join", seconds)
        name = "realtime_event_processing_seconds"
        for bound, count in (("0.0005", 3), ("0.001", 4), ("10.0", 4), ("+Inf", 5)):
            self.assertEqual(self.value(f"{name}_bucket", event="room:join", le=bound), count)
        self.assertEqual(self.value(f"{name}_count", event="room:join"), 5)
        self.assertAlmostEqual(self.value(f"{name}_sum", event="room:join"), 99.0012)

    def test_faults_of_engineio(self) -> None:
        self.assertEqual(set(FAULTS) - {"unknown_subprotocol"}, {fault.name.lower() for fault in Fault})
        self.metrics.handshake_refused("unknown_sid")
        self.assertEqual(self.value("realtime_handshakes_refused_total", code="unknown_sid"), 1)

    def test_statuses_of_the_api(self) -> None:
        """Each status that a refusal stands for has its own series."""
        pending, statuses = [RealtimeError], {"200"}
        while pending:
            error = pending.pop()
            pending += error.__subclasses__()
            statuses.add(str(error.status))
        self.assertLessEqual(statuses, set(API_STATUSES))

    def test_limits(self) -> None:
        """Who it is, whether it is ready, and its limits."""
        ready = [True]
        self.metrics.watch_health(
            version="1.2.3", node="n1", ready=lambda: ready[0], connections_limit=7, memory_limit=8
        )
        self.assertEqual(self.value("realtime_info", version="1.2.3", node="n1"), 1)
        self.assertEqual(self.value("realtime_ready"), 1)
        ready[0] = False
        names = ("ready", "connections_limit", "memory_limit_bytes")
        self.assertEqual([self.value(f"realtime_{name}") for name in names], [0, 7, 8])

    def test_lag(self) -> None:
        """Histograms of the reactor's lag, and of the bus's."""
        self.metrics.lagged(0.004)
        self.metrics.redis.heard(0.3)
        for name, low, high in (("reactor_lag", "0.0025", "0.005"), ("bus_lag", "0.25", "0.5")):
            counts = [
                self.value(f"realtime_{name}_seconds_bucket", le=bound) for bound in (low, high, "+Inf")
            ]
            self.assertEqual(counts, [0, 1, 1])

    def test_connections(self) -> None:
        self.metrics.connected("polling")
        self.metrics.disconnected(Close.SLOW_CONSUMER.reason)
        self.metrics.disconnected("transport_close")
        self.metrics.handshake_refused("auth.token_invalid")
        self.metrics.recovered("recovered")
        self.metrics.slow_consumer()
        self.metrics.presence_swept()
        self.assertEqual(self.value("realtime_connects_total", transport="polling"), 1)
        self.assertEqual(self.value("realtime_connects_total", transport="websocket"), 0)
        self.assertEqual(self.value("realtime_disconnects_total", reason="slow_consumer"), 1)
        self.assertEqual(self.value("realtime_disconnects_total", reason="transport_close"), 1)
        self.assertEqual(self.value("realtime_handshakes_refused_total", code="auth.token_invalid"), 1)
        self.assertEqual(self.value("realtime_recoveries_total", result="recovered"), 1)
        self.assertEqual(self.value("realtime_slow_consumers_total", loss="other"), 1)
        self.metrics.sending = Loss.MUST.value
        self.metrics.slow_consumer()
        self.assertEqual(self.value("realtime_slow_consumers_total", loss="must"), 1)
        self.assertEqual(self.value("realtime_presence_sweeps_total"), 1)

    def test_messages_from_clients(self) -> None:
        self.metrics.received("room:message", "plain", 60)
        self.metrics.received("room:message", "plain", 40)
        self.metrics.processed("room:message", 0.003)
        self.metrics.refused(RateLimited.code)
        self.assertEqual(
            self.value("realtime_messages_received_total", event="room:message", protocol="plain"), 2
        )
        self.assertEqual(
            self.value("realtime_received_bytes_total", event="room:message", protocol="plain"), 100
        )
        self.assertEqual(self.value("realtime_event_processing_seconds_count", event="room:message"), 1)
        self.assertEqual(self.value("realtime_event_processing_seconds_sum", event="room:message"), 0.003)
        self.assertEqual(self.value("realtime_refusals_total", code="rate.limited"), 1)

    def test_messages_to_clients(self) -> None:
        self.metrics.sent("system:connected", "wamp", 80)
        self.metrics.delivered("booking:confirmed", [("socketio", 900), ("wamp", 100)], 0.0042, 60)
        for protocol, event, count, size in (
            ("wamp", "system:connected", 1, 80),
            ("socketio", "booking:confirmed", 900, 54_000),
            ("wamp", "booking:confirmed", 100, 6_000),
        ):
            labels = {"event": event, "protocol": protocol}
            self.assertEqual(self.value("realtime_messages_sent_total", **labels), count)
            self.assertEqual(self.value("realtime_sent_bytes_total", **labels), size)
        receivers = "realtime_fanout_receivers"
        self.assertEqual(self.value(f"{receivers}_sum"), 1000)
        self.assertEqual(self.value(f"{receivers}_bucket", le="300.0"), 0)
        self.assertEqual(self.value(f"{receivers}_bucket", le="1000.0"), 1)
        self.metrics.dropped("room:typing", 4)
        self.assertEqual(self.value("realtime_messages_dropped_total", event="room:typing"), 4)
        delivery = "realtime_delivery_seconds"
        self.assertEqual(self.value(f"{delivery}_count", event="booking:confirmed"), 1)
        self.assertEqual(self.value(f"{delivery}_bucket", event="booking:confirmed", le="0.0025"), 0)
        self.assertEqual(self.value(f"{delivery}_bucket", event="booking:confirmed", le="0.005"), 1)

    def test_a_clock_that_went_back_takes_nothing_off(self) -> None:
        self.metrics.delivered("booking:confirmed", [("plain", 1)], -5.0)
        self.assertEqual(self.value("realtime_delivery_seconds_sum", event="booking:confirmed"), 0)

    def test_publications(self) -> None:
        self.metrics.published("booking", "accepted")
        self.metrics.published("booking", NoOwner.code)
        self.metrics.published("ticket", "repeated")
        for kind, outcome in (
            ("booking", "accepted"),
            ("booking", "publish.no_owner"),
            ("ticket", "repeated"),
        ):
            self.assertEqual(self.value("realtime_publications_total", kind=kind, outcome=outcome), 1)
        self.assertEqual(self.value("realtime_publications_repeated_total"), 1)

    def test_what_is_not_known_counts_as_other(self) -> None:
        self.metrics.connected("carrier pigeon")
        self.metrics.disconnected("boredom")
        self.metrics.handshake_refused("x")
        self.metrics.refused("x")
        self.metrics.received("x", "y", 1)
        self.metrics.processed("x", 1)
        self.metrics.delivered("event:doors_open", [("y", 3)], 1)
        self.metrics.asked("x", 299)
        self.metrics.refreshed("x")
        self.metrics.published("x", "y")
        self.metrics.recovered("x")
        self.assertEqual(self.value("realtime_connects_total", transport="other"), 1)
        self.assertEqual(self.value("realtime_disconnects_total", reason="other"), 1)
        self.assertEqual(self.value("realtime_handshakes_refused_total", code="other"), 1)
        self.assertEqual(self.value("realtime_refusals_total", code="other"), 1)
        self.assertEqual(self.value("realtime_messages_received_total", event="other", protocol="other"), 1)
        self.assertEqual(self.value("realtime_event_processing_seconds_count", event="other"), 1)
        self.assertEqual(self.value("realtime_messages_sent_total", event="other", protocol="other"), 3)
        self.assertEqual(self.value("realtime_delivery_seconds_count", event="other"), 1)
        self.assertEqual(self.value("realtime_publications_total", kind="other", outcome="other"), 1)
        self.assertEqual(self.value("realtime_recoveries_total", result="other"), 1)

    @unhurried
    @given(st.lists(st.text(), min_size=1))
    def test_nobody_outside_can_make_time_series(self, texts: list[str]) -> None:
        def count_all(text: str) -> None:
            self.metrics.connected(text)
            self.metrics.disconnected(text)
            self.metrics.handshake_refused(text)
            self.metrics.refused(text)
            self.metrics.received(text, text, 1)
            self.metrics.sent(text, text, 1)
            self.metrics.dropped(text, 1)
            self.metrics.asked(text, len(text))
            self.metrics.refreshed(text)
            self.metrics.processed(text, 1)
            self.metrics.delivered(text, [(text, 1)], 1)
            self.metrics.published(text, text)
            self.metrics.recovered(text)

        count_all("other")
        before = self.series()
        for text in texts:
            count_all(f"?{text}")
        self.assertEqual(self.series(), before)
