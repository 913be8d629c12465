"""This node's metrics: every name in one place, and the one way to count each.

Label values come from closed sets; whatever is outside of its set counts as ``other``, so that no
client and no service can make new time series (RELIABILITY.md section 2, row 24).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Final, Protocol, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

from .collectors import OTHER, SIZES, Count, Counts, Figures, Pairs, Spread, Times
from .errors import Close, RealtimeError
from .events import CLIENT_EVENTS, SERVER_EVENTS, Loss

TRANSPORTS: Final = ("websocket", "polling")

#: What clients speak (`wire.session.ISession.protocol`).
PROTOCOLS: Final = ("socketio", "wamp", "plain")

#: No connection of any kind; long-polling is Socket.IO's alone.
NO_CONNECTIONS: Final[Mapping[tuple[str, ...], float]] = {
    ("socketio", "websocket"): 0,
    ("socketio", "polling"): 0,
    ("wamp", "websocket"): 0,
    ("plain", "websocket"): 0,
}

#: First parts of channels that services publish to.
CHANNEL_KINDS: Final = ("booking", "payment", "notification", "ticket", "user", "event", "room", "system")

#: Why a transport ended, where the service did not end it itself (those are in `errors.Close`).
TRANSPORT_ENDS: Final = ("transport_close", "transport_error", "client_disconnect", "parse_error")

#: Refusals of a request: Engine.IO's own (`wire.engineio.Fault`), and a subprotocol not spoken here.
FAULTS: Final = (
    *("unknown_transport", "unknown_sid", "bad_handshake_method"),
    *("bad_request", "forbidden", "unsupported_version", "unknown_subprotocol"),
)

#: The connections to Redis.
LINKS: Final = ("commands", "reads", "subscriber", "listener", "stream", "queue")

#: Kinds of Redis' error replies that have a name of their own.
REDIS_ERRORS: Final = (
    *("ASK", "BUSY", "CLUSTERDOWN", "ERR", "LOADING", "MASTERDOWN", "MISCONF", "MOVED", "NOAUTH", "NOPERM"),
    *("NOREPLICAS", "NOSCRIPT", "OOM", "READONLY", "TRYAGAIN", "UNBLOCKED", "WRONGPASS", "WRONGTYPE"),
    "timeout",
)

#: What a node is to the relay; why it lost messages; what became of the stream behind its reader's back.
RELAY_STATES: Final = ("away", "listener", "taking", "holder", "leaving")
RELAY_LOST: Final = ("overflow", "passed", "cut")
STREAM_RESETS: Final = ("restarted", "went_back", "trimmed")

#: What other services ask for over an API: `ingress.verbs`.
API_VERBS: Final = (
    *("publish", "broadcast", "batch", "rooms", "members", "presence", "history", "count", "info"),
    *("history_remove", "kick", "move", "disconnect"),
    *("nodes", "users", "connections", "connection", "events", "traces", "trace", "untrace", "receipt"),
    *("revoke_token", "restore_token", "revoke_user", "restore_user", "block", "unblock", "mute", "unmute"),
    *("queue_members", "queue_positions", "queue_proceed", "queue_remove"),
)
#: And over gRPC only: to hear of what happens.
GRPC_VERBS: Final = (*API_VERBS, "watch", "queue")
API_STATUSES: Final = ("200", "400", "401", "403", "404", "405", "409", "413", "429", "500", "503")

#: What workers of booking queues hear; what became of the proceeds that they sent, and how those ended.
QUEUE_CHANGES: Final = ("joined", "left", "receipt")
QUEUE_PROCEEDS: Final = ("sent", "repeated", "not_waiting")
QUEUE_ENDS: Final = ("acknowledged", "expired", "declined", "removed")
#: Seconds of waiting.
QUEUE_WAITS: Final = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 21600.0)

#: How the renewal of a token ended.
REFRESHES: Final = ("renewed", "refused")

#: How an attempt to take up a session ended.
RECOVERIES: Final = ("recovered", "unknown", "other_user", "room_refused", "gap")

#: Whose rate limit was reached: those of messages (`limits.Scope`), of connecting, of a user's connections.
SCOPES: Final = ("connection", "user", "address", "event", "handshake", "connections")

#: What becomes of publications with a receipt, by connections: the ranks of `broker.receipts`, who did not
#: acknowledge in time, who is awaited no more since too many were; and, by receipts, those that had to go.
RECEIPTED: Final = ("targeted", "written", "acknowledged", "expired", "dropped", "forgotten")

#: What became of what clients said.
MODERATED: Final = ("muted", "flagged", "masked", "refused", "spam")


def error_codes() -> Iterator[str]:
    """The code of every refusal that the service knows."""
    pending: list[type[RealtimeError]] = [RealtimeError]
    while pending:
        error = pending.pop()
        yield error.code
        pending += error.__subclasses__()


_Collector = TypeVar("_Collector", Counts, Count, Times, Pairs, Spread, Figures)


class RelayFigures(Protocol):
    """What is read of `broker.relay.Relay`."""

    @property
    def state(self) -> enum.Enum: ...

    @property
    def held(self) -> int: ...

    @property
    def held_bytes(self) -> int: ...

    takeovers: int
    repeats: int

    def lost(self, reason: str) -> int: ...

    @property
    def stream_lag(self) -> float: ...

    def stream_resets(self, what: str) -> int: ...


class RedisMetrics:
    """What the connections to Redis count; all zero on the embedded broker."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counts(name: str, text: str, label: str, values: Iterable[str]) -> Counts:
            counter = Counts(f"realtime_redis_{name}", text, label, values)
            registry.register(counter)
            return counter

        self._commands = counts("commands", "Commands sent to Redis.", "link", LINKS)
        self._errors = counts(
            "errors", "Commands that Redis refused or left unanswered.", "kind", REDIS_ERRORS
        )
        self._connects = counts("connects", "Connections to Redis that came up.", "link", LINKS)
        self._disconnects = counts("disconnects", "Connections to Redis that were lost.", "link", LINKS)
        self._bus_lag = Spread(
            "realtime_bus_lag_seconds", "From a probe's publication until it was heard on this node."
        )
        registry.register(self._bus_lag)
        self._gauges = {
            name: Gauge(f"realtime_{name}", text, registry=registry)
            for name, text in (
                ("redis_up", "Whether the bus would take a publication now."),
                ("redis_round_trip_seconds", "How long the last probe took to come back."),
                ("redis_probe_age_seconds", "For how long a probe has been on its way."),
                ("bus_channels", "Channels that this node is subscribed to."),
                ("bus_kept", "Messages kept back until what was missed has been read."),
                ("bus_repairs", "How often what was missed was read from the logs."),
                ("bus_repaired", "Publications that were missed and read from the logs."),
                ("bus_resets", "How often clients had to be told of a gap."),
            )
        }
        self._name_relay(registry)

    def _name_relay(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"realtime_{name}", text, labels, registry=registry)

        self._relay_state = gauge(
            "relay_state", "What this node is to the relay of plain PUBLISH.", "state"
        )
        self._relay_held = gauge("relay_held", "Plain messages heard and not confirmed yet.")
        self._relay_held_bytes = gauge("relay_held_bytes", "Bytes of plain messages that are held.")
        self._relay_lost = gauge("relay_lost", "Plain messages that were lost.", "reason")
        self._relay_takeovers = gauge("relay_takeovers", "How often this node has taken the lease.")
        self._relay_repeats = gauge("relay_repeats", "Plain messages that it held when it did.")
        self._stream_lag = gauge("stream_lag_seconds", "By how much the stream's reader is behind.")
        self._stream_resets = gauge("stream_resets", "How often the stream was not as it was read.", "what")

    def watch_relay(self, relay: RelayFigures) -> None:
        """Take the figures of the relay from it."""
        for state in RELAY_STATES:
            self._relay_state.labels(state).set_function(partial(_is_in, relay, state))
        for reason in RELAY_LOST:
            self._relay_lost.labels(reason).set_function(partial(relay.lost, reason))
        for what in STREAM_RESETS:
            self._stream_resets.labels(what).set_function(partial(relay.stream_resets, what))
        self._relay_held.set_function(lambda: relay.held)
        self._relay_held_bytes.set_function(lambda: relay.held_bytes)
        self._relay_takeovers.set_function(lambda: relay.takeovers)
        self._relay_repeats.set_function(lambda: relay.repeats)
        self._stream_lag.set_function(lambda: relay.stream_lag)

    def watch(self, **figures: Callable[[], float]) -> None:
        """Take figures from functions, by the names of gauges without ``realtime_``."""
        for name, figure in figures.items():
            self._gauges[name].set_function(figure)

    def heard(self, seconds: float) -> None:
        """A probe that this node published came back to it after so long."""
        self._bus_lag.add(seconds)

    def commands(self, link: str, count: int) -> None:
        """So many more commands were sent over a connection."""
        self._commands.add(link, count)

    def error(self, link: str, kind: str) -> None:
        """A command was answered with an error, or not in time."""
        self._errors.add(kind)

    def connected(self, link: str) -> None:
        """A connection came up."""
        self._connects.add(link)

    def disconnected(self, link: str) -> None:
        """A connection was lost."""
        self._disconnects.add(link)


