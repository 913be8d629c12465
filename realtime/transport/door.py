"""The front door: the protocol of the client port, which looks at every request's head.

An upgrade goes straight to a WebSocket, everything else to the site. Requests on one connection are
handled one after the other; a connection that was idle may still be upgraded by its next request.

A connection that has not carried anything of a session is a stranger: of those there is a bounded
number, in all and per address, and the one that has been silent longest gives way to the newcomer.
"""

from __future__ import annotations

import contextlib
import math
import socket
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from twisted.internet.interfaces import IAddress, IPushProducer, IReactorTime, ITCPTransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import Interface, implementer

from ..addresses import Proxies, block_of
from ..deadlines import Deadlines
from ..errors import InternalError, NotFound, RealtimeError
from ..reception import Reception
from ..strangers import Strangers
from ..wire import proxy_header
from ..wire.request import (
    END,
    MAX_HEAD,
    BadRequest,
    Chunked,
    Head,
    bad_expectation,
    body_too_large,
    head_too_large,
    parse,
    too_slow,
)
from .neighbours import Neighbours
from .site import Channel, Request, Site, reason
from .tls import half_close
from .websocket import WebSockets

#: Seconds that a refused peer has to read the refusal and go.
LINGER: Final = 2.0

#: Seconds without a request after which a connection is closed; longer than balancers keep theirs.
IDLE: Final = 75.0

#: Seconds for a peer to take an answer that is more than the transport holds.
DRAIN: Final = 60.0

#: Bytes that the kernel holds for a peer and has not sent: what waits longer waits with us, where it is
#: counted, and where newer values take the place of older ones. (The default may grow to 4 MB.)
UNSENT: Final = 131072

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Refused(Exception):
    """An upgrade is refused.

    :ivar status: the HTTP status.
    :ivar body: what the client gets, as JSON.
    :ivar retry_after: seconds until a repetition makes sense, where that is known.
    """

    def __init__(self, status: int, body: bytes, retry_after: float | None = None) -> None:
        self.status = status
        self.body = body
        self.retry_after = retry_after
        super().__init__(status)

    @classmethod
    def by(cls, error: RealtimeError) -> Refused:
        """A refusal of the service, as an answer."""
        return cls(error.status, msgspec.json.encode(error.refusal()), error.retry_after)


class IUpgrade(Interface):
    """What is behind a path that WebSockets connect to."""

    def upgrade(head: Head, address: str) -> tuple[Any, str | None]:
        """The `IWebSocketHandler` for this request, and the subprotocol chosen.

        :param address: the peer's address.
        :raises Refused: there is no WebSocket for it.
        """


def _nothing(reason: Failure = connectionDone) -> None:
    """The end of a connection that is another's."""


def _host(address: IAddress | None) -> str:
    return str(getattr(address, "host", ""))


