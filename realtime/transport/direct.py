"""DirectServer: WebSockets that carry a client protocol as it is, without Engine.IO; and their sessions.

Which protocol is chosen by subprotocol negotiation (RFC 6455 section 1.9): the first of those that the
client offers and that are spoken here. Who offers none gets the plain one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from ..errors import Close, RealtimeError
from ..heartbeat import Heartbeat
from ..messages import Handshake
from ..wire.request import Head
from .credentials import token
from .door import IUpgrade, Refused
from .engine_socket import EngineSocket, ICounters, NoCounters
from .origins import Origins, fetch_site
from .websocket import IWebSocketHandler, WebSocket
from .websocket_carrier import WebSocketCarrier

#: Subprotocols that a request may offer; those after are not looked at.
MAX_OFFERS: Final = 16

_FORBIDDEN: Final = b'{"code":"forbidden","message":"pages of this origin may not connect"}'


@implementer(IWebSocketHandler)
class DirectHandler:
    """What comes over a WebSocket goes to its session as it is."""

    __slots__ = ("_carrier", "_socket")

    def __init__(self, server: DirectServer, socket: EngineSocket) -> None:
        self._socket = socket
        self._carrier = WebSocketCarrier(server, socket)

    @property
    def outlet(self) -> EngineSocket:
        """See `IWebSocketHandler`."""
        return self._socket

    def opened(self, websocket: WebSocket) -> None:
        self._carrier.opened(websocket)

    def received(self, data: str | bytes) -> None:
        self._socket.server.heartbeat.heard(self._socket)
        self._socket.message(data)

    def ponged(self) -> None:
        self._socket.server.heartbeat.pong(self._socket)

    def full(self) -> None:
        self._carrier.full()

    def drained(self) -> None:
        self._carrier.drained()

    def lost(self, reason: str) -> None:
        self._carrier.lost(reason)


@implementer(IUpgrade)
class DirectServer:
    """The sessions under one path.

    :param ping_interval: seconds between a pong and the next ping.
    :param ping_timeout: seconds for a pong to come.
    :param max_queue_bytes: bytes that may wait for one client.
    :param origins: whose pages may connect.
    :ivar protocols: makes the session of each subprotocol; the first is the one for who offers none.
    :param accept: makes the receiver of a new session.
    :param admit: lets one more session from an address begin, or raises why it may not.
    :param origin_refused: called with the address that a page of a foreign origin came from.
    :param query_token: whether a token is taken from the query's ``token``.
    :param cookie: the name of a cookie that holds a token; empty for none.
    :ivar sessions: by sid.
    """

    def __init__(
        self,
        *,
        clock: IReactorTime,
        ping_interval: float,
        ping_timeout: float,
        max_queue_bytes: int,
        origins: Origins,
        protocols: Mapping[str, Callable[[], Any]],
        accept: Callable[[EngineSocket], Any],
        admit: Callable[[str], None] = lambda address: None,
        origin_refused: Callable[[str], None] = lambda address: None,
        query_token: bool = False,
        cookie: str = "",
        counters: ICounters | None = None,
    ) -> None:
        self.max_queue_bytes = max_queue_bytes
        self.counters: ICounters = NoCounters() if counters is None else counters
        self.sessions: dict[str, EngineSocket] = {}
        self._origins = origins
        self.protocols = protocols
        self._accept = accept
        self._admit = admit
        self._origin_refused = origin_refused
        self._query_token = query_token
        self._cookie = cookie
        self.heartbeat: Heartbeat[Any] = Heartbeat(clock, ping_interval, ping_timeout, _ping, self._dead)

    @property
    def sid_prefix(self) -> str:
        """What session ids begin with: nobody asks for these sessions by their ids."""
        return ""

    def __len__(self) -> int:
        return len(self.sessions)

    def upgrade(self, head: Head, address: str) -> tuple[Any, str | None]:
        """See `IUpgrade`."""
        origin = head.get(b"origin")
        shown = None if origin is None else origin.decode("latin-1")
        if not self._origins.allows(shown, fetch_site(head.get(b"sec-fetch-site"))):
            self._origin_refused(address)
            raise self._refusal("forbidden", Refused(403, _FORBIDDEN))
        chosen = self._choose(head)
        try:
            self._admit(address)
        except RealtimeError as refusal:
            raise self._refusal(refusal.code, Refused.by(refusal)) from None
        # A browser sends cookies for whatever page asks, and says which one that is.
        cookie_name = self._cookie if shown is not None else ""
        found = token(head, query=self._query_token, cookie_name=cookie_name)
        handshake = Handshake(address, shown, found)
        session = self.protocols[chosen or next(iter(self.protocols))]()
        return DirectHandler(self, EngineSocket(self, handshake, session)), chosen

    def _refusal(self, code: str, refused: Refused) -> Refused:
        self.counters.handshake_refused(code)
        return refused

    def _choose(self, head: Head) -> str | None:
        """The subprotocol; None if the client offers none."""
        offered = [
            part.strip().decode("latin-1")
            for name, value in head.fields
            if name == b"sec-websocket-protocol"
            for part in value.split(b",", MAX_OFFERS)[:MAX_OFFERS]
        ]
        if not offered:
            return None
        for offer in offered[:MAX_OFFERS]:
            if offer in self.protocols:
                return offer
        accepted = ", ".join(self.protocols)
        body = b'{"code":"websocket.subprotocol","message":"spoken here are %b"}' % accepted.encode()
        raise self._refusal("unknown_subprotocol", Refused(400, body))

    # -- sessions

    def opened(self, socket: EngineSocket, carrier: WebSocketCarrier) -> None:
        """A WebSocket is open that begins a session."""
        socket.carry(carrier)
        self.sessions[socket.sid] = socket
        self.heartbeat.start(socket)
        socket.begin(self._accept)

    def ended(self, socket: EngineSocket) -> None:
        """A session is over."""
        self.sessions.pop(socket.sid, None)
        self.heartbeat.stop(socket)

    def _dead(self, socket: EngineSocket) -> None:
        socket.end(Close.PING_TIMEOUT.reason, Close.PING_TIMEOUT)


def _ping(socket: EngineSocket) -> None:
    socket.write(socket.direct.ping())
