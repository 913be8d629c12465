"""Tests for realtime.metrics."""

import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.metrics import MetricWrapperBase
from twisted.trial.unittest import SynchronousTestCase

from realtime.errors import Close, NoOwner, RateLimited
from realtime.metrics import FAULTS, Metrics
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
            connections={"websocket": lambda: 5, "polling": lambda: 2},
            users=lambda: 4,
            rooms=lambda: rooms[0],
            members=lambda: 9,
            queue_bytes=lambda: 100,
            strangers=lambda: 54,
        )
        self.metrics.watch_logs(
            entries=lambda: 50, size=lambda: 51, channels=lambda: 52, sessions=lambda: 53
        )
        rooms[0] = 8
        self.assertEqual(self.value("realtime_connections", transport="websocket"), 5)
        self.assertEqual(self.value("realtime_connections", transport="polling"), 2)
        self.assertEqual(self.value("realtime_users"), 4)
        self.assertEqual(self.value("realtime_rooms"), 8)
        self.assertEqual(self.value("realtime_room_members"), 9)
        self.assertEqual(self.value("realtime_queue_bytes"), 100)
        names = ("log_entries", "log_bytes", "channels", "sessions", "strangers")
        self.assertEqual([self.value(f"realtime_{name}") for name in names], [50, 51, 52, 53, 54])

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
            elif type(collector).__module__ == "realtime.metrics":
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
        self.assertEqual(self.value("realtime_slow_consumers_total"), 1)
        self.assertEqual(self.value("realtime_presence_sweeps_total"), 1)

    def test_messages_from_clients(self) -> None:
        self.metrics.received("room:message", 60)
        self.metrics.received("room:message", 40)
        self.metrics.processed("room:message", 0.003)
        self.metrics.refused(RateLimited.code)
        self.assertEqual(self.value("realtime_messages_received_total", event="room:message"), 2)
        self.assertEqual(self.value("realtime_received_bytes_total"), 100)
        self.assertEqual(self.value("realtime_event_processing_seconds_count", event="room:message"), 1)
        self.assertEqual(self.value("realtime_event_processing_seconds_sum", event="room:message"), 0.003)
        self.assertEqual(self.value("realtime_refusals_total", code="rate.limited"), 1)

    def test_messages_to_clients(self) -> None:
        self.metrics.sent("system:connected", 80)
        self.metrics.delivered("booking:confirmed", 1000, 0.0042, 60_000)
        self.assertEqual(self.value("realtime_messages_sent_total", event="system:connected"), 1)
        self.assertEqual(self.value("realtime_messages_sent_total", event="booking:confirmed"), 1000)
        self.assertEqual(self.value("realtime_sent_bytes_total"), 60_080)
        delivery = "realtime_delivery_seconds"
        self.assertEqual(self.value(f"{delivery}_count", event="booking:confirmed"), 1)
        self.assertEqual(self.value(f"{delivery}_bucket", event="booking:confirmed", le="0.0025"), 0)
        self.assertEqual(self.value(f"{delivery}_bucket", event="booking:confirmed", le="0.005"), 1)

    def test_a_clock_that_went_back_takes_nothing_off(self) -> None:
        self.metrics.delivered("booking:confirmed", 1, -5.0)
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
        self.metrics.received("x", 1)
        self.metrics.processed("x", 1)
        self.metrics.delivered("event:doors_open", 3, 1)
        self.metrics.published("x", "y")
        self.metrics.recovered("x")
        self.assertEqual(self.value("realtime_connects_total", transport="other"), 1)
        self.assertEqual(self.value("realtime_disconnects_total", reason="other"), 1)
        self.assertEqual(self.value("realtime_handshakes_refused_total", code="other"), 1)
        self.assertEqual(self.value("realtime_refusals_total", code="other"), 1)
        self.assertEqual(self.value("realtime_messages_received_total", event="other"), 1)
        self.assertEqual(self.value("realtime_event_processing_seconds_count", event="other"), 1)
        self.assertEqual(self.value("realtime_messages_sent_total", event="other"), 3)
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
            self.metrics.received(text, 1)
            self.metrics.processed(text, 1)
            self.metrics.delivered(text, 1, 1)
            self.metrics.published(text, text)
            self.metrics.recovered(text)

        count_all("other")
        before = self.series()
        for text in texts:
            count_all(f"?{text}")
        self.assertEqual(self.series(), before)