@implementer(IPushProducer)
class Door(Protocol):
    """One connection, until a WebSocket takes it over."""

    factory: DoorFactory
    transport: Any
    _log = Logger()

    def __init__(self, address: str) -> None:
        self.address = address
        self._data = bytearray()
        self._scanned = 0
        self._channel: Channel | None = None
        self._request: Request | None = None
        self._body: int | Chunked | None = None
        self._deaf = False
        self._full = False
        self._advancing = False
        self._introduced = True
        self._waits = False
        self._fresh = True  # no request has come yet
        self._through = False

    # -- the transport

    def connectionMade(self) -> None:
        if ITCPTransport.providedBy(self.transport):
            # Autobahn's own attempt fails silently; without it small writes wait 40 ms
            self.transport.setTcpNoDelay(True)
            self.transport.setTcpKeepAlive(True)
        self.transport.registerProducer(self, True)
        self.factory.heads.start(self)
        self._introduced = not self.factory.introduces(self.address)
        self.factory.arrived(self)

    def dataReceived(self, data: bytes) -> None:
        if self._deaf:
            return
        self._data += data
        if self._request is not None and self._body is None:
            if len(self._data) > MAX_HEAD:
                # nobody asked for it; to stop reading would hide that the peer is gone
                self.transport.abortConnection()
            return
        if self._waits:
            return
        if self.factory.ready(self):
            self._advance()
        else:
            self._wait()

    def _wait(self) -> None:
        """Read no further until the reception has time for what is here."""
        self._waits = True
        self.transport.pauseProducing()
        self.factory.reception.wait(self._go_on)

    def _go_on(self) -> None:
        self._waits = False
        if not self._deaf:
            self.transport.resumeProducing()
            self._advance()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.left(self)
        request, self._request = self._request, None
        self._deaf = True
        if request is not None:
            request.connectionLost(reason)

    def pauseProducing(self) -> None:
        self._full = True
        self.factory.drains.start(self)

    def resumeProducing(self) -> None:
        self._full = False
        self.factory.drains.cancel(self)
        self._advance()

    def stopProducing(self) -> None:
        """The transport is gone, which `connectionLost` says too."""

    # -- one request after the other

    def _advance(self) -> None:
        if self._advancing or self._deaf or self._waits:
            return
        self._advancing = True
        try:
            while self._read_head() if self._body is None else self._read_body():
                # Nobody but who floods sends a request before the last one is answered.
                if self._data and not self._deaf and not self.factory.reception.ready():
                    self._wait()
                    break
        except BadRequest as refusal:
            self._refuse(refusal)
        finally:
            self._advancing = False

    def _read_head(self) -> bool:
        if self._request is not None or self._full or self._deaf:
            return False
        if not self._introduced and not self._introduce():
            return False
        if self._data.startswith(END[:2]):
            del self._data[:2]
        if not self._data:
            return False
        end = self._data.find(END, self._scanned)
        if end > MAX_HEAD or (end < 0 and len(self._data) > MAX_HEAD):
            raise head_too_large()
        if end < 0:
            self._scanned = max(0, len(self._data) - len(END) + 1)
            self.factory.begins(self)
            return False
        raw = bytes(self._data[: end + len(END)])
        del self._data[: end + len(END)]
        self._scanned = 0
        self.factory.read(self)
        head = parse(raw)
        if self.factory.neighbours is not None and self._hand_on(self.factory.neighbours, head, raw):
            return False
        self._fresh = False
        if head.websocket:
            self._upgrade(head)
        else:
            self._begin(head)
        return True

    def _introduce(self) -> bool:
        """Let the proxy say whom it speaks for, before anything else; False while it has not."""
        header = proxy_header.read(self._data) if self._data else None
        if header is None:
            return False
        del self._data[: header.size]
        self._introduced = True
        if header.address is not None:
            self.factory.leave_strangers(self)
            self.address = header.address
            self.factory.join_strangers(self)
        return bool(self._data)

    def handed(self, address: str, through: bool = False) -> None:
        """A neighbour had this connection first, or has it still, and says whose it is."""
        self._fresh, self._introduced, self._through = False, True, through
        if address != self.address:
            self.factory.leave_strangers(self)
            self.address = address
            self.factory.join_strangers(self)

    def _hand_on(self, neighbours: Neighbours, head: Head, raw: bytes) -> bool:
        """Hand a request to the worker that holds its session; False if it is to be answered here."""
        path = None if self._through else neighbours.owner(head.query)
        if path is None or head.path.rstrip(b"/") not in self.factory.upgrades:
            return False
        data = raw + bytes(self._data)
        if self._fresh and neighbours.give(path, self.transport, self.address, data):
            self.transport.unregisterProducer()
            self._part()
            return True
        if not head.websocket:
            return False  # its resource forwards it
        self.transport.unregisterProducer()
        pipe = neighbours.connect(path, self.transport, self.address, data)
        if pipe is None:
            self.transport.registerProducer(self, True)
            return False
        self._part()
        self.dataReceived = pipe.near_received  # type: ignore[method-assign]
        self.connectionLost = pipe.near_lost  # type: ignore[method-assign]
        return True

    def _part(self) -> None:
        """The connection is no business of this door any more."""
        self._deaf = True
        self._data.clear()
        self._channel = None
        self.factory.left(self)
        self.connectionLost = _nothing  # type: ignore[method-assign]

    def _client(self, head: Head) -> str:
        """The address of who has sent this."""
        forwarded = (value for name, value in head.fields if name == b"x-forwarded-for")
        return self.factory.proxies.client(self.address, forwarded)

    def _begin(self, head: Head) -> None:
        limit = self.factory.site.limit(head)
        if head.length is not None and head.length > limit:
            raise body_too_large()
        expected = head.get(b"expect")
        if expected is not None and expected.lower() != b"100-continue":
            raise bad_expectation()
        if self._channel is None:
            self._channel = Channel(self, self.factory.site, self.transport)
        self._channel.persistent = head.persistent
        request = self._request = Request(self._channel)
        request.client = self._client(head)
        if head.length != 0:
            self._body = Chunked(limit) if head.length is None else head.length
            self.factory.bodies.start(self)
        if request.begin(head) and self._request is request:
            if head.length == 0:
                request.process()
            elif expected is not None and not self._data:
                self.transport.write(_CONTINUE)

    def _read_body(self) -> bool:
        body, chunks = self._body, [bytes(self._data)]
        if isinstance(body, Chunked):
            self._data.clear()
            chunks = body.feed(chunks[0])
            if body.rest is not None:
                self._data += body.rest
                self._body = None
        elif body is not None:
            chunks = [bytes(self._data[:body])]
            del self._data[:body]
            self._body = body - len(chunks[0]) or None
        request = self._request
        if request is not None:
            for chunk in chunks:
                request.content.write(chunk)
        if self._body is not None:
            return False
        self.factory.bodies.cancel(self)
        if request is not None:
            request.content.seek(0)
            request.process()
        else:
            self._await_next()
        return True

    def answered(self) -> None:
        """The request's answer has been written."""
        self._request = None
        if self._channel is not None and not self._channel.persistent:
            self.lose()
        elif self._body is None:
            self._await_next()
            self._advance()

    def _await_next(self) -> None:
        if not self._deaf:
            self.factory.rests(self)

    def prove(self) -> None:
        """This connection carries a session: it is no stranger any more."""
        self.factory.prove(self)

    # -- leaving

    def _upgrade(self, head: Head) -> None:
        target = self.factory.upgrades.get(head.path.rstrip(b"/"))
        try:
            if target is None:
                raise Refused.by(NotFound())
            handler, subprotocol = target.upgrade(head, self._client(head))
            opening = self.factory.websockets.opening(head, subprotocol)
        except Refused as refused:
            self._answer(refused.status, refused.body, refused.retry_after)
        except BadRequest:
            raise
        except Exception:
            self._log.failure("an upgrade failed")
            internal = Refused.by(InternalError())
            self._answer(internal.status, internal.body)
        else:
            self._hand_over(self.factory.websockets.make(handler, subprotocol), opening)

    def _hand_over(self, websocket: Any, opening: bytes) -> None:
        self.transport.unregisterProducer()
        rest, self._data = bytes(self._data), bytearray()
        self._deaf = True
        self.factory.left(self)
        self._channel = None
        # instance attributes: the transport calls the WebSocket's methods without a step between
        self.dataReceived = websocket.dataReceived  # type: ignore[method-assign]
        self.connectionLost = websocket.connectionLost  # type: ignore[method-assign]
        websocket.makeConnection(self.transport)
        websocket.dataReceived(opening)
        if rest:
            websocket.dataReceived(rest)

    def _refuse(self, refusal: BadRequest) -> None:
        request, self._request = self._request, None
        if request is not None:
            request.connectionLost(Failure(refusal))
            if request.startedWriting:
                self.lose()
                return
        body = msgspec.json.encode({"code": refusal.code, "message": refusal.message})
        self._answer(refusal.status, body)

    def _answer(self, status: int, body: bytes, retry_after: float | None = None) -> None:
        more = b"Sec-WebSocket-Version: 13\r\n" if status == 426 else b""
        if retry_after is not None:
            more += b"Retry-After: %d\r\n" % max(1, math.ceil(retry_after))
        self.transport.write(
            b"HTTP/1.1 %d %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
            b"Cache-Control: no-store\r\n%b%bConnection: close\r\n\r\n%b"
            % (status, reason(status), len(body), self.factory.headers, more, body)
        )
        self._close(self.factory.lingering)

    def lose(self) -> None:
        """Close after what was written, for which a slow peer has its time."""
        self._close(self.factory.drains)

    def _close(self, deadlines: Deadlines[Door]) -> None:
        # the peer's end is waited for, and what still comes in is dropped: closing with unread bytes
        # would reset the connection before the peer has read the answer
        if self._deaf:
            return
        self._deaf = True
        self._data.clear()
        self.factory.forget(self)
        deadlines.start(self)
        self.transport.unregisterProducer()
        half_close(self.transport)

    def abort(self) -> None:
        """Drop the connection."""
        self.transport.abortConnection()

    def too_slow(self) -> None:
        """A head or a body did not arrive whole in time. A peer that said nothing is told nothing."""
        if self._data or self._body is not None:
            self._refuse(too_slow())
        else:
            self.abort()


