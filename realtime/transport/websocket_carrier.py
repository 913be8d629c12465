"""WebSocketCarrier: a WebSocket, as what carries an Engine.IO session; and the probe before that."""

from __future__ import annotations

from typing import Any, Protocol

from zope.interface import implementer

from ..connections import IBatch
from ..deadlines import Deadlines
from ..errors import Close, ProtocolError
from ..wire.engineio import PROBE, PROBE_PONG, Packet, Type, decode
from ..wire.session import Frame
from .engine_socket import EngineSocket, ICarrier
from .websocket import NORMAL, POLICY, IWebSocketHandler, WebSocket


class IOpened(Protocol):
    """What WebSockets that carry a session need of the server."""

    def opened(self, socket: EngineSocket, carrier: WebSocketCarrier) -> None:
        """A WebSocket is open that begins a session."""


class IWebSocketServer(IOpened, Protocol):
    """What WebSockets need of the server where they may take over from long-polling."""

    probes: Deadlines[Probe]


@implementer(ICarrier, IWebSocketHandler)
class WebSocketCarrier:
    """A WebSocket that carries a session.

    :ivar ready: whether it takes a frame now.
    """

    name = "websocket"
    leaving = False  # what waits does so because the transport takes nothing
    batches = False
    __slots__ = ("_deflates", "_server", "_socket", "_websocket", "held", "ready")

    def __init__(self, server: IOpened, socket: EngineSocket, websocket: WebSocket | None = None) -> None:
        self._server = server
        # None once the WebSocket is gone: the session holds its carrier, and each would keep the other
        # until the garbage collector comes, which is seldom.
        self._socket: Any = socket
        self.held = False
        self._websocket: Any = websocket
        self._deflates = None if websocket is None else websocket.deflates
        self.ready = websocket is not None and not websocket.is_full

    # -- for the session

    def send(self, frame: Frame) -> None:
        """Send a frame now."""
        deflates = self._deflates
        self._websocket.send(frame.websocket if deflates is None else frame.deflated(deflates))

    def attach(self, batch: IBatch) -> bool:
        """Send what is added to a batch; False if something else is to be sent before."""
        # A batch is not compressed.
        return self._deflates is None and bool(self._websocket.attach(batch))

    def detach(self, batch: IBatch) -> None:
        """Send no more of what is added to a batch."""
        self._websocket.detach(batch)

    @property
    def outlet(self) -> EngineSocket:
        """See `IWebSocketHandler`."""
        socket: EngineSocket = self._socket
        return socket

    def stir(self) -> None:
        """Send what waits, as far as the transport takes it."""
        socket = self._socket
        if socket is None:
            return
        while self.ready:
            frame = socket.take()
            if frame is None:
                break
            self.send(frame)
        if socket.closing is not None and not socket.waits:
            self._websocket.end(socket.closing.number, socket.closing.reason)

    def finish(self, close: Close) -> None:
        """Close after what waits; aborted if the peer does not take it in time."""
        self._websocket.abort_later()
        self.stir()

    def drop(self, close: Close | None, last: Frame) -> None:
        """The session is over: close."""
        if close is None:
            self._websocket.end(NORMAL)
        else:
            self._websocket.end(close.number, close.reason)

    def hold(self) -> None:
        """Take nothing from the client."""
        self.held = True
        self._websocket.hold()

    def release(self) -> None:
        """Take messages again."""
        self.held = False
        self._websocket.release()

    # -- IWebSocketHandler

    def opened(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._deflates = websocket.deflates
        self.ready = not websocket.is_full
        self._server.opened(self._socket, self)

    def received(self, data: str | bytes) -> None:
        socket = self._socket
        if isinstance(data, bytes):
            socket.packet(Packet(Type.MESSAGE, data))
            return
        try:
            socket.text(data)
        except ProtocolError:
            socket.end("parse_error", Close.PROTOCOL_ERROR)

    def ponged(self) -> None:
        """Engine.IO has pings of its own."""

    def full(self) -> None:
        self.ready = False

    def drained(self) -> None:
        self.ready = True
        if self._socket.waits:
            self.stir()

    def lost(self, reason: str) -> None:
        self.ready = False
        self._socket.lost(reason)
        self._socket = None


@implementer(IWebSocketHandler)
class Probe:
    """A WebSocket that may take over from long-polling.

    :ivar answered: whether it has answered the client's probe.
    """

    outlet = None
    __slots__ = ("_server", "_socket", "_websocket", "answered")

    def __init__(self, server: IWebSocketServer, socket: EngineSocket) -> None:
        self._server = server
        self._socket: EngineSocket | None = socket
        self._websocket: Any = None
        self.answered = False

    def opened(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        if self._socket is None or not self._socket.probe(self):
            self._socket = None
            websocket.end(POLICY, "no upgrade")
        else:
            self._server.probes.start(self)

    def received(self, data: str | bytes) -> None:
        socket = self._socket
        if socket is None:
            return
        try:
            packet = decode(data) if isinstance(data, str) else None
        except ProtocolError:
            packet = None
        if packet is None:
            self.cancel()
        elif packet.type is Type.PING and packet.data == PROBE:
            self.answered = True
            self._websocket.send(PROBE_PONG.websocket)
            socket.probed()
        elif packet.type is Type.UPGRADE:
            self._forget()
            carrier = WebSocketCarrier(self._server, socket, self._websocket)
            self._websocket.handler = carrier
            socket.upgrade(carrier)
        else:
            self.cancel()

    def ponged(self) -> None:
        """Nobody has sent a ping of a WebSocket here."""

    def full(self) -> None:
        """Little is sent here; the carrier asks the socket when it takes over."""

    def drained(self) -> None:
        """See `full`."""

    def lost(self, reason: str) -> None:
        socket = self._forget()
        if socket is not None:
            socket.stay()

    def cancel(self) -> None:
        """Give up: the session goes on as it is."""
        socket = self._forget()
        if socket is not None:
            socket.stay()
        self._websocket.end(POLICY, "no upgrade")

    def _forget(self) -> EngineSocket | None:
        socket, self._socket = self._socket, None
        if socket is not None:
            self._server.probes.cancel(self)
        return socket
