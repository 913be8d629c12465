"""The proxy of these tests cuts as it says, so that what they show of the service can be believed."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.internet.protocol import ServerFactory
from twisted.protocols.wire import Echo
from twisted.trial.unittest import TestCase

from .children import Late
from .proxy import Proxy
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
        self.proxy = Proxy(port.getHost().port)
        self.addCleanup(self.proxy.stop)

    async def _open(self) -> Raw:
        raw = await Raw.open(int(self.proxy.url.rpartition(":")[2]), b"hello")
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