def bound_unsent(listening: Any) -> None:
    """Let the kernel hold no more than `UNSENT` bytes for whoever connects to this socket."""
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if listening is not None and option is not None:
        with contextlib.suppress(OSError):  # a socket of systemd's may be no TCP socket
            listening.setsockopt(socket.IPPROTO_TCP, option, UNSENT)


class DoorFactory(Factory):
    """Makes a `Door` for each connection; their deadlines and their number.

    :param upgrades: `IUpgrade`s by path, such as ``/socket.io``, without a slash at the end.
    :param head_timeout: seconds for a head to arrive whole, from its first byte, or from the
        connection's beginning.
    :param body_timeout: seconds for a request's body to arrive whole.
    :param strangers: connections that have not carried a session, at most.
    :param strangers_per_address: of those, from one address at most.
    :param max_sockets: connections that are not WebSockets, strangers or not, at most.
    :param proxies: those that are believed when they tell a client's address.
    :param proxy_protocol: whether their connections begin with the PROXY protocol.
    :param reception: says when there is time for strangers.
    :ivar neighbours: the other workers of this node; None where there are none.
    """

    noisy = False

    def __init__(
        self,
        *,
        clock: IReactorTime,
        site: Site,
        upgrades: Mapping[str, Any],
        websockets: WebSockets,
        head_timeout: float,
        body_timeout: float,
        idle_timeout: float = IDLE,
        strangers: int = 4096,
        strangers_per_address: int = 2048,
        max_sockets: int = 65536,
        proxies: Proxies | None = None,
        proxy_protocol: bool = False,
        reception: Reception | None = None,
    ) -> None:
        self.site = site
        self.headers = b"".join(b"%b: %b\r\n" % header for header in site.headers)
        self.reception = Reception(clock) if reception is None else reception
        self.neighbours: Neighbours | None = None
        self.proxies = Proxies() if proxies is None else proxies
        self._proxy_protocol = proxy_protocol
        self.websockets = websockets
        self.upgrades = {path.encode().rstrip(b"/"): upgrade for path, upgrade in upgrades.items()}
        self.heads: Deadlines[Door] = Deadlines(clock, head_timeout, Door.too_slow)
        self.bodies: Deadlines[Door] = Deadlines(clock, body_timeout, Door.too_slow)
        self.drains: Deadlines[Door] = Deadlines(clock, DRAIN, Door.abort)
        self._idle: Deadlines[Door] = Deadlines(clock, idle_timeout, Door.abort)
        self.lingering: Deadlines[Door] = Deadlines(clock, LINGER, Door.abort)
        self._max_sockets = max_sockets
        self._sockets = 0
        self._strangers: Strangers[Door] = Strangers(strangers, strangers_per_address)

    @property
    def sockets(self) -> int:
        """How many connections are here that are no WebSockets."""
        return self._sockets

    @property
    def strangers(self) -> int:
        """How many of them have not carried a session."""
        return len(self._strangers)

    def buildProtocol(self, addr: IAddress | None) -> Door | None:  # type: ignore[override]
        """A door, unless there are too many connections."""
        if self._sockets >= self._max_sockets:
            return None
        door = Door(_host(addr))
        door.factory = self
        return door

    def arrived(self, door: Door) -> None:
        """A connection was made: it is a stranger, and another may have to make room for it."""
        self._sockets += 1
        self.join_strangers(door)

    def ready(self, door: Door) -> bool:
        """Whether there is time for what the connection has sent; there is always for one that is known."""
        return door not in self._strangers or self.reception.ready()

    def introduces(self, address: str) -> bool:
        """Whether a connection from this address begins with the PROXY protocol."""
        return self._proxy_protocol and self.proxies.trusts(address)

    def join_strangers(self, door: Door) -> None:
        """The connection is a stranger, of its address; a proxy's are each of an address of their own."""
        address = block_of(door.address)
        if self.proxies.trusts(door.address):
            address = f"{address} {id(door)}"
        evicted = self._strangers.add(door, address)
        if evicted is not None:
            evicted.abort()

    def leave_strangers(self, door: Door) -> None:
        """The connection is no stranger, or of another address."""
        self._strangers.remove(door)

    def prove(self, door: Door) -> None:
        """The connection is no stranger any more."""
        self.leave_strangers(door)

    def begins(self, door: Door) -> None:
        """Part of a head has come."""
        self._idle.cancel(door)
        if door not in self.heads:
            self.heads.start(door)

    def read(self, door: Door) -> None:
        """A head has come whole."""
        self._idle.cancel(door)
        self.heads.cancel(door)

    def rests(self, door: Door) -> None:
        """The connection waits for its next request."""
        self._idle.start(door)

    def left(self, door: Door) -> None:
        """The connection is gone, or a WebSocket by now."""
        self._sockets -= 1
        self.forget(door)
        self.lingering.cancel(door)
        self.prove(door)

    def forget(self, door: Door) -> None:
        """Nothing more is expected of the connection."""
        for deadlines in (self.heads, self.bodies, self.drains, self._idle):
            deadlines.cancel(door)
