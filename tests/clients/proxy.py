"""A TCP proxy between a client and the service that cuts their connections as bad networks do."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import ClientFactory, Protocol, ServerFactory
from twisted.python.failure import Failure

from .children import DEADLINE, Late, within


class _Side(Protocol):
    """One side of a proxied connection. A silent one takes nothing and gives nothing."""

    transport: ITCPTransport

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.other: _Side | None = None
        self.silent = False

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self.proxy.sides.add(self)

    def take(self, data: bytes) -> None:
        """Send on what the other side received."""
        if not self.silent:
            self.transport.write(data)

    def gone(self) -> None:
        """The other side ended."""
        if not self.silent:
            self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        if not self.silent and self.other is not None:
            self.other.take(data)

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.proxy.lost(self)
        if self.other is not None:
            self.other.gone()


class _ToClient(_Side):
    def connectionMade(self) -> None:
        super().connectionMade()
        if self.proxy.broken:
            self.transport.abortConnection()
            return
        self.transport.pauseProducing()
        reactor.connectTCP("127.0.0.1", self.proxy.target, _Onward(self), timeout=10)

    def take(self, data: bytes) -> None:
        if self.silent:
            return
        size = self.proxy.let_through(len(data))
        super().take(data[:size])
        if size < len(data):
            self.proxy.cut(flush=True)


class _ToService(_Side):
    pass


class _Onward(ClientFactory):
    """Connects the service to a client's side."""

    noisy = False

    def __init__(self, client: _ToClient) -> None:
        self.client = client

    def buildProtocol(self, address: object) -> _ToService | None:
        if self.client not in self.client.proxy.sides:
            return None
        side = _ToService(self.client.proxy)
        side.other, self.client.other = self.client, side
        self.client.transport.resumeProducing()
        return side

    def clientConnectionFailed(self, connector: object, reason: Failure) -> None:
        self.client.transport.abortConnection()


class Proxy:
    """Listens on a free port of 127.0.0.1 and carries all to another port there.

    :param target: that port.
    :ivar broken: whether it carries nothing and resets whoever connects.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.broken = False
        self.sides: set[_Side] = set()
        self._left: int | None = None
        self._full: Deferred[None] = Deferred()
        self._emptied: Deferred[None] | None = None
        factory = ServerFactory()
        factory.noisy = False
        factory.buildProtocol = lambda address: _ToClient(self)
        self._port = reactor.listenTCP(0, factory, interface="127.0.0.1")

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port.getHost().port

    @property
    def url(self) -> str:
        """Where the service seems to be."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def silent(self) -> int:
        """How many sockets the service still holds of those that were cut without its knowing."""
        return sum(side.silent for side in self.sides)

    def cut(self, *, told: bool = True, flush: bool = False) -> None:
        """End all connections without a word, and be `broken`.

        :param told: whether the service learns of it; if not, its sockets stay open and silent.
        :param flush: whether clients still get what is on its way to them.
        """
        self.broken = True
        sides = list(self.sides)
        for side in sides:
            side.silent = True
        for side in sides:
            if isinstance(side, _ToClient) and flush:
                side.transport.loseConnection()
            elif isinstance(side, _ToClient) or told:
                side.transport.abortConnection()

    def freeze(self) -> None:
        """Carry nothing more over the present connections, which stay open on both sides."""
        for side in self.sides:
            side.silent = True

    async def cut_after(self, size: int, seconds: float) -> None:
        """Let `size` more bytes through to clients, then `cut`; at the latest after some seconds."""
        self._left, self._full = size, Deferred()
        try:
            await within(seconds, self._full, lambda: f"{size} bytes")
        except Late:
            self._left = None
            self.cut()

    def mend(self) -> None:
        """Carry new connections again."""
        self.broken = False

    def let_through(self, size: int) -> int:
        """How many of so many bytes may go on to a client; less than all if this is the cut."""
        if self._left is None:
            return size
        if size <= self._left:
            self._left -= size
            return size
        left, self._left = self._left, None
        reactor.callLater(0, self._full.callback, None)
        return left

    def lost(self, side: _Side) -> None:
        """A side ended."""
        self.sides.discard(side)
        if not self.sides and self._emptied is not None:
            emptied, self._emptied = self._emptied, None
            emptied.callback(None)

    async def stop(self) -> None:
        """Listen no more and drop all."""
        await self._port.stopListening()
        if self.sides:
            self._emptied = Deferred()
            for side in list(self.sides):
                side.transport.abortConnection()
            await within(DEADLINE, self._emptied, lambda: "the proxy's connections to end")
