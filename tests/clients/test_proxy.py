"""The proxy of these tests cuts as it says, so that what they show of the service can be believed."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.internet.protocol import ServerFactory
from twisted.protocols.wire import Echo
from twisted.trial.unittest import TestCase

from .children import Late
from .proxy import Balancer, Proxy
from .raw import Raw


class Server(Echo):
    """Says back what it gets; its factory counts how many of them are connected."""

    def connectionMade(self) -> None:
        self.factory.connected.add(self)

    def connectionLost(self, reason: object = None) -> None:
        self.factory.connected.discard(self)


class ProxyTests(TestCase):
    """A raw client, the proxy, and an echo server."""

    timeout = 60

    def setUp(self) -> None:
        self.factory = ServerFactory.forProtocol(Server)
        self.factory.noisy = False
        self.factory.connected = set()
        port = reactor.listenTCP(0, self.factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.port = port.getHost().port
        self.proxy = Proxy(self.port)
        self.addCleanup(self.proxy.stop)

    async def _open(self) -> Raw:
        raw = await Raw.open(self.proxy.port, b"hello")
        self.addCleanup(raw.drop)
        return raw

    async def test_carries(self) -> None:
        """All goes through, both ways, until the client leaves; then the service is told."""
        raw = await self._open()
        raw.send(b"x" * 300_000 + b"!")
        self.assertEqual(await raw.until(b"!"), b"hello" + b"x" * 300_000 + b"!")
        (server,) = self.factory.connected
        raw.drop()
        other = await self._open()
        await other.until(b"hello")
        self.assertNotIn(server, self.factory.connected)

    async def test_cut(self) -> None:
        """A cut ends both sides; nobody gets through until it is mended."""
        raw = await self._open()
        await raw.until(b"hello")
        self.proxy.cut()
        await raw.until_closed()
        broken = await self._open()
        self.assertEqual(await broken.until_closed(), b"")
        self.proxy.mend()
        again = await self._open()
        await again.until(b"hello")
        self.assertEqual(len(self.factory.connected), 1)

    async def test_silent_cut(self) -> None:
        """A cut of which the service is not told leaves its side open, and silent."""
        raw = await self._open()
        await raw.until(b"hello")
        self.proxy.cut(told=False)
        await raw.until_closed()
        self.proxy.mend()
        await (await self._open()).until(b"hello")
        self.assertEqual(len(self.factory.connected), 2)

    async def test_cut_after(self) -> None:
        """Exactly so many bytes get through."""
        raw = await self._open()
        await raw.until(b"hello")
        raw.send(b"0123456789")
        await self.proxy.cut_after(4, 10)
        self.assertEqual(await raw.until_closed(), b"0123")
        self.proxy.mend()
        raw = await self._open()
        await raw.until(b"hello")
        with self.assertRaises(Late):
            await raw.until(b"more", 0.05)
        await self.proxy.cut_after(4, 0.05)
        self.assertEqual(await raw.until_closed(), b"")

    async def test_drop(self) -> None:
        """What is dropped is gone, both ends stay open and hear nothing; a new connection works."""
        raw, other = await self._open(), await self._open()
        await raw.until(b"hello")
        await other.until(b"hello")
        ports = {server.transport.getPeer().port for server in self.factory.connected}
        self.assertEqual(self.proxy.drop(ports.pop()), 1)
        raw.send(b"lost")
        other.send(b"lost")
        heard = 0
        for one in (raw, other):
            try:
                await one.until(b"lost", 0.1)
            except Late:
                self.assertFalse(one.closed)
            else:
                heard += 1
        self.assertEqual(heard, 1, "only the chosen connection is dropped")
        self.assertEqual(self.proxy.drop(), 2)
        other.send(b"gone")
        with self.assertRaises(Late):
            await other.until(b"gone", 0.05)
        await (await self._open()).until(b"hello")
        self.assertEqual(len(self.factory.connected), 3)

    async def test_freeze(self) -> None:
        """Nothing goes through while it is frozen, for new connections neither; then all of it does."""
        raw = await self._open()
        await raw.until(b"hello")
        self.assertEqual(self.proxy.freeze(), 1)
        raw.send(b"later")
        new = await self._open()
        for one, text in ((raw, b"later"), (new, b"hello")):
            with self.assertRaises(Late):
                await one.until(text, 0.05)
        self.proxy.thaw()
        self.assertEqual(await raw.until(b"later"), b"later")
        await new.until(b"hello")

    async def test_delay(self) -> None:
        """Everything comes later, in order, and all that was said before the end comes too."""
        self.proxy.delay = 0.1
        raw = await self._open()
        began = reactor.seconds()
        for part in range(10):
            raw.send(b"%d" % part)
        raw.send(b"!")
        self.assertEqual(await raw.until(b"!"), b"hello0123456789!")
        self.assertGreater(reactor.seconds() - began, 0.15)

    async def test_balancer(self) -> None:
        """Connections go to the nodes in turn, and pass by those that do not listen."""
        other = reactor.listenTCP(0, self.factory, interface="127.0.0.1")
        balancer = Balancer([self.port, other.getHost().port])
        self.addCleanup(balancer.stop)
        for _ in range(4):
            raw = await Raw.open(balancer.port, b"hello")
            self.addCleanup(raw.drop)
            await raw.until(b"hello")
        ports = [server.transport.getHost().port for server in self.factory.connected]
        self.assertCountEqual(ports, [self.port, other.getHost().port] * 2)
        await other.stopListening()
        for _ in range(2):
            raw = await Raw.open(balancer.port, b"hello")
            self.addCleanup(raw.drop)
            await raw.until(b"hello")
        balancer.targets = []
        raw = await Raw.open(balancer.port)
        self.assertEqual(await raw.until_closed(), b"")
