"""EngineServer: the Engine.IO sessions under one path, and who may open one.

An `EngineSocket` is one session and the outlet of its connection; the carriers move its packets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from ..deadlines import Deadlines
from ..errors import Close, RealtimeError
from ..heartbeat import Heartbeat
from ..messages import Handshake
from ..wire.engineio import PING, Fault, Query, open_packet, verify
from ..wire.request import Head
from ..wire.session import Frame
from .credentials import bearer
from .door import IUpgrade, Refused
from .engine_socket import EngineSocket, ICounters, NoCounters
from .flusher import Flusher
from .neighbours import Neighbours
from .origins import Origins, fetch_site
from .polling_carrier import TEXT, PollingCarrier
from .site import Request
from .websocket_carrier import Probe, WebSocketCarrier

#: Seconds after which a poll is ended although nothing came; proxies end theirs later.
POLL_TIMEOUT: Final = 25.0

#: Seconds that a closing session waits for the poll that fetches what was written last.
FETCH_TIMEOUT: Final = 10.0


@implementer(IUpgrade)
class EngineServer:
    """The Engine.IO sessions under one path.

    :param ping_interval: seconds between a pong and the next ping.
    :param ping_timeout: seconds for a pong to come.
    :param max_payload: bytes of a message, and of a polling request's body, at most.
    :param max_queue_bytes: bytes that may wait for one client.
    :param upgrade_timeout: seconds that an upgrade may take.
    :param origins: whose pages may connect.
    :param admit: lets one more session from an address begin, or raises why it may not.
    :param origin_refused: called with the address that a page of a foreign origin came from.
    :param accept: makes the receiver of a new session.
    :param query_token: whether a token is taken from the query's ``token``.
    :param flusher: ends the turns; None for one of their own.
    :param compress_from: bytes from which the answer to a poll is compressed.
    :ivar sessions: by sid.
    :ivar neighbours: the other workers of this node, which have sessions of their own; None without any.
    """

    def __init__(
        self,
        *,
        clock: IReactorTime,
        ping_interval: float,
        ping_timeout: float,
        max_payload: int,
        max_queue_bytes: int,
        origins: Origins,
        accept: Callable[[EngineSocket], Any],
        admit: Callable[[str], None] = lambda address: None,
        origin_refused: Callable[[str], None] = lambda address: None,
        upgrade_timeout: float = 10.0,
        query_token: bool = False,
        compress_from: int = 1024,
        flusher: Flusher | None = None,
        counters: ICounters | None = None,
    ) -> None:
        self.clock = clock
        self.max_payload = max_payload
        self.max_queue_bytes = max_queue_bytes
        self.neighbours: Neighbours | None = None
        self.compress_from = compress_from
        self.counters: ICounters = NoCounters() if counters is None else counters
        self.sessions: dict[str, EngineSocket] = {}
        self._origins = origins
        self._accept = accept
        self._admit = admit
        self._origin_refused = origin_refused
        self._query_token = query_token
        self._ping_interval = ping_interval
        self._ping_timeout = ping_timeout
        self.heartbeat: Heartbeat[EngineSocket] = Heartbeat(
            clock, ping_interval, ping_timeout, lambda socket: socket.write(PING), self._dead
        )
        self.probes: Deadlines[Probe] = Deadlines(clock, upgrade_timeout, Probe.cancel)
        self.polls: Deadlines[PollingCarrier] = Deadlines(clock, POLL_TIMEOUT, PollingCarrier.expire)
        self.fetches: Deadlines[EngineSocket] = Deadlines(clock, FETCH_TIMEOUT, EngineSocket.finished)
        self.flusher = Flusher(clock) if flusher is None else flusher

    def __len__(self) -> int:
        return len(self.sessions)

    # -- requests

    @property
    def sid_prefix(self) -> str:
        """What session ids begin with."""
        return "" if self.neighbours is None else self.neighbours.sid_prefix

    def judge(
        self,
        query_string: bytes,
        *,
        method: str,
        upgrade: bool,
        origin: str | None,
        site: str | None,
        address: str,
    ) -> Query:
        """Check a request and give its query.

        :param site: see `Origins.allows`.
        :raises Refused: with the protocol's error.
        """
        query = Query.parse(query_string.decode("ascii"))
        socket = self.find(query.sid)
        fault = verify(
            query,
            method=method,
            upgrade=upgrade,
            session=None if socket is None else socket.transport,
            allowed=self._origins.allows(origin, site),
        )
        if fault is not None:
            if not query.sid:
                self.counters.handshake_refused(fault.name.lower())
            if fault is Fault.FORBIDDEN:
                self._origin_refused(address)
            raise Refused(fault.status, fault.body)
        if socket is None:
            try:
                self._admit(address)
            except RealtimeError as refusal:
                self.counters.handshake_refused(refusal.code)
                raise Refused.by(refusal) from None
        return query

    def allows(self, origin: str | None) -> bool:
        """Whether pages of this origin may connect."""
        return self._origins.allows(origin)

    def find(self, sid: str) -> EngineSocket | None:
        """The session with this id, if it lives at this very moment."""
        socket = self.sessions.get(sid)
        if socket is None:
            return None
        self.heartbeat.check(socket)
        return None if socket.gone else socket

    def upgrade(self, head: Head, address: str) -> tuple[Any, str | None]:
        """See `IUpgrade`."""
        origin = head.get(b"origin")
        query = self.judge(
            head.query,
            method=head.method.decode(),
            upgrade=True,
            origin=None if origin is None else origin.decode("latin-1"),
            site=fetch_site(head.get(b"sec-fetch-site")),
            address=address,
        )
        socket = self.find(query.sid)
        if socket is not None:
            return Probe(self, socket), None
        handshake = self.handshake(address, origin, head.get(b"authorization"), query)
        return WebSocketCarrier(self, EngineSocket(self, handshake)), None

    def handshake(
        self, address: str, origin: bytes | None, authorization: bytes | None, query: Query
    ) -> Handshake:
        """What a request that opens a session tells."""
        token = query.token if self._query_token and query.token else None
        token = bearer(authorization) or token
        return Handshake(address, None if origin is None else origin.decode("latin-1"), token)

    # -- sessions

    def opened(self, socket: EngineSocket, carrier: WebSocketCarrier) -> None:
        """A WebSocket is open that begins a session."""
        self._enter(socket, carrier)
        carrier.send(self._open_packet(socket, ()))
        socket.begin(self._accept)

    def open_polling(self, request: Request, handshake: Handshake) -> None:
        """A poll begins a session."""
        socket = EngineSocket(self, handshake)
        self._enter(socket, PollingCarrier(self, socket))
        request.channel.prove()
        request.answer(200, self._open_packet(socket, ("websocket",)).polling, TEXT)
        socket.begin(self._accept)

    def ended(self, socket: EngineSocket) -> None:
        """A session is over."""
        self.sessions.pop(socket.sid, None)
        self.heartbeat.stop(socket)
        self.fetches.cancel(socket)

    def _enter(self, socket: EngineSocket, carrier: Any) -> None:
        socket.carry(carrier)
        self.sessions[socket.sid] = socket
        self.heartbeat.start(socket)

    def _open_packet(self, socket: EngineSocket, upgrades: tuple[str, ...]) -> Frame:
        return open_packet(socket.sid, upgrades, self._ping_interval, self._ping_timeout, self.max_payload)

    def _dead(self, socket: EngineSocket) -> None:
        socket.end(Close.PING_TIMEOUT.reason, Close.PING_TIMEOUT)


__all__ = ["EngineServer", "EngineSocket", "ICounters", "NoCounters"]
