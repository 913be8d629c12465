"""The client port over real sockets: what only the operating system's TCP shows."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from realtime.errors import Close
from realtime.transport.door import DoorFactory
from realtime.transport.engine import EngineServer, EngineSocket
from realtime.transport.origins import Origins
from realtime.transport.polling import PollingResource
from realtime.transport.site import Site
from realtime.transport.websocket import WebSockets
from realtime.wire.session import Frame

from .peer import CLOSE, Recorder, frame

OPEN = "GET /engine.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\n\r\n"
UPGRADE = (
    "GET /engine.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class Client(Protocol):
    """Keeps what it reads; tells when something is there, and when the connection ends."""

    def __init__(self) -> None:
        self.data = b""
        self.ended: Deferred[None] = Deferred()
        self._waiting: list[tuple[bytes, Deferred[bytes]]] = []

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        for waited in list(self._waiting):
            if waited[0] in self.data:
                self._waiting.remove(waited)
                waited[1].callback(self.data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended.callback(None)

    def until(self, text: bytes) -> Deferred[bytes]:
        """All that was read, once this is in it."""
        waiting: Deferred[bytes] = Deferred()
        self._waiting.append((text, waiting))
        self.dataReceived(b"")
        return waiting


class PortTests(TestCase):
    timeout = 60

    async def start(self, **options: Any) -> None:
        self.recorders: list[Recorder] = []
        self.told: Deferred[str] = Deferred()
        clock: Any = reactor
        self.engine = EngineServer(
            clock=clock,
            ping_interval=25.0,
            ping_timeout=20.0,
            max_payload=100_000,
            max_queue_bytes=options.get("max_queue_bytes", 1_000_000),
            origins=Origins([]),
            accept=self.accept,
        )
        self.websockets = WebSockets(clock, max_message=100_000, message_timeout=10.0)
        self.factory = DoorFactory(
            clock=clock,
            site=Site({"/engine.io": PollingResource(self.engine)}),
            upgrades={"/engine.io": self.engine},
            websockets=self.websockets,
            head_timeout=5.0,
            body_timeout=10.0,
        )
        endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        self.port = await endpoint.listen(self.factory)
        self.clients: list[Client] = []
        self.addCleanup(self.finish)

    async def finish(self) -> None:
        await self.port.stopListening()
        for client in self.clients:
            client.transport.abortConnection()  # type: ignore[union-attr]
            await client.ended
        while self.factory.sockets or self.websockets.countConnections:
            await deferLater(reactor, 0)
        for socket in list(self.engine.sessions.values()):
            socket.end("test")

    def accept(self, socket: EngineSocket) -> Recorder:
        recorder = Recorder(socket)
        recorder.closed = self.told.callback  # type: ignore[method-assign]
        self.recorders.append(recorder)
        return recorder

    async def connect(self, text: str = "") -> Client:
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.port.getHost().port)
        client = await connectProtocol(endpoint, Client())
        self.clients.append(client)
        client.transport.write(text.encode())  # type: ignore[union-attr]
        return client

    async def opened(self) -> tuple[Client, EngineSocket]:
        client = await self.connect(UPGRADE)
        await client.until(b'"maxPayload"')
        return client, self.recorders[-1].socket

    async def test_a_refusal_is_read_although_the_body_was_not(self) -> None:
        await self.start()
        for _ in range(5):
            client = await self.connect(
                OPEN.replace("GET", "POST").replace("x\r\n", "x\r\nContent-Length: 3000000\r\n", 1)
                + "x" * 3_000_000
            )
            await client.until(b"the request body is too large")

    async def test_options_of_the_socket(self) -> None:
        """Autobahn's own attempt to set TCP_NODELAY fails silently."""
        await self.start()
        doors = []
        make = self.factory.buildProtocol

        def build(address: Any) -> Any:
            doors.append(make(address))
            return doors[-1]

        self.factory.buildProtocol = build  # type: ignore[method-assign]
        await self.opened()
        transport = doors[0].transport
        assert ITCPTransport.providedBy(transport)
        self.assertTrue(transport.getTcpNoDelay())
        self.assertTrue(transport.getTcpKeepAlive())

    async def test_an_aborted_poll_is_noticed(self) -> None:
        await self.start()
        client = await self.connect(OPEN)
        data = await client.until(b"maxPayload")
        sid = json.loads(data.partition(b"\r\n\r\n0")[2])["sid"]
        client.transport.write(OPEN.replace("polling", f"polling&sid={sid}").encode())  # type: ignore[union-attr]
        other = await self.connect(OPEN)
        await other.until(b"maxPayload")
        self.told = Deferred()
        self.recorders[0].closed = self.told.callback  # type: ignore[method-assign]
        client.transport.abortConnection()  # type: ignore[union-attr]
        self.assertEqual(await self.told, "transport_error")

    async def test_a_peer_that_closes_and_stays(self) -> None:
        """It does not read what it was sent: the socket is gone all the same, soon."""
        await self.start(max_queue_bytes=20_000_000)
        client, socket = await self.opened()
        client.transport.pauseProducing()  # type: ignore[union-attr]
        for _ in range(100):
            socket.write(Frame(b"4" + b"x" * 99_999))
        client.transport.write(frame(CLOSE, b"\x03\xe8"))  # type: ignore[union-attr]
        began = reactor.seconds()  # type: ignore[attr-defined]
        await self.told
        self.assertLess(reactor.seconds() - began, 10)  # type: ignore[attr-defined]

    async def test_a_slow_consumer_is_closed(self) -> None:
        await self.start()
        client, socket = await self.opened()
        client.transport.pauseProducing()  # type: ignore[union-attr]
        for _ in range(200):
            socket.write(Frame(b"4" + b"x" * 99_999))
            await deferLater(reactor, 0)
        self.assertEqual(await self.told, "slow_consumer")

    async def test_a_slow_consumer_that_reads_on_is_told(self) -> None:
        await self.start()
        client, socket = await self.opened()
        client.transport.pauseProducing()  # type: ignore[union-attr]
        while not socket.closing:
            socket.write(Frame(b"4" + b"x" * 99_999))
            await deferLater(reactor, 0)
        client.transport.resumeProducing()  # type: ignore[union-attr]
        await client.until((4003).to_bytes(2, "big") + b"slow_consumer")
        client.transport.write(frame(CLOSE, (4003).to_bytes(2, "big")))  # type: ignore[union-attr]
        self.assertEqual(await self.told, "slow_consumer")

    async def test_a_long_replay(self) -> None:
        """Paced by the transport: it holds no more than its mark, and nothing is lost."""
        await self.start()
        client, socket = await self.opened()
        client.transport.pauseProducing()  # type: ignore[union-attr]
        socket.replay(Frame(b"4%07d" % number + b"x" * 50_000) for number in range(200))
        socket.write(Frame(b"4last"))
        self.assertLess(socket.buffered, 100)
        client.transport.resumeProducing()  # type: ignore[union-attr]
        data = await client.until(b"4last")
        self.assertEqual([data.find(b"4%07d" % number) > 0 for number in range(200)], [True] * 200)

    async def test_closing_delivers_what_was_written(self) -> None:
        await self.start(max_queue_bytes=20_000_000)
        client, socket = await self.opened()
        for _ in range(50):
            socket.write(Frame(b"4" + b"x" * 99_999))
        socket.write(Frame(b"441"))
        socket.close(Close.KICKED)
        data = await client.until((4501).to_bytes(2, "big") + b"kicked")
        self.assertIn(b"\x81\x03441", data)
        client.transport.write(frame(CLOSE, (4501).to_bytes(2, "big")))  # type: ignore[union-attr]
        self.assertEqual(await self.told, "kicked")
        await client.ended
