"""WebSockets, by Autobahn's server protocol, with its traps mended (RELIABILITY.md section 4.2).

The door has read and checked the request by the time a socket comes here; what Autobahn parses is a
head of our own making. Autobahn's timers are not used: every deadline here is on our clock.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import txaio
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.protocol import TrafficStats, WebSocketProtocol
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import Attribute, Interface, implementer

from ..connections import IFlushed
from ..deadlines import Deadlines
from ..errors import Close
from ..wire.request import BadRequest, Head
from . import compression
from .batch import Batch
from .direct_write import EARLY, write
from .flusher import Flusher
from .tls import half_close

#: Messages of one socket that are handed over in one turn of the reactor.
PER_TURN: Final = 64

#: Steps of Autobahn's parser in one turn, of which a message takes two or more.
STEPS_PER_TURN: Final = 4 * PER_TURN

#: Frames that one message may come in.
MAX_FRAMES: Final = 64

#: Pings and pongs of a client within one second.
MAX_CONTROLS: Final = 64

#: Seconds for a peer to take what is left and to answer a close.
CLOSE_TIMEOUT: Final = 2.0

NORMAL: Final = 1000
POLICY: Final = 1008
TOO_BIG: Final = 1009
INTERNAL: Final = 1011

#: First bytes of a text and of a binary message in one frame.
_WHOLE: Final = frozenset((0x81, 0x82))

_KEY: Final = re.compile(rb"[0-9A-Za-z+/]{22}==")

_log = Logger()


class IWebSocketHandler(Interface):
    """What one WebSocket belongs to. An exception closes the socket with 1011."""

    outlet = Attribute(
        "IOutlet. Where is written what comes by no batch any more; for who attaches to one."
    )

    def opened(websocket: WebSocket) -> None:
        """The handshake is done. Said first, and once."""

    def received(data: str | bytes) -> None:
        """A message, text or binary."""

    def ponged() -> None:
        """The peer has answered a ping."""

    def full() -> None:
        """The transport holds as much as it should: wait with sending until `drained`."""

    def drained() -> None:
        """The transport takes more."""

    def lost(reason: str) -> None:
        """The connection is gone. Said last, and once, to one that was told `opened`.

        :param reason: ``transport_close``, ``transport_error``, ``parse_error`` or
            ``message.too_large``.
        """


def handshake(head: Head, protocol: str | None = None, extension: str | None = None) -> bytes:
    """The opening handshake that stands for a checked request: only what RFC 6455 needs is in it.

    :param protocol: the subprotocol chosen from those the client offers.
    :param extension: the offer chosen from those of extensions.
    :raises BadRequest: the request is no opening handshake of WebSocket version 13.
    """
    key = head.get(b"sec-websocket-key")
    if head.method != b"GET" or head.minor != 1 or key is None or _KEY.fullmatch(key) is None:
        raise BadRequest(400, "websocket.handshake", "this is no WebSocket handshake")
    if head.get(b"sec-websocket-version") != b"13":
        raise BadRequest(426, "websocket.version", "only WebSocket version 13 is spoken here")
    offered = b"" if protocol is None else b"Sec-WebSocket-Protocol: " + protocol.encode() + b"\r\n"
    if extension is not None:
        offered += b"Sec-WebSocket-Extensions: " + extension.encode() + b"\r\n"
    return (
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + b"\r\n" + offered + b"\r\n"
    )


def _unmask(mask: bytes, masked: bytes) -> bytes:
    size = len(masked)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(masked, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


#: What Autobahn keeps of the handshake; nobody asks for it again.
_HANDSHAKE: Final = (
    *("http_request_data", "http_status_line", "http_headers", "http_request_uri", "http_request_path"),
    *("http_request_params", "http_request_host", "http_response_data", "websocket_protocols"),
    *("websocket_origin", "websocket_extensions", "websocket_extensions_in_use", "_wskey", "send_queue"),
    *("trafficStats", "_shaking"),
)


#: What Autobahn keeps on every instance and hardly any changes: values of the class here, so that an
#: open connection holds a dozen attributes of its own, not fifty.
_SETTLED: Final[dict[str, Any]] = {
    **dict.fromkeys(("_subprotocol", "_perMessageCompress", "trackedTimings", "wasNotCleanReason")),
    **dict.fromkeys(("localCloseCode", "localCloseReason", "remoteCloseCode", "remoteCloseReason")),
    **dict.fromkeys(("openHandshakeTimeoutCall", "closeHandshakeTimeoutCall", "autoPingTimeoutCall")),
    **dict.fromkeys(("autoPingPending", "autoPingPendingCall", "autoPingPendingSent")),
    **dict.fromkeys(("websocket_protocol_in_use", "current_frame")),
    **dict.fromkeys(("triggered", "closedByMe", "failedByMe", "droppedByMe", "wasClean"), False),
    **dict.fromkeys(("wasMaxFramePayloadSizeExceeded", "wasMaxMessagePayloadSizeExceeded"), False),
    **dict.fromkeys(("wasServerConnectionDropTimeout", "wasOpenHandshakeTimeout"), False),
    **dict.fromkeys(("wasCloseHandshakeTimeout", "wasServingFlashSocketPolicyFile"), False),
    "inside_message": False,
    "send_state": WebSocketProtocol.SEND_STATE_GROUND,
    "autoPingPendingSeq": 0,
    "websocket_version": 13,
    "send_queue": (),
    "data": b"",
    "peer": "",
}


#: What every write looks at, and so has a slot. Where a dict has it CPython looks first at where it was in
#: the last one, and that differs between WebSockets with a subprotocol and those without.
_HOT: Final = ("_turn", "_turn_size", "state", "transport")


@implementer(IPushProducer, IFlushed)
class WebSocket(WebSocketServerProtocol):  # type: ignore[misc]
    """One WebSocket. Holds its handler and forwards to it.

    :ivar handler: where messages go; may be replaced while the socket is open.
    :ivar is_full: whether the transport holds as much as it should.
    :ivar deflates: bytes from which messages to it are compressed; None where that was not negotiated.
    """

    # client-caused mishaps are no news; those of a handler are logged below
    log = txaio.make_logger("critical")
    factory: WebSockets
    transport: Any
    state: Any
    _turn: bytes | list[bytes] | Batch | None
    _turn_size: int
    data: bytes
    failedByMe: bool
    message_data: Any
    inside_message: bool
    _perMessageCompress: Any
    _isMessageCompressed: bool
    current_frame: Any
    maxMessagePayloadSize: int
    handler: Any = None
    is_full = False
    deflates: int | None = None
    _inflated = 0
    _opened = False
    _held = False
    _resting = False
    _deaf = False
    _shaking = False  # the first request has come; looked at until the socket is open
    _word: str | None = None
    _frames = 0
    _controls = 0
    _second = 0

    def __init__(self, handler: Any, subprotocol: str | None = None) -> None:
        # not Autobahn's: it makes an object of details and an observable that nobody here looks at
        self.is_closed: Any = Deferred()
        self.is_open: Any = Deferred()
        self.handler = handler
        self.transport = None
        self.state = WebSocketProtocol.STATE_CONNECTING
        self._turn = None
        self._turn_size = 0
        self._subprotocol = subprotocol

    # -- what a handler does with it

    def send(self, data: bytes) -> None:
        """Write framed bytes; they leave when the reactor's turn ends, with all else of the turn."""
        if self.state != WebSocketProtocol.STATE_OPEN:
            return
        turn = self._turn
        if turn is None:
            self._turn = data
            self.factory.flusher.add(self)
        elif isinstance(turn, list):
            turn.append(data)
        elif isinstance(turn, bytes):
            self._turn = [turn, data]
        else:
            self._depart(turn).append(data)
        self._turn_size += len(data)
        if self._turn_size > EARLY:
            self.flush()

    def attach(self, batch: Batch) -> bool:
        """Send what is in a batch; False if something else is to be sent before."""
        if self._turn is not None or self.state != WebSocketProtocol.STATE_OPEN:
            return False
        self._turn = batch
        batch.board(self)
        return True

    def detach(self, batch: Batch) -> None:
        """Send no more of what is added to a batch."""
        if self._turn is batch:
            self._depart(batch)

    def _depart(self, batch: Batch) -> list[bytes]:
        self._turn_size = batch.size
        self._turn = left = batch.depart(self.handler.outlet)
        self.factory.flusher.add(self)
        return left

    def flush(self) -> int:
        """Write what `send` has collected."""
        turn = self._turn
        if turn is None:
            return 0
        if isinstance(turn, Batch):
            turn = self._depart(turn)
        self._turn, self._turn_size = None, 0
        write(self.transport, b"".join(turn) if isinstance(turn, list) else turn)
        return 1

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        """What Autobahn itself writes (handshake, close, pong) keeps its place among the rest."""
        self.flush()
        self.transport.write(data)

    def end(self, code: int, reason: str = "") -> None:
        """Close, after what was written; aborted if the peer does not come along in time."""
        if self.state == WebSocketProtocol.STATE_OPEN:
            self.sendCloseFrame(code, reason.encode() if reason else None)
            self.abort_later()
            if self._held:
                self.release()

    def abort_later(self) -> None:
        """Abort in `CLOSE_TIMEOUT` seconds, unless the connection has gone by then."""
        if self not in self.factory.closings:
            self.factory.closings.start(self)

    def hold(self) -> None:
        """Hand over no more messages until `release`."""
        if not self._held:
            self._held = True
            self.transport.pauseProducing()

    def release(self) -> None:
        """Hand over messages again, beginning with those that came in already."""
        if self._held:
            self._held = False
            self.transport.resumeProducing()
            self.factory.clock.callLater(0, self._guarded, self.consumeData)

    def _rest(self) -> None:
        """Let the others have their turn: what else has come in waits for the reactor's next."""
        self._resting = True
        self.transport.pauseProducing()
        self.factory.clock.callLater(0, self._guarded, self._go_on)

    def _go_on(self) -> None:
        self._resting = False
        if self._held or self._deaf or self.state != WebSocketProtocol.STATE_OPEN:
            return
        self.transport.resumeProducing()
        data, self.data = self.data, b""
        self._take(data)

    # -- what the transport tells

    def connectionMade(self) -> None:
        self.peer = ""
        self._connectionMade()
        self.transport.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        if self._deaf:
            return
        if self.state == WebSocketProtocol.STATE_OPEN:
            self._take(data)
        elif self._shaking and self.state == WebSocketProtocol.STATE_CONNECTING:
            # a second request on a socket whose first is not answered: two sessions on one protocol
            self.transport.abortConnection()
        else:
            self._guarded(self._dataReceived, data)

    def _take(self, data: bytes) -> None:
        fresh = not (self.data or self.inside_message or self.current_frame is not None)
        if fresh and not (self._held or self._resting):
            data = self._hand_over_whole(data)
        if data and not self._deaf:
            self._guarded(self._dataReceived, data)
        self._time_message()

    def connectionLost(self, reason: Failure) -> None:
        self._turn = None
        self.factory.closings.cancel(self)
        self.factory.messages.cancel(self)
        if self._word is None:
            closed = self.wasClean or reason.check(ConnectionDone) is not None
            self._word = "transport_close" if closed else "transport_error"
        self._connectionLost(reason)
        # Autobahn lets both hold the socket.
        self.is_closed = self.is_open = None

    def pauseProducing(self) -> None:
        self.is_full = True
        if self._opened:
            self._guarded(self.handler.full)

    def resumeProducing(self) -> None:
        self.is_full = False
        if self._opened:
            self._guarded(self.handler.drained)

    def stopProducing(self) -> None:
        """The transport is gone, which `connectionLost` says too."""

    # -- what Autobahn tells, and where it must be held back

    def processHandshake(self) -> None:
        self._shaking = True
        super().processHandshake()

    def onConnect(self, request: Any) -> Any:
        return self._subprotocol

    def succeedHandshake(self, res: Any) -> None:
        # the client may have left, or been dropped, while onConnect was waited for
        if self.state == WebSocketProtocol.STATE_CONNECTING:
            super().succeedHandshake(res)

    def failHandshake(self, reason: str, code: int = 400, responseHeaders: Any = None) -> None:
        # the reason is Autobahn's, and may quote the request
        super().failHandshake("Bad Request", 400)

    def _onOpen(self) -> None:
        own = self.__dict__
        for name in _HANDSHAKE:
            own.pop(name, None)
        # A copy: a dict does not shrink.
        self.__dict__ = {
            name: value for name, value in own.items() if value is not _SETTLED.get(name, _HANDSHAKE)
        }
        if self._perMessageCompress is not None:
            self._perMessageCompress = compression.Inflater()
            self.deflates = self.factory.compress_from
            self.factory.negotiated()
        self._opened = True
        self._guarded(self.handler.opened, self)

    def consumeData(self) -> None:
        if self.state == WebSocketProtocol.STATE_CONNECTING:
            super().consumeData()
            return
        left = STEPS_PER_TURN
        while not (self._held or self._deaf) and self.state != WebSocketProtocol.STATE_CLOSED:
            if self._resting or not self.processData():
                break
            left -= 1
            if left == 0:
                self._rest()

    def onFrameBegin(self) -> None:
        if self.current_frame.opcode > 7:
            self._count_control()
        elif not self.inside_message:
            self._frames = 1
        else:
            self._frames += 1
            if self._frames > MAX_FRAMES:
                self._fail_connection(POLICY, "too many frames for one message")
        super().onFrameBegin()

    def onMessageEnd(self) -> None:
        # not Autobahn's, which makes Deferreds for listeners that nobody adds
        message, self.message_data = self.message_data, None
        if self.failedByMe:
            return
        payload = b"".join(message)
        if self._isMessageCompressed:
            self._count_inflated(len(payload))
        self.onMessage(payload, self.message_is_binary)

    def _count_inflated(self, size: int) -> None:
        """A little may become much: let the others have their turn all the same."""
        self._inflated += size
        if self._inflated > compression.PER_TURN and not self._resting:
            self._inflated = 0
            self._rest()

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self._guarded(self.handler.received, payload if isBinary else payload.decode())

    def onPing(self, payload: bytes) -> None:
        if not self.is_full:
            self.sendPong(payload)

    def onPong(self, payload: bytes) -> None:
        if self._opened:
            self._guarded(self.handler.ponged)

    def _onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        handler, self.handler = self.handler, None
        if not self._opened:
            return
        self._opened = False
        try:
            handler.lost(self._word)
        except Exception:
            _log.failure("a WebSocket's handler failed")

    def _protocol_violation(self, reason: str) -> bool:
        self._fail_connection(WebSocketProtocol.CLOSE_STATUS_CODE_PROTOCOL_ERROR, reason)
        return True

    def _invalid_payload(self, reason: str) -> bool:
        self._fail_connection(WebSocketProtocol.CLOSE_STATUS_CODE_INVALID_PAYLOAD, reason)
        return True

    def _fail_connection(self, code: int = POLICY, reason: str = "") -> None:
        # closed at once: whatever the peer still sends is not looked at any more
        if self.state == WebSocketProtocol.STATE_CLOSED or self._deaf:
            return
        self.failedByMe = True
        self._deaf = True
        if self._word is None:
            self._word = Close.TOO_LARGE.reason if code == TOO_BIG else "parse_error"
        self.sendCloseFrame(code=code, reasonUtf8=reason.encode()[:120])
        self.data = b""
        self._finish()

    def dropConnection(self, abort: bool = False) -> None:
        if abort and not self.wasClean:
            super().dropConnection(abort=True)
        elif self.state != WebSocketProtocol.STATE_CLOSED:
            self.droppedByMe = True
            self.state = WebSocketProtocol.STATE_CLOSED
            self.is_closed.callback(self)
            self.abort_later()
            self.unregisterProducer()
            self.transport.loseConnection()

    def expire(self) -> None:
        """The peer did not come along: end the connection as it stands."""
        self.transport.abortConnection()

    def too_slow(self) -> None:
        """A message was begun and did not arrive whole in time."""
        self._fail_connection(POLICY, "the message took too long")

    def _finish(self) -> None:
        self.abort_later()
        self.unregisterProducer()
        half_close(self.transport)

    def _guarded(self, call: Any, *args: Any) -> None:
        try:
            call(*args)
        except Exception:
            _log.failure("a WebSocket's handler failed")
            if self._word is None:
                self._word = "transport_error"
            if self.state == WebSocketProtocol.STATE_OPEN:
                self._fail_connection(INTERNAL, "internal error")
            else:
                self.transport.abortConnection()

    def _hand_over_whole(self, data: bytes) -> bytes:
        """Hand over the messages at the beginning that are one whole frame each; give the rest.

        That is nearly all there is, and costs a fraction of what Autobahn's parser takes. Whatever
        is unusual or wrong is left to Autobahn.
        """
        start, size, left = 0, len(data), PER_TURN
        while size - start >= 6 and self.state == WebSocketProtocol.STATE_OPEN and not self._held:
            kind, length, mask = data[start], data[start + 1] - 0x80, start + 2
            if length == 126:
                length, mask = int.from_bytes(data[mask : mask + 2], "big"), start + 4
                usual = 126 <= length <= self.maxMessagePayloadSize
            else:
                usual = 0 <= length < 126
            end = mask + 4 + length
            if kind not in _WHOLE or not usual or end > size:
                break
            message: str | bytes = _unmask(data[mask : mask + 4], data[mask + 4 : end])
            if kind == 0x81:
                try:
                    message = message.decode()  # type: ignore[union-attr]
                except UnicodeDecodeError:
                    break
            start = end
            self._guarded(self.handler.received, message)
            left -= 1
            if left == 0:
                self._rest()
                break
        return data[start:]

    def _time_message(self) -> None:
        messages = self.factory.messages
        begun = self.data or self.inside_message or self.current_frame is not None
        if begun and self.state == WebSocketProtocol.STATE_OPEN and not self._held:
            if self not in messages:
                messages.start(self)
        elif messages:
            messages.cancel(self)

    def _count_control(self) -> None:
        second = int(self.factory.clock.seconds())
        if second != self._second:
            self._second = second
            self._controls = 0
        self._controls += 1
        if self._controls > MAX_CONTROLS:
            self._fail_connection(POLICY, "too many pings and pongs")


