"""Node: builds the whole service from settings, a clock and a broker; starts it, and drains it on stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Final

import msgspec
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.web.resource import IResource

from . import __version__, bus, bus_health
from .addresses import Proxies
from .booking_workers import BookingWorkers
from .broker.interface import IBroker, IStateStore
from .broker.memory import MemoryBroker
from .broker.redis import RedisBroker
from .broker.redis_deployment import RedisDeployment
from .broker.relay import Relay
from .census import Census
from .connections import Connections, IReceiver
from .drain import Drain
from .errors import Close, TooManyConnections
from .fanout import Fanout
from .figures import figures
from .front.pipe import Options
from .guard import Guard
from .handlers import Handlers
from .health import Health, Part, Phase
from .ids import secret_id, unique_id
from .ingress.admin import health_resource, metrics_resource
from .ingress.grpc_road import GrpcRoad
from .ingress.http import Api
from .ingress.look import Look
from .ingress.openapi import document
from .ingress.publish import Ingest
from .ingress.queue_verbs import QueueVerbs
from .ingress.redis_events import RedisEvents
from .ingress.service_events import ServiceEvents
from .ingress.tracing import Tracing
from .ingress.tryout import NAME as TRY_OUT
from .ingress.tryout import TryOut
from .ingress.verbs import Verbs
from .inquiries import Inquiries
from .journal import Journal
from .memory import group_limit
from .messages import Audience, Publication
from .metrics import NO_CONNECTIONS, Metrics
from .moving import Moving
from .native import loop as send_loop
from .notices import Notices
from .pace import Pace
from .peers import Peers
from .presence import Announcer, PresenceService
from .pulse import Pulse
from .queue_stream import STREAM, QueueStream
from .queueing import MARGIN, Queueing
from .queues.interface import IQueues, QueueLimits
from .queues.memory import MemoryQueues
from .queues.redis import RedisQueues
from .receipt_watches import ReceiptWatches
from .receipts import Receipts
from .reception import Reception
from .rooms import Rooms
from .router import Router
from .session_rules import SessionRules
from .sessions import Sessions
from .settings import ConfigError, Settings
from .systemd import adopt
from .traces import Traces
from .transport.accepting import by_turns
from .transport.assets import Assets
from .transport.direct import DirectServer
from .transport.door import DoorFactory, bound_unsent
from .transport.engine import EngineServer, EngineSocket
from .transport.flusher import Flusher
from .transport.neighbours import Neighbours
from .transport.origins import Origins
from .transport.polling import PollingResource
from .transport.site import Site
from .transport.tls import Certificates
from .transport.websocket import WebSockets
from .watches import Watches
from .watching import Watching
from .wire import plain
from .wire.socketio import SocketIOSession
from .wire.wamp import WampSession
from .wire.wamp_codecs import CODECS, Codec
from .wire.wamp_realm import Realm
from .workplace import Place

_log = Logger()

#: Connections waiting to be accepted by the kernel. Twisted's 50 makes a reconnect storm fail.
BACKLOG: Final = 4096

#: Sockets that have not carried a session yet; past it, and past half of it from one address, the
#: oldest of them makes room.
STRANGERS: Final = 4096

#: How much of what its control group may use the process has for itself, where nothing else is set.
MEMORY_SHARE: Final = 0.9

#: Seconds for a worker to reach Redis before it takes connections all the same, and between two looks.
WELL_WITHIN: Final = 5.0
LOOK_AGAIN: Final = 0.05

#: The name of the console, and of its mount.
CONSOLE: Final = "console"

_NO_UPGRADES: Final[Mapping[str, Any]] = MappingProxyType({})


class Node(MultiService):
    """One node of the service.

    :param clock: the reactor, or a stand-in: IReactorTime and IReactorTCP.
    :param wall: seconds since the epoch.
    :param on_ready: called once all ports are bound, with the port of each setting.
    :param descriptors: sockets that listen already, by the setting of the port that each is for.
    :param place: its place among the workers of a node; None if it is alone.
    :raises ConfigError: the configuration file is wrong.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Any,
        wall: Callable[[], float],
        on_ready: Callable[[Mapping[str, int]], object] = lambda ports: None,
        descriptors: Mapping[str, int] = MappingProxyType({}),
        place: Place | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.id = secret_id()
        self._clock = clock
        self._wall = wall
        self._on_ready = on_ready
        self._descriptors = descriptors if place is None else place.descriptors
        self._place = place
        self._unix: list[IListeningPort] = []
        self._retiring = False
        self._ports: dict[str, Any] = {}
        self._started = False
        self._draining = False
        self._redis: RedisDeployment | None = None
        self.certificates = (
            Certificates(clock, settings.tls_certificate, settings.tls_key)
            if settings.tls_certificate
            else None
        )
        self.metrics = Metrics()
        self.journal = Journal(
            clock.seconds,
            every=settings.log_messages,
            payloads=settings.log_payloads,
            slow=settings.log_slow,
        )
        self.guard = Guard(settings, clock=clock, wall=wall, metrics=self.metrics)
        self.notices = Notices(self.metrics, wall)
        self.watching = Watching()
        self.broker, self.store = self._bus()
        self.guard.share(self.broker)
        self.rooms = Rooms(emptied=self.broker.release)
        self.connections = Connections()
        self.reception = Reception(clock)
        self.traces = Traces(clock, self.connections, self.guard.bans.traces, self.journal, wall)
        self.receipt_store = bus.receipts(
            self.broker, settings, wall, partial(self.metrics.receipted, "forgotten")
        )
        self.receipts = Receipts(
            clock,
            self.receipt_store,
            self.metrics,
            timeout=settings.receipt_timeout,
            named=settings.receipt_max_connections,
        )
        self.receipt_watches = ReceiptWatches(clock, wall, self.receipt_store)
        name, send = send_loop.choose(settings.native_send)
        _log.info("send loop", loop=name)
        self.flusher = Flusher(clock, settings.ws_batch_interval, send=send, flushed=self.metrics.flushed)
        self.fanout = Fanout(
            self.rooms,
            self.guard.policy.rights,
            self.metrics,
            self.journal,
            wall,
            flusher=self.flusher,
            find=self.connections.get,
            receipted=self.receipts.delivered,
        )
        self.sessions = self._sessions()
        self.queues = self._queues()
        self.workers = BookingWorkers(
            clock, self.queues, self.watching, self.metrics, streamed=settings.queue_stream
        )
        self.queueing = Queueing(
            clock,
            queues=self.queues,
            broker=self.broker,
            connections=self.connections,
            rights=self.guard.policy.rights,
            ttl=settings.queue_ttl,
        )
        self.sessions.arrived = self.queueing.arrived
        self.census = Census(
            report=self._report,
            figures=partial(figures, self.metrics.registry),
            connections=self.connections,
            watches=Watches(clock, self.connections, wall),
            seconds=clock.seconds,
        )
        self.inquiries = Inquiries(
            clock, self.id, self.broker, self.census.answers(), alone=not settings.redis_url
        )
        self.moving = Moving(
            broker=self.broker,
            store=self.store,
            connections=self.connections,
            rooms=self.rooms,
            rights=self.guard.policy.rights,
            notices=self.notices,
            members=settings.max_room_members,
            max_rooms=settings.max_rooms_per_connection,
        )
        self.peers = Peers(
            broker=self.broker,
            store=self.store,
            connections=self.connections,
            rooms=self.rooms,
            memberships=self.sessions.memberships,
            endings=self.sessions.endings,
            user_endings=self.sessions.user_endings,
            notices=self.notices,
            moving=self.moving,
            banned=self.guard.banned,
            receipts=self.receipt_watches.changed,
            queued=self.workers.heard,
            inquiries=self.inquiries,
        )
        self.guard.watch(
            self.connections, self.sessions.memberships, self.sessions.endings, self.traces.renew
        )
        self.presence = PresenceService(
            clock,
            self.connections,
            self.store,
            timeout=settings.presence_timeout,
            interval=settings.presence_interval,
            cleanup=settings.presence_cleanup_interval,
            sweep=self._sweep,
        )
        self.router = self._router()
        self.ingest = Ingest(self.broker, self.store, self.guard.policy.routing, self.metrics, wall)
        self.verbs = self._verbs()
        self.pace = Pace(clock)
        self.router.services = ServiceEvents(self.verbs, self.workers, self.notices).perform
        self.relay = self._relay()
        self.queue_stream = self._queue_stream()
        self.engine = self._engine()
        self.direct = self._direct()
        self.door = self._door(
            self.pages(),
            {settings.ws_path: self.engine, settings.ws_direct_path: self.direct},
        )
        if place is not None:
            neighbours = Neighbours(clock, place.directory, place.prefix)
            self.engine.neighbours = self.door.neighbours = neighbours
        self.pulse = Pulse(
            clock,
            limit=settings.max_memory_bytes or int(group_limit() * MEMORY_SHARE),
            beaten=self._beaten,
        )
        self.health = self._health()
        self.drain = Drain(
            clock,
            settle=settings.drain_settle,
            rate=settings.drain_rate,
            timeout=settings.drain_timeout,
            sockets=lambda: [*self.engine.sessions.values(), *self.direct.sessions.values()],
            settled=self._settled,
        )
        self.grpc = self._grpc() if settings.grpc_enabled else None
        self._watch()

    # -- building

    def _bus(self) -> tuple[IBroker, IStateStore]:
        """The broker and the state store: those of this process, or those that all nodes share."""
        settings = self.settings
        if settings.redis_url:
            self._redis = bus.deployment(settings, self._clock, self.metrics.redis, self.journal)
            shared, store = bus.shared(self._redis, settings, self._clock, self._wall, self.id)
            self.metrics.redis.watch(**shared.figures())
            shared.on_heard = self.metrics.redis.heard
            return shared, store
        broker, embedded = bus.embedded(
            settings, self._clock, self._wall, Announcer(self._wall, self.watching.presence)
        )
        self.metrics.watch_logs(
            entries=lambda: broker.entries,
            size=lambda: broker.stored,
            channels=lambda: broker.channels,
            sessions=lambda: embedded.sessions,
        )
        return broker, embedded

    def _queues(self) -> IQueues:
        """The booking queues: those of this process, or those that all nodes share."""
        settings = self.settings
        limits = QueueLimits(
            settings.queue_ttl * MARGIN,
            settings.queue_max_waiting,
            settings.queue_max_per_user,
            settings.queue_max_events,
        )
        if isinstance(self.broker, RedisBroker):
            return RedisQueues(self.broker, limits, self._wall)
        assert isinstance(self.broker, MemoryBroker)
        return MemoryQueues(self.broker, limits, self._wall, self._queued)

    def _queued(self, change: bytes) -> None:
        # The workers are built on the queues.
        self.workers.heard(change)

    def _queue_stream(self) -> QueueStream | None:
        """What hands changes of queues to the Redis Stream, where that is asked for."""
        if self._redis is None or not self.settings.queue_stream:
            return None
        settings = self.settings
        return QueueStream(
            self._clock,
            self.workers,
            self._redis.link("queue", STREAM),
            name=f"stream-{self.id}",
            database=settings.redis_database,
            length=settings.queue_stream_length,
        )

    def _relay(self) -> Relay | None:
        """What takes in what services publish on Redis, where there is one."""
        if self._redis is None or not isinstance(self.broker, RedisBroker):
            return None
        events = RedisEvents(self.ingest, self._clock.seconds, self.watching.presence)
        relay = bus.relay(self._redis, self.settings, self._clock, self.broker, events)
        self.metrics.redis.watch_relay(relay)
        return relay

    def _sessions(self) -> Sessions:
        settings = self.settings
        rules = SessionRules(
            connections=settings.rate_limit_max_connections,
            members=settings.max_room_members,
            rooms=settings.max_rooms_per_connection,
            recovery_bytes=settings.recovery_max_bytes,
            recovery_window=settings.recovery_window,
            login=settings.ws_connection_timeout,
            nobodies=settings.max_pending_logins,
            evict_oldest=settings.rate_limit_connection_policy == "evict-oldest",
            dry_run=settings.rate_limit_dry_run,
            grace=settings.presence_grace,
            dead=settings.ws_ping_interval + settings.ws_ping_timeout,
            warning=settings.token_refresh_threshold,
            expiry_grace=settings.token_expiry_grace,
        )
        return Sessions(
            self._clock,
            self._wall,
            rules,
            authenticator=self.guard.authenticator,
            broker=self.broker,
            store=self.store,
            connections=self.connections,
            rooms=self.rooms,
            rights=self.guard.policy.rights,
            notices=self.notices,
            metrics=self.metrics,
            security=self.guard.security,
            reception=self.reception,
            traced=self.traces.attach,
            receipts=self.receipts,
        )

    def _router(self) -> Router:
        settings = self.settings
        handlers = Handlers(
            self._clock,
            self._wall,
            authenticator=self.guard.authenticator,
            broker=self.broker,
            store=self.store,
            rights=self.guard.policy.rights,
            moderation=self.guard.policy.moderation,
            rooms=self.rooms,
            sessions=self.sessions,
            memberships=self.sessions.memberships,
            endings=self.sessions.endings,
            user_endings=self.sessions.user_endings,
            queueing=self.queueing,
            notices=self.notices,
            room_members=settings.max_room_members,
            max_rooms=settings.max_rooms_per_connection,
            max_history=settings.room_message_history,
            # An answer must fit what may wait for a client, with its members and what else there is.
            max_history_bytes=settings.ws_max_queue_bytes // 4,
            typing_timeout=settings.room_typing_timeout,
        )
        return Router(
            self._clock,
            handlers=handlers,
            escalation=self.guard.escalation,
            sessions=self.sessions,
            endings=self.sessions.endings,
            presence=self.presence,
            limit=self.guard.policy.limit,
            notices=self.notices,
            metrics=self.metrics,
            journal=self.journal,
            receipts=self.receipts,
            max_parked=settings.ws_max_pending_events,
            message_timeout=settings.ws_message_timeout,
        )

    def _verbs(self) -> Verbs:
        settings = self.settings
        return Verbs(
            ingest=self.ingest,
            broker=self.broker,
            store=self.store,
            trust=self.guard.trust,
            security=self.guard.security,
            connections=self.connections,
            endings=self.sessions.user_endings,
            moving=self.moving,
            queues=QueueVerbs(self.queues, self.metrics, self._wall),
            wall=self._wall,
            max_history=settings.room_message_history,
            max_history_bytes=settings.ws_max_queue_bytes // 4,
            node=(self.id, __version__),
            receipts=self.receipt_store,
        )

    def _grpc(self) -> GrpcRoad:
        settings = self.settings

        def listening(port: int) -> None:
            address = settings.grpc_bind_address
            _log.info("listening", setting="GRPC_PORT", address=address, port=port)

        return GrpcRoad(
            self._clock,
            Options(
                settings.grpc_bind_address,
                settings.grpc_port,
                settings.grpc_tls_certificate,
                settings.grpc_tls_key,
                settings.grpc_tls_client_ca,
            ),
            keys=self.guard.policy.api_keys,
            security=self.guard.security,
            verbs=self.verbs,
            watching=self.watching,
            receipts=self.receipt_watches,
            workers=self.workers,
            metrics=self.metrics,
            pace=self.pace,
            ready=lambda: not self.health.causes(),
            listening=listening,
        )

    def _engine(self) -> EngineServer:
        settings = self.settings
        return EngineServer(
            clock=self._clock,
            ping_interval=settings.ws_ping_interval,
            ping_timeout=settings.ws_ping_timeout,
            max_payload=settings.ws_max_message_bytes,
            max_queue_bytes=settings.ws_max_queue_bytes,
            origins=Origins(settings.origins, settings.ws_require_origin),
            accept=self._accept,
            admit=self._admit,
            origin_refused=self.guard.origin_refused,
            query_token=settings.ws_query_token,
            compress_from=settings.ws_compression_threshold,
            flusher=self.flusher,
            counters=self.metrics,
        )

    def operator_pages(self) -> dict[str, IResource]:
        """The console, where it is on; what it shows it asks for by the API, with a key."""
        return {f"/{CONSOLE}": Assets(CONSOLE)} if self.settings.console else {}

    def pages(self) -> dict[str, IResource]:
        """What the clients' port serves by HTTP."""
        pages: dict[str, IResource] = {}
        if not self.settings.production:
            pages[f"/{TRY_OUT}"] = TryOut(self.settings, self.ingest, self._wall)
        return pages | {self.settings.ws_path: PollingResource(self.engine)}

    def _direct(self) -> DirectServer:
        settings = self.settings
        realm = Realm(settings.wamp_realm, settings.ws_max_queue_bytes)
        return DirectServer(
            clock=self._clock,
            ping_interval=settings.ws_ping_interval,
            ping_timeout=settings.ws_ping_timeout,
            max_queue_bytes=settings.ws_max_queue_bytes,
            origins=Origins(settings.origins, settings.ws_require_origin),
            protocols={
                plain.NAME: plain.PlainSession,
                **{codec.subprotocol: self._wamp(realm, codec) for codec in CODECS},
            },
            accept=lambda socket: self.router.accept(socket, socket.direct, socket.handshake),
            admit=self._admit,
            origin_refused=self.guard.origin_refused,
            query_token=settings.ws_query_token,
            cookie=settings.ws_token_cookie,
            counters=self.metrics,
        )

    @staticmethod
    def _wamp(realm: Realm, codec: Codec) -> Callable[[], WampSession]:
        return partial(WampSession, realm.encoder(codec))

    def _transports(self) -> int:
        """How many sessions there are on the transports, of whatever protocol."""
        return len(self.engine) + len(self.direct)

    def _admit(self, address: str) -> None:
        """Let one more session begin; one that owes a pong makes room for it.

        :raises TooManyConnections: the node is full, or goes down.
        :raises RateLimited: the address has begun too many.
        """
        if self._draining or self.health.full:
            raise TooManyConnections("the service is full; try again")
        self.guard.check_handshake(address)
        if self._transports() < self.settings.ws_max_connections:
            return
        debtor = self.engine.heartbeat.debtor() or self.direct.heartbeat.debtor()
        if debtor is None:
            raise TooManyConnections("the service is full; try again")
        debtor.end(Close.EVICTED.reason, Close.EVICTED)

    def _accept(self, socket: EngineSocket) -> IReceiver:
        session = SocketIOSession(self.settings.ws_max_message_bytes)
        return self.router.accept(socket, session, socket.handshake)

    def _health(self) -> Health:
        parts: dict[str, Callable[[], Part]] = {
            "broker": partial(bus_health.broker, self.broker, self._redis)
        }
        if self.relay is not None:
            parts["relay"] = partial(bus_health.relay, self.relay)
        return Health(
            node=self.id,
            version=__version__,
            seconds=self._clock.seconds,
            pulse=self.pulse,
            max_lag=self.settings.health_max_lag,
            limit=self.settings.ws_max_connections,
            connections=self._transports,
            bus=self._bus_causes,
            parts=parts,
        )

    def _report(self) -> dict[str, Any]:
        return self.health.report()

    def _beaten(self, lag: float) -> None:
        self.metrics.lagged(lag)
        self.journal.turned(lag)

    def _bus_causes(self) -> list[str]:
        """Why the bus would not take, or not hear, what is published."""
        return self.broker.causes() + ([] if self.relay is None else self.relay.causes())

    def _watch(self) -> None:
        """Let the metrics read the present figures."""
        self.metrics.watch(
            connections=lambda: {**NO_CONNECTIONS, **self.connections.kinds()},
            users=lambda: self.connections.users,
            rooms=lambda: len(self.rooms),
            members=lambda: self.rooms.memberships,
            queue_bytes=lambda: sum(c.outlet.buffered for c in self.connections),
            strangers=lambda: self.door.strangers,
            waiting=lambda: len(self.reception),
            receipts=lambda: self.receipts.awaited,
            api_waiting=lambda: len(self.pace),
        )
        self.metrics.watch_queues(
            places=lambda: self.queueing.waiting,
            workers=lambda: len(self.workers),
            unacknowledged=lambda: self.workers.unacknowledged,
        )
        self.metrics.watch_health(
            version=__version__,
            node=self.id,
            ready=lambda: not self.health.causes(),
            connections_limit=self.settings.ws_max_connections,
            memory_limit=self.pulse.limit,
        )

    def _sweep(self) -> None:
        self.guard.sweep()
        self.metrics.presence_swept()

    # -- life

    def privilegedStartService(self) -> None:
        """Bind every port, or none."""
        super().privilegedStartService()
        try:
            for name, address, port, factory in self._listeners():
                self._listen(name, address, port, factory)
            if self._place is not None:
                self._meet(self._place)
        except ConfigError:
            for bound in self._ports.values():
                bound.stopListening()
            raise

    def _listeners(self) -> Iterator[tuple[str, str, int, IProtocolFactory]]:
        settings = self.settings
        yield "PORT", settings.bind_address, settings.port, self._secured(self.door)
        look = Look(self._clock, self.inquiries, self.broker)
        tracing = Tracing(self.traces, self.guard.trust, self.guard.security, self._wall)
        api = Api(
            keys=self.guard.policy.api_keys,
            security=self.guard.security,
            verbs=self.verbs,
            document=lambda: document(self.guard.policy.routing.rules),
            operators=(*look.routes(), *tracing.routes()),
            pace=self.pace,
            asked=self.metrics.asked,
        )
        operators: dict[str, tuple[int, Mapping[str, IResource]]] = {
            "API_PORT": (settings.api_port, {"/": api.resource, **self.operator_pages()}),
        }
        if self._place is None:
            health, metrics = health_resource(self.health), metrics_resource(self.metrics.registry)
            operators["HEALTH_CHECK_PORT"] = settings.health_check_port, {"/": health}
            operators["METRICS_PORT"] = settings.metrics_port, {"/": metrics}
        for name, (port, mounts) in operators.items():
            yield name, settings.api_bind_address, port, self._door(mounts)

    def _meet(self, place: Place) -> None:
        """Listen for the other workers of the node, and for their parent."""
        assert self.door.neighbours is not None
        pages = {"/": health_resource(self.health), "/metrics": metrics_resource(self.metrics.registry)}
        for path, factory in (
            (self.door.neighbours.socket(place.prefix), self.door.neighbours.receiver(self.door)),
            (place.admin, self._door(pages)),
        ):
            self._unix.append(self._clock.listenUNIX(path, factory, backlog=BACKLOG, mode=0o600))

    def _secured(self, door: DoorFactory) -> IProtocolFactory:
        """The clients' port, over TLS where that is configured."""
        if self.certificates is None:
            return door
        return TLSMemoryBIOFactory(self.certificates, False, door, self._clock)

    def _door(
        self, mounts: Mapping[str, IResource], upgrades: Mapping[str, Any] = _NO_UPGRADES
    ) -> DoorFactory:
        settings = self.settings
        websockets = WebSockets(
            self._clock,
            max_message=settings.ws_max_message_bytes,
            message_timeout=settings.ws_message_timeout,
            flusher=self.flusher,
            compress_from=settings.ws_compression_threshold if settings.ws_compression else None,
            negotiated=self.metrics.compressed,
        )
        return DoorFactory(
            clock=self._clock,
            site=Site(mounts, round(settings.tls_hsts)),
            upgrades=upgrades,
            websockets=websockets,
            head_timeout=settings.ws_handshake_timeout,
            body_timeout=settings.ws_message_timeout,
            # Long-polling holds two sockets at a time.
            max_sockets=2 * settings.ws_max_connections + STRANGERS,
            strangers=STRANGERS,
            strangers_per_address=STRANGERS // 2,
            proxies=Proxies(settings.trusted_proxies if upgrades else ()),
            proxy_protocol=settings.proxy_protocol and bool(upgrades),
            reception=self.reception if upgrades else None,
        )

    def _listen(self, name: str, address: str, port: int, factory: IProtocolFactory) -> None:
        try:
            if name in self._descriptors:
                descriptor, family = adopt(self._descriptors[name])
                listening = self._clock.adoptStreamPort(descriptor, family, factory)
            else:
                listening = self._clock.listenTCP(port, factory, backlog=BACKLOG, interface=address)
        except CannotListenError as error:
            raise ConfigError(
                f"{name}={port}: {address} port {port} can't be bound ({error.socketError.strerror});"
                " accepted is a free port, or 0 for any"
            ) from None
        if name == "PORT":
            by_turns(listening, self.reception, self._clock)
            bound_unsent(getattr(listening, "socket", None))
        self._ports[name] = listening
        _log.info("listening", setting=name, address=address, port=_port(listening))

    def startService(self) -> None:
        """Begin to serve."""
        super().startService()
        self.broker.start(self.fanout, self.peers)
        self.store.start(self.peers)
        if self.relay is not None:
            self.relay.start()
        if self.certificates is not None:
            self.certificates.start()
        self.guard.start()
        self.sessions.start()
        self.presence.start()
        self.receipts.start()
        self.queueing.start()
        self.workers.start()
        if self.queue_stream is not None:
            self.queue_stream.start()
        self.pulse.start()
        if self.grpc is not None:
            self.grpc.start()
        self.health.phase = Phase.SERVING
        if self._place is None:
            self._open()
        else:
            # what waits at a worker's port has been let in by its parent: better served late than closed
            for listening in self._ports.values():
                listening.stopReading()
            self._open_once_well(self._clock.seconds() + WELL_WITHIN)

    def _open(self) -> None:
        self._on_ready({name: _port(listening) for name, listening in self._ports.items()})

    def _open_once_well(self, ends: float) -> None:
        """Take connections once the bus would take publications, or will not soon."""
        if self.health.phase is not Phase.SERVING:
            return
        if self.health.causes() and self._clock.seconds() < ends:
            self._clock.callLater(LOOK_AGAIN, self._open_once_well, ends)
            return
        for listening in self._ports.values():
            listening.startReading()
        self._open()

    def reload(self) -> Deferred[None]:
        """Read configuration and certificates again, and fetch keys; what is bad changes nothing."""
        if self.certificates is not None:
            self.certificates.look()
        return self.guard.reload()

    def stopService(self) -> Deferred[None]:
        """Drain: turn away who comes, tell and close who is here, within DRAIN_SETTLE and DRAIN_TIMEOUT."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self.health.phase = Phase.DRAINING
        if self._retiring:
            # another has taken this one's place: what is new is the other's from here on
            for bound in self._ports.values():
                await maybeDeferred(bound.stopListening)
            if self.grpc is not None:
                await self.grpc.stop()
            self.drain.skip_settling()
        # the ports stay open until then: long-polling fetches its last messages over new connections,
        # and who is new is refused with a 503
        await self.drain.run()
        for bound in (*self._ports.values(), *self._unix):
            await maybeDeferred(bound.stopListening)
        if self.grpc is not None:
            await self.grpc.stop()
        if self.queue_stream is not None:
            await self.queue_stream.stop()
        await self.workers.stop()
        self.queueing.stop()
        self.sessions.stop()
        self.presence.stop()
        self.receipt_watches.stop_all()
        await self.receipts.stop()
        self.pulse.stop()
        if self.certificates is not None:
            self.certificates.stop()
        await self.guard.stop()
        self.traces.stop()
        if self.relay is not None:
            await self.relay.stop()
        await self.store.stop()
        await self.broker.stop()
        if self._redis is not None:
            await self._redis.stop()
        await maybeDeferred(super().stopService)
        _log.info("stopped")

    def retire(self) -> None:
        """Take no connections any more: another is in its place. To be called before its end."""
        self._retiring = True

    def hurry(self) -> None:
        """Let a drain that is under way come to its end."""
        self.drain.hurry()

    def _settled(self) -> None:
        """Balancers know by now: let nobody new in, and tell who is here."""
        self._draining = True
        now = int(self._wall() * 1000)
        told = {"message": "this node goes down; come back", "reconnect": True, "timestamp": now}
        maintenance = Publication(
            "system:maintenance",
            msgspec.json.encode(told),
            Audience(everyone=True),
            unique_id(now),
            now,
            logged=False,
        )
        # only to those who are here
        self.fanout.deliver(maintenance)


def _port(listening: IListeningPort) -> int:
    host: Any = listening.getHost()
    port: int = host.port
    return port
