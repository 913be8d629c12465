"""PollingCarrier: long-polling, as what carries an Engine.IO session."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from typing import Final, Protocol

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from ..connections import IBatch, IFlushed
from ..deadlines import Deadlines
from ..errors import Close, ProtocolError
from ..wire.engineio import CLOSE, NOOP, SEPARATOR, Fault, Type, decode_part, parts
from ..wire.session import Frame
from .engine_socket import EngineSocket, ICarrier
from .flusher import Flusher
from .site import Request

#: Bytes of a replay that go into one answer.
PACE: Final = 65536

#: Packets of one request that are handled before others have their turn.
TURN: Final = 64

#: Requests of one session in a second, and at once; what is over is answered later, so that the next waits.
RATE: Final = 200
BURST: Final = 400

#: The content type of packets.
TEXT: Final = b"text/plain; charset=UTF-8"


class IPollingServer(Protocol):
    """What long-polling needs of the server."""

    clock: IReactorTime
    compress_from: int
    polls: Deadlines[PollingCarrier]
    fetches: Deadlines[EngineSocket]
    flusher: Flusher


def accepts_gzip(request: Request) -> bool:
    """Whether the client takes a compressed answer (RFC 9110 section 12.5.3)."""
    for value in request.requestHeaders.getRawHeaders(b"Accept-Encoding", ()):
        for coding in value.lower().replace(b" ", b"").split(b","):
            name, _, weight = coding.partition(b";q=")
            if name in (b"gzip", b"*"):
                return weight.strip(b"0.") != b"" or not weight
    return False


@implementer(ICarrier, IFlushed)
class PollingCarrier:
    """Long-polling: one request that waits for packets, one at a time that brings some.

    :ivar held: whether packets of the client are kept back.
    """

    name = "polling"
    ready = False
    batches = True
    __slots__ = ("_inbox", "_paced", "_poll", "_post", "_running", "_server", "_socket", "_stirred", "held")

    def __init__(self, server: IPollingServer, socket: EngineSocket) -> None:
        self._server = server
        self._socket = socket
        self._poll: Request | None = None
        self._post: Request | None = None
        self._inbox: Iterator[str] | None = None
        self._running = False
        self._stirred = False
        # when as much as may come at once may come again
        self._paced = 0.0
        self.held = False

    # -- for the session

    @property
    def leaving(self) -> bool:
        """Whether a poll waits, which takes all there is at the end of this turn."""
        return self._poll is not None

    def send(self, frame: Frame) -> None:
        """Never called: a poll takes all that waits."""
        raise RuntimeError("long-polling sends what waits")

    def attach(self, batch: IBatch) -> bool:
        """See `ICarrier`: a poll takes what waits for it alone."""
        return False

    def detach(self, batch: IBatch) -> None:
        """See `ICarrier`: it is attached to none."""

    def stir(self) -> None:
        """Answer the poll that waits, at the end of this turn."""
        if self._poll is not None and not self._stirred:
            self._stirred = True
            self._server.flusher.add(self)

    def finish(self, close: Close) -> None:
        """Close with the poll that waits, or with the next."""
        self._server.fetches.start(self._socket)
        self.flush()

    def drop(self, close: Close | None, last: Frame) -> None:
        """The session is over, or carried by another from now on."""
        self._inbox = None
        if self._poll is not None:
            self._answer_poll([last.polling])
        if not self._running:
            self._refuse_post()

    def hold(self) -> None:
        """Keep packets back; the request that brings them is answered once they are taken."""
        self.held = True

    def release(self) -> None:
        """Take packets again."""
        self.held = False
        if self._inbox is not None:
            self._server.clock.callLater(0, self._run)

    # -- requests that fetch

    def poll(self, request: Request) -> None:
        """The client waits for packets."""
        if self._poll is not None:
            self._socket.end("transport_error")
            _refuse(request)
            return
        self._poll = request
        request.lost = self._poll_lost
        self._server.polls.start(self)
        late = self._late()
        if late:
            self._stirred = True
            self._server.clock.callLater(late, self.flush)
        else:
            self.flush()

    def _late(self) -> float:
        """Count one more request; the seconds by which it comes too early."""
        now = self._server.clock.seconds()
        self._paced = max(self._paced, now) + 1 / RATE
        return max(0.0, self._paced - now - BURST / RATE)

    def flush(self) -> int:
        """Answer the poll, if one waits and there is something to say."""
        self._stirred = False
        if self._poll is None:
            return 0
        packets = self._collect()
        if not packets or self._poll is None:
            return 0
        self._answer_poll(packets)
        if packets == [CLOSE.polling]:
            self._server.clock.callLater(0, self._socket.finished)
        return 1

    def expire(self) -> None:
        """Nothing came for long: end the poll, lest something on the way does."""
        self.flush()
        if self._poll is not None:
            self._answer_poll([NOOP.polling])

    def _collect(self) -> list[bytes]:
        socket = self._socket
        packets: list[bytes] = []
        size = 0
        while size < PACE or not socket.replaying:
            frame = socket.take()
            if frame is None:
                break
            packets.append(frame.polling)
            size += len(frame.polling)
        if packets:
            return packets
        if socket.closing is not None:
            # never with messages: engine.io-client closes before it hands out those of the same payload
            return [CLOSE.polling]
        return [NOOP.polling] if socket.probing else []

    def _answer_poll(self, packets: list[bytes]) -> None:
        request, self._poll = self._poll, None
        self._server.polls.cancel(self)
        if request is None:
            return
        request.lost = None
        body = SEPARATOR.encode().join(packets)
        if len(body) >= self._server.compress_from and accepts_gzip(request):
            body = gzip.compress(body, 1, mtime=0)
            request.setHeader(b"Content-Encoding", b"gzip")
        request.answer(200, body, TEXT)

    def _poll_lost(self) -> None:
        self._poll = None
        self._server.polls.cancel(self)
        self._socket.lost("transport_error")

    # -- requests that bring

    def expect(self, request: Request) -> bool:
        """A request with packets has begun; False if it was refused, which ends the session."""
        binary = request.getHeader(b"content-type") == b"application/octet-stream"
        if self._post is not None or binary:
            self._socket.end("transport_error")
            _refuse(request)
            return False
        self._post = request
        request.lost = self._post_lost
        return True

    def post(self, request: Request) -> None:
        """The request's body is complete."""
        if self._post is not request:
            return
        try:
            self._inbox = parts(request.content.read())
        except ProtocolError:
            self._fail()
        else:
            late = self._late()
            if late:
                self._server.clock.callLater(late, self._run)
            else:
                self._run()

    def _run(self) -> None:
        if self._inbox is None or self.held:
            return
        self._running = True
        try:
            more = self._handle()
        except ProtocolError:
            self._fail()
            more = False
        finally:
            self._running = False
        if more and self._inbox is not None and not self.held:
            self._server.clock.callLater(0, self._run)

    def _handle(self) -> bool:
        """Handle the packets of one turn; True if there are more."""
        for _ in range(TURN):
            part = None if self._inbox is None else next(self._inbox, None)
            if part is None:
                self._inbox = None
                self._accept_post()
                return False
            packet = decode_part(part)
            self._socket.packet(packet)
            if self._socket.gone:
                self._accept_post() if packet.type is Type.CLOSE else self._refuse_post()
                return False
            if self.held:
                break
        return True

    def _fail(self) -> None:
        self._inbox = None
        self._socket.end("parse_error")
        self._refuse_post()

    def _accept_post(self) -> None:
        request, self._post = self._post, None
        if request is not None:
            request.lost = None
            # the reference says text/html: browsers offer text/plain for download
            request.answer(200, b"ok", b"text/html")

    def _refuse_post(self) -> None:
        request, self._post = self._post, None
        if request is not None:
            request.lost = None
            _refuse(request)

    def _post_lost(self) -> None:
        self._post = None
        self._inbox = None
        self._socket.lost("transport_error")


def _refuse(request: Request) -> None:
    request.answer(Fault.BAD_REQUEST.status, Fault.BAD_REQUEST.body)
