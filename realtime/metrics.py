"""This node's metrics: every name in one place, and the one way to count each.

Label values come from closed sets; whatever is outside of its set counts as ``other``, so that no
client and no service can make new time series (RELIABILITY.md section 2, row 24).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

from .errors import Close, RealtimeError
from .events import CLIENT_EVENTS, SERVER_EVENTS

OTHER: Final = "other"

TRANSPORTS: Final = ("websocket", "polling")

#: First parts of channels that services publish to.
CHANNEL_KINDS: Final = ("booking", "payment", "notification", "ticket", "user", "event", "room", "system")

#: Why a transport ended, where the service did not end it itself (those are in `errors.Close`).
TRANSPORT_ENDS: Final = ("transport_close", "transport_error", "client_disconnect", "parse_error")

#: Engine.IO's own refusals of a request (`wire.engineio.Fault`).
FAULTS: Final = (
    *("unknown_transport", "unknown_sid", "bad_handshake_method"),
    *("bad_request", "forbidden", "unsupported_version"),
)

#: How an attempt to take up a session ended.
RECOVERIES: Final = ("recovered", "unknown", "other_user", "room_refused", "gap")

#: Seconds. Deliveries take milliseconds; what waits for a bus or a lookup takes longer.
BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


def error_codes() -> Iterator[str]:
    """The code of every refusal that the service knows."""
    pending: list[type[RealtimeError]] = [RealtimeError]
    while pending:
        error = pending.pop()
        yield error.code
        pending += error.__subclasses__()


class _Counts:
    """A counter with one label: its children, looked up in a plain dict."""

    __slots__ = ("_children", "_other")

    def __init__(self, counter: Counter, values: Iterable[str]) -> None:
        self._children = {value: counter.labels(value) for value in sorted(set(values))}
        self._other = counter.labels(OTHER)

    def add(self, value: str, amount: float = 1) -> None:
        self._children.get(value, self._other).inc(amount)


class _Times:
    """A histogram of seconds with one label: its children, made when first needed."""

    __slots__ = ("_children", "_histogram", "_values")

    def __init__(self, histogram: Histogram, values: Iterable[str]) -> None:
        self._histogram = histogram
        self._values = frozenset(values)
        self._children: dict[str, Histogram] = {}

    def add(self, value: str, seconds: float) -> None:
        child = self._children.get(value)
        if child is None:
            known = value if value in self._values else OTHER
            child = self._histogram.labels(known)
            if known == value:
                self._children[value] = child
        child.observe(max(0.0, seconds))


class Metrics:
    """What a node counts. `registry` holds all of it.

    A method that is called per message costs a dict look-up and an addition; a fan-out calls
    `delivered` once, however many receivers it has.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._codes = frozenset(error_codes())
        self._name_gauges()
        self._name_connection_counters()
        self._name_message_counters()
        self._name_publication_counters()

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"realtime_{name}", text, labels, registry=self.registry)

    def _counts(self, name: str, text: str, label: str, values: Iterable[str]) -> _Counts:
        return _Counts(self._counter(name, text, label), values)

    def _times(self, name: str, text: str, events: Iterable[str]) -> _Times:
        histogram = Histogram(f"realtime_{name}", text, ("event",), registry=self.registry, buckets=BUCKETS)
        return _Times(histogram, events)

    def _name_gauges(self) -> None:
        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"realtime_{name}", text, labels, registry=self.registry)

        self._connections = gauge("connections", "Open connections.", "transport")
        self._users = gauge("users", "Users with a connection on this node.")
        self._rooms = gauge("rooms", "Rooms with a connection on this node.")
        self._members = gauge("room_members", "Memberships of connections in rooms.")
        self._queue_bytes = gauge("queue_bytes", "Bytes written that transports have not taken yet.")
        self._log_entries = gauge("log_entries", "Publications kept for recovery.")

    def _name_connection_counters(self) -> None:
        ends = (*TRANSPORT_ENDS, *(close.reason for close in Close))
        self._connects = self._counts("connects", "Connections that opened.", "transport", TRANSPORTS)
        self._disconnects = self._counts("disconnects", "Connections that ended.", "reason", ends)
        self._handshakes = self._counts(
            "handshakes_refused", "Connections that were not let in.", "code", {*self._codes, *FAULTS}
        )
        self._recoveries = self._counts(
            "recoveries", "Attempts to take up a session.", "result", RECOVERIES
        )
        self._slow_consumers = self._counter(
            "slow_consumers", "Connections closed because they did not read."
        )
        self._sweeps = self._counter("presence_sweeps", "Runs of the presence sweep.")

    def _name_message_counters(self) -> None:
        self._received = self._counts("messages_received", "Events from clients.", "event", CLIENT_EVENTS)
        self._received_bytes = self._counter("received_bytes", "Bytes of messages from clients.")
        self._sent = self._counts(
            "messages_sent", "Events to clients, one per receiver.", "event", SERVER_EVENTS
        )
        self._sent_bytes = self._counter("sent_bytes", "Bytes of messages to clients.")
        self._refusals = self._counts("refusals", "Client events refused.", "code", self._codes)
        self._processing = self._times(
            "event_processing_seconds", "From a client's event to its acknowledgement.", CLIENT_EVENTS
        )
        self._delivery = self._times(
            "delivery_seconds", "From ingress to the last socket of a fan-out.", SERVER_EVENTS
        )

    def _name_publication_counters(self) -> None:
        self._publications = self._counter(
            "publications", "What services published, by what became of it.", "kind", "outcome"
        )
        self._outcomes = self._codes | {"accepted", "repeated"}
        self._repeated = self._counter(
            "publications_repeated", "Publications known by their idempotency key."
        )

    def watch(
        self,
        *,
        connections: Mapping[str, Callable[[], float]],
        users: Callable[[], float],
        rooms: Callable[[], float],
        members: Callable[[], float],
        queue_bytes: Callable[[], float],
        log_entries: Callable[[], float],
    ) -> None:
        """Take the present figures from these functions whenever metrics are read.

        :param connections: by transport, one of `TRANSPORTS`.
        """
        for transport in TRANSPORTS:
            self._connections.labels(transport).set_function(connections[transport])
        self._users.set_function(users)
        self._rooms.set_function(rooms)
        self._members.set_function(members)
        self._queue_bytes.set_function(queue_bytes)
        self._log_entries.set_function(log_entries)

    def connected(self, transport: str) -> None:
        """A connection opened."""
        self._connects.add(transport)

    def disconnected(self, reason: str) -> None:
        """A connection ended; `reason` is a stable word (`Close.reason`, or one of `TRANSPORT_ENDS`)."""
        self._disconnects.add(reason)

    def handshake_refused(self, code: str) -> None:
        """A connection was not let in; `code` is a refusal's, or one of `FAULTS`."""
        self._handshakes.add(code)

    def received(self, event: str, size: int) -> None:
        """A client sent an event; `size` is the bytes of its payload."""
        self._received.add(event)
        self._received_bytes.inc(size)

    def processed(self, event: str, seconds: float) -> None:
        """A client's event was handled."""
        self._processing.add(event, seconds)

    def refused(self, code: str) -> None:
        """A client's event was refused."""
        self._refusals.add(code)

    def sent(self, event: str, size: int) -> None:
        """An event went to one client alone."""
        self._sent.add(event)
        self._sent_bytes.inc(size)

    def delivered(self, event: str, receivers: int, seconds: float, size: int = 0) -> None:
        """A fan-out was written: once per fan-out.

        :param seconds: since the publication came in.
        :param size: the bytes written, to all receivers together.
        """
        self._sent.add(event, receivers)
        self._sent_bytes.inc(size)
        self._delivery.add(event, seconds)

    def published(self, kind: str, outcome: str) -> None:
        """A service published.

        :param kind: the first part of the channel.
        :param outcome: ``accepted``, ``repeated`` or the code of the refusal.
        """
        kind = kind if kind in CHANNEL_KINDS else OTHER
        outcome = outcome if outcome in self._outcomes else OTHER
        self._publications.labels(kind, outcome).inc()
        if outcome == "repeated":
            self.repeated()

    def repeated(self) -> None:
        """A publication was known by its idempotency key, and not delivered again."""
        self._repeated.inc()

    def recovered(self, result: str) -> None:
        """A client asked to take up a session; `result` is one of `RECOVERIES`."""
        self._recoveries.add(result)

    def slow_consumer(self) -> None:
        """A connection is closed because it does not read what it is sent."""
        self._slow_consumers.inc()

    def presence_swept(self) -> None:
        """The presence sweep ran."""
        self._sweeps.inc()
