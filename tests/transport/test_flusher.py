"""The flusher: one write per socket and turn, straight to a socket whose transport holds nothing."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase, TestCase

from realtime.transport.direct_write import EARLY, idle, write
from realtime.transport.flusher import Flusher
from realtime.wire.session import Frame

from .peer import PING, PONG, TEXT, World, frame


class FlusherTests(SynchronousTestCase):
    """`Flusher`."""

    def test_at_the_end_of_the_turn(self) -> None:
        """Who was added is flushed once the turn ends, and only then."""
        clock, flushed = Clock(), []
        counts: list[int] = []

        class One:
            def flush(self) -> int:
                flushed.append(self)
                return 1

        flusher, one, two = Flusher(clock, flushed=counts.append), One(), One()
        flusher.add(one)
        flusher.add(two)
        self.assertEqual((flushed, len(clock.getDelayedCalls())), ([], 1))
        clock.advance(0)
        self.assertEqual(flushed, [one, two])
        clock.advance(0)
        self.assertEqual((len(flushed), counts), (2, [2]))

    def test_interval(self) -> None:
        """What comes alone leaves with its turn; what follows soon leaves together, a little later."""
        clock, flushed = Clock(), []

        class One:
            def flush(self) -> int:
                flushed.append(clock.seconds())
                return 1

        clock.advance(100)
        flusher, one = Flusher(clock, 0.02), One()
        flusher.add(one)
        clock.advance(0)
        self.assertEqual(flushed, [100])
        for _ in range(5):
            clock.advance(0.003)
            flusher.add(one)
        self.assertEqual(flushed, [100])
        clock.advance(0.005)
        self.assertEqual(flushed[1:], [clock.seconds()] * 5)
        clock.advance(0.02)
        flusher.add(one)
        clock.advance(0)
        self.assertEqual(flushed[-1], clock.seconds(), "it was quiet since")

    def test_one_that_fails(self) -> None:
        """One broken transport does not cost the others their turn."""
        clock, flushed = Clock(), []

        class Broken:
            def flush(self) -> int:
                raise OSError("gone")

        class Whole:
            def flush(self) -> int:
                flushed.append(self)
                return 1

        flusher, whole = Flusher(clock), Whole()
        flusher.add(Broken())
        flusher.add(whole)
        clock.advance(0)
        self.assertEqual(flushed, [whole])
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_other_transports(self) -> None:
        """What is no plain TCP connection is written to as ever."""
        transport = StringTransport()
        self.assertFalse(idle(transport))
        write(transport, b"x")
        self.assertEqual(transport.value(), b"x")


class TurnTests(SynchronousTestCase):
    """A WebSocket's writes of one turn."""

    def setUp(self) -> None:
        self.world = World(max_queue_bytes=10 * EARLY)
        self.peer, self.recorder = self.world.websocket()
        self.writes: list[bytes] = []
        original = self.peer.wire.write

        def counted(data: bytes) -> None:
            self.writes.append(data)
            original(data)

        self.peer.wire.write = counted

    def send(self, *texts: str) -> None:
        for text in texts:
            self.recorder.socket.write(Frame(b"4" + text.encode()))

    def test_one_write(self) -> None:
        """However many messages a turn has, they leave in one write, in order."""
        self.send("a", "b", "c")
        self.assertEqual(self.writes, [])
        self.assertEqual(self.peer.said(), ["4a", "4b", "4c"])
        self.assertEqual(len(self.writes), 1)
        self.send("d")
        self.assertEqual(self.peer.said(), ["4d"])

    def test_one_message_is_not_copied(self) -> None:
        """A turn's only message leaves as the bytes that all its receivers share."""
        shared = Frame(b"4x")
        self.recorder.socket.write(shared)
        self.world.turn()
        self.assertIs(self.writes[0], shared.websocket)

    def test_much_leaves_before_the_end(self) -> None:
        """More than `EARLY` bytes do not wait for the end of the turn."""
        self.send("x" * (EARLY // 2), "y" * (EARLY // 2))
        self.assertEqual(len(self.writes), 1)
        self.send("z")
        self.assertEqual([text[1] for text in self.peer.said()], ["x", "y", "z"])

    def test_pong_keeps_its_place(self) -> None:
        """What Autobahn writes itself comes after what was written before it."""
        self.send("a")
        self.peer.send(frame(PING, b"?"))
        self.send("b")
        self.assertEqual([opcode for opcode, _ in self.peer.frames()], [TEXT, PONG, TEXT])

    def test_gone_before_the_end(self) -> None:
        """A peer that leaves within the turn is written to no more."""
        self.send("a")
        self.peer.wire.hang_up()
        self.world.turn()
        self.assertEqual(self.writes, [])


class LiveSockets(TestCase):
    """Real TCP connections."""

    async def connect(self) -> tuple[Any, socket.socket]:
        connected: Deferred[Protocol] = Deferred()

        class Server(Protocol):
            def connectionMade(self) -> None:
                connected.callback(self)

        port = reactor.listenTCP(0, Factory.forProtocol(Server), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        client = socket.create_connection(("127.0.0.1", port.getHost().port))
        self.addCleanup(client.close)
        client.settimeout(10)
        protocol = await connected
        self.addCleanup(protocol.transport.abortConnection)
        return protocol.transport, client

    async def read(self, client: socket.socket, size: int) -> bytes:
        """So many bytes, read while the reactor runs."""
        got = bytearray()
        client.setblocking(False)
        while len(got) < size:
            try:
                got += client.recv(1 << 20)
            except BlockingIOError:
                turned: Deferred[None] = Deferred()
                reactor.callLater(0, turned.callback, None)
                await turned
        return bytes(got)


class SocketTests(LiveSockets):
    """Writing to the socket itself."""

    async def test_direct(self) -> None:
        """An idle connection is written to at once, without the reactor."""
        transport, client = await self.connect()
        self.assertTrue(idle(transport))
        write(transport, b"at once")
        self.assertTrue(idle(transport))
        self.assertEqual(client.recv(100), b"at once")

    async def test_what_the_socket_does_not_take(self) -> None:
        """The rest is left to the transport, and later writes go behind it."""
        transport, client = await self.connect()
        big = bytes(range(256)) * 65536
        write(transport, big)
        self.assertFalse(idle(transport))
        write(transport, b"the end")
        wanted = big + b"the end"
        self.assertEqual(await self.read(client, len(wanted)), wanted)
        self.assertTrue(idle(transport))

    async def test_peer_gone(self) -> None:
        """A connection that was reset is met by the transport, which tells its protocol."""
        transport, client = await self.connect()
        lost: Deferred[Any] = Deferred()
        transport.protocol.connectionLost = lambda reason: lost.callback(None)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        for _ in range(1000):
            write(transport, b"x" * 1000)
            if not transport.connected:
                break
            turned: Deferred[None] = Deferred()
            reactor.callLater(0, turned.callback, None)
            await turned
        await lost
        self.assertFalse(idle(transport))