class WebSockets(WebSocketServerFactory):  # type: ignore[misc]
    """Makes `WebSocket`s; the options of all of them.

    :param max_message: bytes of a message at most.
    :param message_timeout: seconds for a message, once begun, to arrive whole.
    :param flusher: ends the turns; None for one of their own.
    :param compress_from: bytes from which messages are compressed for who offers it; None for never.
    :ivar negotiated: called for each WebSocket that is compressed.
    :ivar countConnections: how many there are.
    """

    noisy = False

    def __init__(
        self,
        clock: IReactorTime,
        *,
        max_message: int,
        message_timeout: float,
        flusher: Flusher | None = None,
        compress_from: int | None = None,
        negotiated: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(server="", reactor=clock)
        self.setProtocolOptions(
            versions=[13],
            webStatus=False,
            failByDrop=False,
            allowNullOrigin=True,  # the door has judged the origin by then
            maxFramePayloadSize=max_message,
            maxMessagePayloadSize=max_message,
            openHandshakeTimeout=0,
            closeHandshakeTimeout=0,
            perMessageCompressionAccept=compression.accept,
        )
        self.compress_from = compress_from
        self.negotiated = negotiated
        self.clock = clock
        self.closings: Deadlines[WebSocket] = Deadlines(clock, CLOSE_TIMEOUT, WebSocket.expire)
        self.flusher = Flusher(clock) if flusher is None else flusher
        self.messages: Deadlines[WebSocket] = Deadlines(clock, message_timeout, WebSocket.too_slow)
        # options of the class: Autobahn would copy each to every instance, and print them all
        options = {name: getattr(self, name) for name in WebSocketServerProtocol.CONFIG_ATTRS}
        options["perMessageCompressionAccept"] = staticmethod(self.perMessageCompressionAccept)
        options |= {"CONFIG_ATTRS": (), "factory": self, "trafficStats": TrafficStats(), **_SETTLED}
        options["__slots__"] = _HOT
        self._made = type("WebSocket", (WebSocket,), options)

    def opening(self, head: Head, subprotocol: str | None) -> bytes:
        """The opening handshake of a checked request.

        :raises BadRequest: it is none.
        """
        extension = None if self.compress_from is None else compression.offered(head)
        return handshake(head, subprotocol, extension)

    def make(self, handler: Any, subprotocol: str | None = None) -> WebSocket:
        """A protocol, not yet connected, whose events go to this handler."""
        made: WebSocket = self._made(handler, subprotocol)
        return made
