"""TCP proxies that treat connections as bad networks do, and a balancer before several nodes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

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
        self._late: deque[bytes] = deque()

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
        if self.silent or self.other is None:
            return
        if self.proxy.delay or self._late:
            self._late.append(data)
            reactor.callLater(self.proxy.delay, self._pass_on)
        else:
            self.other.take(data)

    def _pass_on(self) -> None:
        if self._late and self.other is not None:
            self.other.take(self._late.popleft())

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.proxy.lost(self)
        while self._late:
            self._pass_on()
        if self.other is not None:
            self.other.gone()


class _ToClient(_Side):
    def connectionMade(self) -> None:
        super().connectionMade()
        if self.proxy.broken:
            self.transport.abortConnection()
            return
        self.transport.pauseProducing()
        if self.proxy.frozen:
            self.proxy.held.append(self)
        else:
            self.go_on()

    def go_on(self) -> None:
        """Connect onward."""
        self._try(list(self.proxy.choose()))

    def _try(self, ports: list[int]) -> None:
        if self not in self.proxy.sides:
            return
        if ports:
            onward = _Onward(self, lambda: self._try(ports[1:]))
            reactor.connectTCP("127.0.0.1", ports[0], onward, timeout=10)
        else:
            self.transport.abortConnection()

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

    def __init__(self, client: _ToClient, failed: Callable[[], None]) -> None:
        self.client = client
        self.failed = failed

    def buildProtocol(self, address: object) -> _ToService | None:
        if self.client not in self.client.proxy.sides:
            return None
        side = _ToService(self.client.proxy)
        side.other, self.client.other = self.client, side
        if not self.client.proxy.frozen:
            self.client.transport.resumeProducing()
        return side

    def clientConnectionFailed(self, connector: object, reason: Failure) -> None:
        self.failed()


class Proxy:
    """Listens on a free port of 127.0.0.1 and carries all to another port there.

    :param target: that port.
    :ivar broken: whether it carries nothing and resets whoever connects.
    :ivar frozen: whether it carries nothing and lets whoever connects wait.
    :ivar delay: seconds by which everything comes later, both ways.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.broken = False
        self.frozen = False
        self.delay = 0.0
        self.sides: set[_Side] = set()
        self.held: list[_ToClient] = []
        self._left: int | None = None
        self._full: Deferred[None] = Deferred()
        self._emptied: Deferred[None] | None = None
        factory = ServerFactory()
        factory.noisy = False
        factory.buildProtocol = lambda address: _ToClient(self)
        self._port = reactor.listenTCP(0, factory, backlog=1024, interface="127.0.0.1")

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._port.getHost().port
        return port

    @property
    def url(self) -> str:
        """Where the service seems to be."""
        return f"http://127.0.0.1:{self.port}"

    def choose(self) -> Sequence[int]:
        """The ports to which a new connection may be carried, the preferred one first."""
        return [self.target]

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

    def drop(self, port: int | None = None) -> int:
        """Swallow for ever what the present connections carry, and tell neither end; new ones are carried.

        :param port: only of the connection that comes to the service from this port.
        :returns: how many connections it were.
        """
        chosen = list(self._chosen(port))
        for side in chosen:
            side.silent = True
        return len(chosen) // 2

    def freeze(self, port: int | None = None) -> int:
        """Carry nothing until `thaw`, and tell nobody; nothing is lost. New connections wait.

        :param port: only that of the connection that comes to the service from this port.
        :returns: how many connections it were.
        """
        self.frozen = port is None
        chosen = list(self._chosen(port))
        for side in chosen:
            side.transport.pauseProducing()
        return len(chosen) // 2

    def thaw(self) -> None:
        """Carry on."""
        self.frozen = False
        for side in self.sides:
            if side.other is not None:
                side.transport.resumeProducing()
        held, self.held = self.held, []
        for side in held:
            side.go_on()

    def ports(self) -> set[int]:
        """The ports from which the present connections come to the service."""
        return {side.transport.getHost().port for side in self.sides if isinstance(side, _ToService)}

    def _chosen(self, port: int | None) -> Iterator[_Side]:
        for side in self.sides:
            if (
                isinstance(side, _ToService)
                and side.other is not None
                and port in (None, side.transport.getHost().port)
            ):
                yield from (side, side.other)

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


class Balancer(Proxy):
    """Carries each new connection to the next of several nodes; to another where one does not listen.

    :param targets: the nodes' ports; may be changed.
    """

    def __init__(self, targets: Sequence[int]) -> None:
        super().__init__(0)
        self.targets = list(targets)
        self._next = 0

    def choose(self) -> Sequence[int]:
        if not self.targets:
            return []
        self._next = (self._next + 1) % len(self.targets)
        return self.targets[self._next :] + self.targets[: self._next]
