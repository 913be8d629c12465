"""Batches: what many WebSockets get alike leaves at once, and each gets all in its order."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from realtime.connections import IBatch, IFlushed, IFlusher, IOutlet
from realtime.errors import Close
from realtime.native import loop, pure
from realtime.transport.batch import Batch
from realtime.transport.direct_write import EARLY
from realtime.wire.session import Frame

from .peer import PING, PONG, TEXT, World, frame
from .test_flusher import LiveSockets


class BatchTests(SynchronousTestCase):
    """`Batch`, over WebSockets in memory."""

    def setUp(self) -> None:
        self.world = World(max_queue_bytes=10 * EARLY)
        sessions = [self.world.websocket() for _ in range(3)]
        self.peers = [peer for peer, _ in sessions]
        self.outlets = [recorder.socket for _, recorder in sessions]
        self.batch = self.fresh()

    def fresh(self) -> Batch:
        """A batch to which all that can be are attached."""
        batch = self.world.websockets.flusher.batch()
        self.attached = [outlet.attach(batch) for outlet in self.outlets]
        return batch

    def add(self, text: str) -> None:
        """Send to all, as the fan-out does."""
        sent = Frame(b"4" + text.encode())
        for outlet in self.batch.add(sent.websocket):
            outlet.write(sent)

    def said(self) -> list[list[str]]:
        return [[text[1:] for text in peer.said()] for peer in self.peers]

    def test_interfaces(self) -> None:
        verifyObject(IBatch, self.batch)
        verifyObject(IFlushed, self.batch)
        verifyObject(IFlusher, self.world.websockets.flusher)
        verifyObject(IOutlet, self.outlets[0])

    def test_at_the_end_of_the_turn(self) -> None:
        """All leaves at once when the turn ends; what is alone is not copied."""
        writes: list[bytes] = []
        self.peers[0].wire.write = writes.append
        self.add("a")
        self.add("b")
        self.assertEqual((writes, self.batch.over), ([], False))
        self.world.turn()
        self.assertEqual((len(writes), self.batch.over), (1, True))
        self.assertEqual(self.said()[1:], [["a", "b"]] * 2)
        self.batch = self.fresh()
        shared = Frame(b"4c")
        self.batch.add(shared.websocket)
        self.world.turn()
        self.assertIs(writes[1], shared.websocket)

    def test_order(self) -> None:
        """What one gets beside takes its place between what all get."""
        self.add("a")
        self.outlets[1].write(Frame(b"4own"))
        self.add("b")
        self.outlets[1].write(Frame(b"4more"))
        self.add("c")
        self.assertEqual(self.said(), [[*"abc"], ["a", "own", "b", "more", "c"], [*"abc"]])

    def test_pong(self) -> None:
        """What Autobahn writes itself does so, too."""
        self.add("a")
        self.peers[0].send(frame(PING, b"?"))
        self.add("b")
        self.assertEqual([opcode for opcode, _ in self.peers[0].frames()], [TEXT, PONG, TEXT])
        self.assertEqual(self.said()[1:], [[*"ab"]] * 2)

    def test_detached(self) -> None:
        """Who is not to get the next one gets those before it."""
        self.add("a")
        self.outlets[0].detach(self.batch)
        self.outlets[0].detach(self.batch)
        self.batch.add(Frame(b"4b").websocket)
        self.assertEqual(self.said(), [["a"], [*"ab"], [*"ab"]])

    def test_all_departed(self) -> None:
        for outlet in self.outlets:
            outlet.write(Frame(b"4own"))
        self.add("a")
        self.assertEqual(self.said(), [["own", "a"]] * 3)

    def test_two_batches(self) -> None:
        """Who is attached to one can't be to another."""
        self.add("a")
        other = self.world.websockets.flusher.batch()
        self.assertEqual([outlet.attach(other) for outlet in self.outlets], [False] * 3)
        self.assertEqual(other.add(b"x"), ())
        self.assertEqual(self.said(), [["a"]] * 3)

    def test_who_can_be_attached(self) -> None:
        """Nobody that has something to be sent before, is closed, is full, or polls."""
        self.world.turn()
        self.outlets[0].write(Frame(b"4x"))
        self.peers[1].wire.stalled = True
        self.outlets[1].write(Frame(b"4" + b"x" * 2 * EARLY))
        self.outlets[2].close(Close.KICKED)
        self.fresh()
        self.assertEqual(self.attached, [False] * 3)
        poller = self.world.poller()
        batch = self.world.websockets.flusher.batch()
        self.assertFalse(poller.socket.attach(batch))
        poller.socket.detach(batch)

    def test_closed(self) -> None:
        """What was added before comes before the close, and nothing after it."""
        self.add("a")
        self.outlets[0].close(Close.KICKED)
        self.add("b")
        frames = self.peers[0].frames()
        self.assertEqual([payload for opcode, payload in frames if opcode == TEXT], [b"4a"])
        self.assertEqual(self.said()[1:], [[*"ab"]] * 2)

    def test_gone(self) -> None:
        """A peer that leaves within the turn is written to no more, and costs the others nothing."""
        self.add("a")
        self.peers[0].wire.hang_up()
        self.add("b")
        self.assertEqual(self.said(), [[], [*"ab"], [*"ab"]])

    def test_a_transport_that_fails(self) -> None:
        def fail(data: bytes) -> None:
            raise OSError("gone")

        self.peers[0].wire.write = fail
        self.add("a")
        self.world.turn()
        self.assertEqual(self.said()[1:], [["a"]] * 2)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_much_leaves_before_the_end(self) -> None:
        self.add("x" * (EARLY // 2))
        self.add("y" * (EARLY // 2))
        self.assertTrue(self.batch.over)
        self.batch = self.fresh()
        self.assertEqual(self.attached, [True] * 3)
        self.add("z")
        self.assertEqual([[text[0] for text in texts] for texts in self.said()], [[*"xyz"]] * 3)

    def test_full_by_the_last_turn(self) -> None:
        """Who does not read is written to by its own queue from then on."""
        self.peers[0].wire.stalled = True
        self.add("x" * 2 * EARLY)
        self.world.turn()
        self.batch = self.fresh()
        self.assertEqual(self.attached, [False, True, True])


class SocketTests(LiveSockets):
    """Real TCP connections, by both loops."""

    async def _sent(self, send: Any) -> None:
        """All get all: at once, late, or behind what waits; who is gone harms nobody."""
        transports, clients = zip(*[await self.connect() for _ in range(4)], strict=True)
        first, data = b"before", bytes(range(256)) * 32768
        transports[2].write(first)
        gone = transports[3]
        gone.abortConnection()
        batch = Batch(send)
        riders = [Rider(transport) for transport in transports]
        for rider in riders:
            rider._turn = batch
            batch.board(rider)
        batch._frames = [data]
        batch.flush()
        self.assertEqual([rider._turn for rider in riders], [None] * 4)
        for client, wanted in zip(clients, (data, data, first + data), strict=False):
            self.assertEqual(await self.read(client, len(wanted)), wanted)

    async def test_pure(self) -> None:
        await self._sent(pure.send_to_all)

    async def test_native(self) -> None:
        await self._sent(loop.choose(True)[1])


class Rider:
    """As much of a WebSocket as a batch looks at."""

    def __init__(self, transport: Any) -> None:
        self.transport = transport
        self._turn: Any = None