def _is_in(relay: RelayFigures, state: str) -> float:
    return float(relay.state.value == state)


class Metrics:
    """What a node counts. `registry` holds all of it.

    A method that is called per message costs a dict look-up and an addition; a fan-out calls
    `delivered` once, however many receivers it has.

    :ivar sending: the loss class of the fan-out that is being written now; nothing between fan-outs.
    """

    def __init__(self) -> None:
        self.sending = ""
        self.registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._codes = frozenset(error_codes())
        self._name_gauges()
        self._name_connection_counters()
        self._name_message_counters()
        self._name_publication_counters()
        self._name_queue_figures()
        self.redis = RedisMetrics(self.registry)

    def _counter(self, name: str, text: str) -> Count:
        return self._registered(Count(f"realtime_{name}", text))

    def _counts(self, name: str, text: str, label: str, values: Iterable[str]) -> Counts:
        return self._registered(Counts(f"realtime_{name}", text, label, values))

    def _times(self, name: str, text: str, events: Iterable[str]) -> Times:
        return self._registered(Times(f"realtime_{name}", text, "event", events))

    def _registered(self, collector: _Collector) -> _Collector:
        self.registry.register(collector)
        return collector

    def _name_gauges(self) -> None:
        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"realtime_{name}", text, labels, registry=self.registry)

        self._connections = self._registered(
            Figures("realtime_connections", "Open connections.", ("protocol", "transport"))
        )
        self._users = gauge("users", "Users with a connection on this node.")
        self._rooms = gauge("rooms", "Rooms with a connection on this node.")
        self._members = gauge("room_members", "Memberships of connections in rooms.")
        self._queue_bytes = gauge("queue_bytes", "Bytes written that transports have not taken yet.")
        self._log_entries = gauge("log_entries", "Publications kept for recovery.")
        self._log_bytes = gauge("log_bytes", "Bytes of payloads kept for recovery and history.")
        self._channels = gauge("channels", "Channels whose log is kept.")
        self._sessions = gauge("sessions", "Sessions that live or can be taken up.")
        self._receipts_awaited = gauge(
            "receipts_awaited", "Receivers of publications whose receipts are still awaited."
        )
        self._api_waiting = gauge("api_waiting", "Requests of other services that wait for their turn.")
        self._strangers = gauge("strangers", "Sockets of clients that have not carried a session yet.")
        self._waiting = gauge("strangers_waiting", "Strangers who wait until there is time for them.")
        self._bans = gauge("bans", "Revocations, blocks and mutes that stand.")
        self._pending_logins = gauge("pending_logins", "Connections that have not logged in yet.")
        self._limited_users = gauge("limited_users", "Users of whom a rate limit is remembered.")
        self._ready = gauge("ready", "Whether the node wants new connections.")
        self._connections_limit = gauge("connections_limit", "The most connections of this node.")
        self._memory_limit = gauge(
            "memory_limit_bytes", "Memory past which the node takes no new connections; 0 for no limit."
        )
        self._info = self._registered(
            Figures("realtime_info", "1; which version this is, and which node.", ("version", "node"))
        )
        self._keys_age = gauge(
            "jwks_age_seconds", "Since the keys of JWT_JWKS_URL were fetched; -1 for never, or without one."
        )

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
        self._slow_consumers = self._counts(
            "slow_consumers",
            "Connections closed because they did not read, by the loss class of what did not fit.",
            "loss",
            [loss.value for loss in Loss],
        )
        self._compressed = self._counter(
            "websockets_compressed", "WebSockets that opened and compress their messages."
        )
        self._unread = self._counter(
            "reads_paused", "Times that a client was not read on because its answers waited."
        )
        self._refreshes = self._counts("token_refreshes", "Renewals of tokens.", "result", REFRESHES)
        self._sweeps = self._counter("presence_sweeps", "Runs of the presence sweep.")
        self._front_restarts = self._counter(
            "grpc_front_restarts", "Times that the process of the gRPC API had to be started again."
        )

    def _name_message_counters(self) -> None:
        def pairs(name: str, text: str, events: Iterable[str]) -> Pairs:
            labels = ("event", "protocol")
            return self._registered(Pairs(f"realtime_{name}", text, labels, events, PROTOCOLS))

        self._received = pairs("messages_received", "Events from clients.", CLIENT_EVENTS)
        self._received_bytes = pairs("received_bytes", "Bytes of payloads from clients.", CLIENT_EVENTS)
        self._sent = pairs("messages_sent", "Events to clients, one per receiver.", SERVER_EVENTS)
        self._sent_bytes = pairs("sent_bytes", "Bytes of payloads to clients.", SERVER_EVENTS)
        self._dropped = self._counts(
            "messages_dropped", "Events that a slow receiver did without.", "event", SERVER_EVENTS
        )
        self._conflated = self._counts(
            "messages_conflated", "Events that gave way to newer ones.", "event", SERVER_EVENTS
        )
        self._receivers = self._registered(
            Spread("realtime_fanout_receivers", "Receivers of a fan-out on this node.", SIZES)
        )
        self._refusals = self._counts("refusals", "Client events refused.", "code", self._codes)
        self._rate_limited = self._counts(
            "rate_limited", "Messages and connections over a rate limit, refused or not.", "scope", SCOPES
        )
        self._moderated = self._counts(
            "moderated", "Messages that moderation did something about.", "what", MODERATED
        )
        self._processing = self._times(
            "event_processing_seconds", "From a client's event to its acknowledgement.", CLIENT_EVENTS
        )
        self._delivery = self._times(
            "delivery_seconds", "From ingress to the last socket of a fan-out.", SERVER_EVENTS
        )

    def _name_publication_counters(self) -> None:
        self._publications = Counter(
            "realtime_publications",
            "What services published, by what became of it.",
            ("kind", "outcome"),
            registry=self.registry,
        )
        self._outcomes = self._codes | {"accepted", "repeated"}
        self._api = self._registered(
            Pairs(
                "realtime_api_requests",
                "Requests of other services, by what they asked for.",
                ("verb", "status"),
                API_VERBS,
                API_STATUSES,
            )
        )
        self._grpc = self._registered(
            Pairs(
                "realtime_grpc_requests",
                "Requests of other services over gRPC.",
                ("verb", "status"),
                GRPC_VERBS,
                API_STATUSES,
            )
        )
        self._turns = self._registered(
            Spread("realtime_turn_sockets", "Sockets that one turn of the reactor has written to.", SIZES)
        )
        self._lag = self._registered(
            Spread("realtime_reactor_lag_seconds", "By how much the reactor was late, four times a second.")
        )
        self._repeated = self._counter(
            "publications_repeated", "Publications known by their idempotency key."
        )
        self._receipted = self._counts(
            "receipts",
            "Receivers of publications with a receipt, by what became of them.",
            "what",
            RECEIPTED,
        )

    def _name_queue_figures(self) -> None:
        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"realtime_booking_queue_{name}", text, registry=self.registry)

        self._queue_places = gauge("places", "Places in queues of users who are connected to this node.")
        self._queue_workers = gauge("workers", "Workers of queues that are connected to this node.")
        self._queue_unacknowledged = gauge(
            "unacknowledged", "Changes that this node's workers were told and have not acknowledged."
        )
        self._queue_changes = self._counts(
            "booking_queue_changes", "Changes that workers were told.", "kind", QUEUE_CHANGES
        )
        self._queue_proceeds = self._counts(
            "booking_queue_proceeds",
            "Proceeds that services sent, by the answer.",
            "outcome",
            QUEUE_PROCEEDS,
        )
        self._queue_ends = self._counts(
            "booking_queue_receipts", "Receipts of proceeds that workers were told.", "state", QUEUE_ENDS
        )
        self._queue_positions = self._counter("booking_queue_positions", "Positions that services sent.")
        self._queue_waits = self._registered(
            Spread("realtime_booking_queue_wait_seconds", "From joining to the proceed.", QUEUE_WAITS)
        )

    def watch_queues(
        self,
        *,
        places: Callable[[], float],
        workers: Callable[[], float],
        unacknowledged: Callable[[], float],
    ) -> None:
        """Take the present figures of booking queues from these functions."""
        self._queue_places.set_function(places)
        self._queue_workers.set_function(workers)
        self._queue_unacknowledged.set_function(unacknowledged)

    def queue_told(self, kind: str, state: str) -> None:
        """A worker was told a change; `state` is of a receipt."""
        self._queue_changes.add(kind)
        if state:
            self._queue_ends.add(state)

    def queue_positions(self, count: int) -> None:
        """So many positions were sent."""
        self._queue_positions.add(count)

    def queue_proceeded(self, outcome: str, waited: float) -> None:
        """A service let somebody proceed who had waited so many seconds."""
        self._queue_proceeds.add(outcome)
        if outcome == "sent":
            self._queue_waits.add(waited)

    def watch(
        self,
        *,
        connections: Callable[[], Mapping[tuple[str, ...], float]],
        users: Callable[[], float],
        rooms: Callable[[], float],
        members: Callable[[], float],
        queue_bytes: Callable[[], float],
        strangers: Callable[[], float],
        waiting: Callable[[], float],
        receipts: Callable[[], float],
        api_waiting: Callable[[], float],
    ) -> None:
        """Take the present figures from these functions whenever metrics are read.

        :param connections: by protocol and transport, of `PROTOCOLS` and `TRANSPORTS`.
        """
        self._connections.read = connections
        self._users.set_function(users)
        self._rooms.set_function(rooms)
        self._members.set_function(members)
        self._queue_bytes.set_function(queue_bytes)
        self._strangers.set_function(strangers)
        self._waiting.set_function(waiting)
        self._receipts_awaited.set_function(receipts)
        self._api_waiting.set_function(api_waiting)

    def watch_health(
        self,
        *,
        version: str,
        node: str,
        ready: Callable[[], bool],
        connections_limit: int,
        memory_limit: int,
    ) -> None:
        """Tell who this is, whether it is ready, and what its limits are."""
        info: dict[tuple[str, ...], float] = {(version, node): 1.0}
        self._info.read = lambda: info
        self._ready.set_function(lambda: float(ready()))
        self._connections_limit.set(connections_limit)
        self._memory_limit.set(memory_limit)

    def watch_trust(
        self,
        *,
        bans: Callable[[], float],
        pending_logins: Callable[[], float],
        limited_users: Callable[[], float],
        keys_age: Callable[[], float],
    ) -> None:
        """Take what is known of whom not to trust, and how much, from these functions."""
        self._bans.set_function(bans)
        self._pending_logins.set_function(pending_logins)
        self._limited_users.set_function(limited_users)
        self._keys_age.set_function(keys_age)

    def watch_logs(
        self,
        *,
        entries: Callable[[], float],
        size: Callable[[], float],
        channels: Callable[[], float],
        sessions: Callable[[], float],
    ) -> None:
        """Take the figures of the embedded broker from these functions."""
        self._log_entries.set_function(entries)
        self._log_bytes.set_function(size)
        self._channels.set_function(channels)
        self._sessions.set_function(sessions)

    def connected(self, transport: str) -> None:
        """A connection opened."""
        self._connects.add(transport)

    def disconnected(self, reason: str) -> None:
        """A connection ended; `reason` is a stable word (`Close.reason`, or one of `TRANSPORT_ENDS`)."""
        self._disconnects.add(reason)

    def handshake_refused(self, code: str) -> None:
        """A connection was not let in; `code` is a refusal's, or one of `FAULTS`."""
        self._handshakes.add(code)

    def received(self, event: str, protocol: str, size: int) -> None:
        """A client sent an event; `size` is the bytes of its payload."""
        self._received.add(event, protocol)
        self._received_bytes.add(event, protocol, size)

    def processed(self, event: str, seconds: float) -> None:
        """A client's event was handled."""
        self._processing.add(event, seconds)

    def refused(self, code: str) -> None:
        """A client's event was refused."""
        self._refusals.add(code)

    def rate_limited(self, scope: str) -> None:
        """Something was over a rate limit; `scope` is one of `SCOPES`."""
        self._rate_limited.add(scope)

    def moderated(self, what: str) -> None:
        """Moderation did something about a message; `what` is one of `MODERATED`."""
        self._moderated.add(what)

    def sent(self, event: str, protocol: str, size: int) -> None:
        """An event went to one client alone."""
        self._sent.add(event, protocol)
        self._sent_bytes.add(event, protocol, size)

    def delivered(
        self, event: str, receivers: Iterable[tuple[str, int]], seconds: float, size: int = 0
    ) -> None:
        """A fan-out was written: once per fan-out.

        :param receivers: how many speak each protocol.
        :param seconds: since the publication came in.
        :param size: the bytes of the payload.
        """
        total = 0
        for protocol, count in receivers:
            total += count
            self._sent.add(event, protocol, count)
            self._sent_bytes.add(event, protocol, count * size)
        self._receivers.add(total)
        self._delivery.add(event, seconds)

    def dropped(self, event: str, receivers: int) -> None:
        """So many receivers of a fan-out had too much waiting, and did without."""
        self._dropped.add(event, receivers)

    def lagged(self, seconds: float) -> None:
        """The reactor was late by so much."""
        self._lag.add(seconds)

    def asked(self, verb: str, status: int) -> None:
        """Another service asked for something (`API_VERBS`), and was answered."""
        self._api.add(verb, str(status))

    def asked_grpc(self, verb: str, status: int) -> None:
        """The same over gRPC (`GRPC_VERBS`); the status is that of HTTP."""
        self._grpc.add(verb, str(status))

    def flushed(self, sockets: int) -> None:
        """A turn of the reactor has written to so many sockets."""
        self._turns.add(sockets)

    def refreshed(self, result: str) -> None:
        """A client wanted its token renewed; `result` is one of `REFRESHES`."""
        self._refreshes.add(result)

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
        self._repeated.add()

    def receipted(self, what: str, count: int = 1) -> None:
        """So many receivers of a publication with a receipt came so far; `what` is one of `RECEIPTED`."""
        self._receipted.add(what, count)

    def recovered(self, result: str) -> None:
        """A client asked to take up a session; `result` is one of `RECOVERIES`."""
        self._recoveries.add(result)

    def slow_consumer(self) -> None:
        """A connection is closed because it does not read what it is sent."""
        self._slow_consumers.add(self.sending)

    def conflated(self, event: str) -> None:
        """An event that waited for a slow receiver has given way to a newer one."""
        self._conflated.add(event)

    def compressed(self) -> None:
        """A WebSocket has opened whose messages are compressed."""
        self._compressed.add()

    def unread(self) -> None:
        """A client is not read on, since it does not take its answers."""
        self._unread.add()

    def front_restarted(self) -> None:
        """The process of the gRPC API has ended by itself."""
        self._front_restarts.add()

    def presence_swept(self) -> None:
        """The presence sweep ran."""
        self._sweeps.add()
