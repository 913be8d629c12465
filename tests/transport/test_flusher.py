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

from realtime.errors import Close
from realtime.transport.flusher import EARLY, Flusher, idle, write
from realtime.wire.session import Frame

from .peer import CLOSE, PING, PONG, TEXT, World, frame


class FlusherTests(SynchronousTestCase):
    """`Flusher`."""

    def test_at_the_end_of_the_turn(self) -> None:
        """Who was added is flushed once the turn ends, and only then."""
        clock, flushed = Clock(), []

        class One:
            def flush(self) -> None:
                flushed.append(self)

        flusher, one, two = Flusher(clock), One(), One()
        flusher.add(one)
        flusher.add(two)
        self.assertEqual((flushed, len(clock.getDelayedCalls())), ([], 1))
        clock.advance(0)
        self.assertEqual(flushed, [one, two])
        clock.advance(0)
        self.assertEqual(len(flushed), 2)

    def test_interval(self) -> None:
        """What comes alone leaves with its turn; what follows soon leaves together, a little later."""
        clock, flushed = Clock(), []

        class One:
            def flush(self) -> None:
                flushed.append(clock.seconds())

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
            def flush(self) -> None:
                raise OSError("gone")

        class Whole:
            def flush(self) -> None:
                flushed.append(self)

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


class IntervalTests(SynchronousTestCase):
    """WS_BATCH_INTERVAL, over a WebSocket and by long-polling."""

    def setUp(self) -> None:
        self.world = World(batch_interval=0.05)
        self.world.clock.advance(10)

    def test_websocket(self) -> None:
        peer, recorder = self.world.websocket()
        self.world.clock.advance(1)
        recorder.socket.write(Frame(b"4a"))
        self.assertEqual(peer.said(), ["4a"])
        for text in (b"4b", b"4c"):
            recorder.socket.write(Frame(text))
            self.world.clock.advance(0.02)
            self.assertEqual(peer.said(), [])
        recorder.socket.write(Frame(b"4d"))
        self.world.clock.advance(0.011)
        self.assertEqual(peer.said(), ["4b", "4c", "4d"])

    def test_close(self) -> None:
        """What was written before a close leaves before it."""
        peer, recorder = self.world.websocket()
        recorder.socket.write(Frame(b"4a"))
        recorder.socket.close(Close.DRAIN)
        self.assertEqual([opcode for opcode, _ in peer.frames()], [TEXT, CLOSE])

    def test_polling(self) -> None:
        poller = self.world.poller()
        self.assertIsNone(poller.poll())
        poller.socket.write(Frame(b"4a"))
        answer = poller.fetched()
        assert answer is not None
        self.assertEqual(answer.body, b"4a")
        self.assertIsNone(poller.poll())
        for text in (b"4b", b"4c"):
            poller.socket.write(Frame(text))
            self.world.clock.advance(0.02)
            self.assertIsNone(poller.fetching.answer())
        self.world.clock.advance(0.011)
        answer = poller.fetching.answer()
        assert answer is not None
        self.assertEqual(answer.body, b"4b\x1e4c")


class SocketTests(TestCase):
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
        wanted = len(big) + len(b"the end")
        got = bytearray()
        client.setblocking(False)
        while len(got) < wanted:
            try:
                got += client.recv(1 << 20)
            except BlockingIOError:
                turned: Deferred[None] = Deferred()
                reactor.callLater(0, turned.callback, None)
                await turned
        self.assertEqual(bytes(got), big + b"the end")
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
