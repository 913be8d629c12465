from __future__ import annotations

from typing import Any

from autobahn.websocket.protocol import WebSocketProtocol
from hypothesis import given, strategies
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from realtime.transport.websocket import (
    MAX_CONTROLS,
    MAX_FRAMES,
    PER_TURN,
    IWebSocketHandler,
    WebSocket,
    WebSockets,
    handshake,
)
from realtime.wire.request import BadRequest, parse

from ..generated import unhurried
from .peer import BINARY, CLOSE, KEY, PING, PONG, TEXT, Wire, frame


@implementer(IWebSocketHandler)
class Handler:
    """Keeps what it was told; fails at what it is asked to."""

    outlet = None

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.failing = ""
        self.websocket: WebSocket | None = None

    def _note(self, name: str, *values: Any) -> None:
        self.events.append((name, *values))
        if name == self.failing:
            raise ZeroDivisionError

    def opened(self, websocket: WebSocket) -> None:
        self.websocket = websocket
        self._note("opened")

    def received(self, data: str | bytes) -> None:
        self._note("received", data)

    def full(self) -> None:
        self._note("full")

    def drained(self) -> None:
        self._note("drained")

    def ponged(self) -> None:
        self._note("ponged")

    def lost(self, reason: str) -> None:
        self._note("lost", reason)

    @property
    def messages(self) -> list[str | bytes]:
        return [event[1] for event in self.events if event[0] == "received"]

    @property
    def ends(self) -> list[str]:
        return [event[1] for event in self.events if event[0] == "lost"]


def opening(*lines: bytes) -> bytes:
    """A head as the door hands it on."""
    return handshake(
        parse(
            b"\r\n".join(
                [
                    b"GET /engine.io/?token=secret HTTP/1.1",
                    b"Host: x",
                    b"Sec-WebSocket-Version: 13",
                    b"Sec-WebSocket-Key: " + KEY,
                    *lines,
                    b"",
                    b"",
                ]
            )
        )
    )


class Exchange(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.factory = WebSockets(self.clock, max_message=1000, message_timeout=10.0)
        self.handler = Handler()
        self.connect(self.factory.make(self.handler))

    def connect(self, websocket: WebSocket) -> None:
        self.websocket = websocket
        self.wire = Wire(self.clock, "192.0.2.1")
        self.wire.lost = websocket.connectionLost
        websocket.makeConnection(self.wire)

    def open(self) -> None:
        self.websocket.dataReceived(opening())
        self.head = self.wire.drain()

    def send(self, data: bytes) -> None:
        if self.wire.connected:
            self.websocket.dataReceived(data)

    def sent(self) -> list[tuple[int, bytes]]:
        """The frames of the server."""
        data, found = self.wire.drain(), []
        while data:
            size = data[1] & 127
            found.append((data[0] & 15, data[2 : 2 + size]))
            data = data[2 + size :]
        return found

    def code(self) -> int | None:
        """The code of the close frame that the server sent."""
        for opcode, payload in self.sent():
            if opcode == CLOSE:
                return int.from_bytes(payload[:2], "big")
        return None


class LifeTests(Exchange):
    """A WebSocket from its handshake to its end."""

    def test_little_of_its_own(self) -> None:
        """An open connection holds few attributes: what never changes is the class's."""
        self.open()
        self.websocket.send(frame(TEXT, b"x"))
        self.clock.advance(0)
        self.assertLess(len(vars(self.websocket)), 15)

    def test_handler(self) -> None:
        verifyObject(IWebSocketHandler, self.handler)

    def test_handshake(self) -> None:
        self.open()
        self.assertTrue(self.head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n"))
        self.assertIn(b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n", self.head)
        self.assertNotIn(b"Server:", self.head)
        self.assertEqual(self.handler.events, [("opened",)])

    def test_subprotocol(self) -> None:
        self.connect(self.factory.make(self.handler, "wamp.2.json"))
        self.websocket.dataReceived(
            handshake(parse(_ASKS + b"Sec-WebSocket-Protocol: wamp.2.json\r\n\r\n"), "wamp.2.json")
        )
        self.assertIn(b"Sec-WebSocket-Protocol: wamp.2.json\r\n", self.wire.drain())

    def test_nothing_of_the_request_is_handed_on_or_kept(self) -> None:
        raw = opening(b"Cookie: secret", b"Authorization: Bearer secret", b"X-Forwarded-For: secret")
        self.assertNotIn(b"secret", raw)
        self.open()
        self.assertFalse([name for name in vars(self.websocket) if name.startswith("http")])

    def test_compression_is_not_agreed_to(self) -> None:
        raw = opening(b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits")
        self.websocket.dataReceived(raw)
        self.assertNotIn(b"permessage", self.wire.drain())

    def test_what_is_no_handshake(self) -> None:
        base = b"GET / HTTP/1.1\r\nHost: x\r\n"
        key = b"Sec-WebSocket-Key: " + KEY + b"\r\n"
        for lines, status in (
            (b"Sec-WebSocket-Version: 13\r\n", 400),
            (b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short\r\n", 400),
            (b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + b"!" * 22 + b"==\r\n", 400),
            (key, 426),
            (b"Sec-WebSocket-Version: 8\r\n" + key, 426),
        ):
            with self.assertRaises(BadRequest) as caught:
                handshake(parse(base + lines + b"\r\n"))
            self.assertEqual(caught.exception.status, status)
        with self.assertRaises(BadRequest):
            handshake(parse(b"POST" + _ASKS[3:] + b"\r\n"))

    def test_messages(self) -> None:
        self.open()
        self.send(frame(TEXT, "hällo".encode()) + frame(BINARY, b"\x00\xff") + frame(TEXT))
        self.assertEqual(self.handler.messages, ["hällo", b"\x00\xff", ""])

    def test_a_message_in_frames(self) -> None:
        self.open()
        self.send(frame(TEXT, b"h\xc3", final=False) + frame(PING, b"x") + frame(0, b"\xa4", final=False))
        self.assertEqual(self.sent(), [(PONG, b"x")])
        self.send(frame(0, b"llo"))
        self.assertEqual(self.handler.messages, ["hällo"])

    def test_any_pieces(self) -> None:
        self.open()
        data = frame(TEXT, b"one") + frame(BINARY, b"x" * 300) + frame(TEXT, b"a", final=False) + frame(0)
        for place in range(len(data)):
            self.send(data[place : place + 1])
        self.assertEqual(self.handler.messages, ["one", b"x" * 300, "a"])

    def test_any_size(self) -> None:
        """Each way of writing a length, over each way of reading it."""
        self.factory = WebSockets(self.clock, max_message=100_000, message_timeout=10.0)
        for size in (0, 1, 3, 4, 5, 125, 126, 127, 128, 65535, 65536, 100_000):
            handler = Handler()
            self.connect(self.factory.make(handler))
            self.open()
            data = frame(BINARY, b"x" * size)
            self.send(data + frame(TEXT, b"t") + data)
            self.send(data[:5])
            self.send(data[5:] + frame(TEXT, b"t"))
            self.assertEqual(handler.messages, [b"x" * size, "t", b"x" * size, b"x" * size, "t"])

    def test_the_peer_closes(self) -> None:
        self.open()
        self.send(frame(CLOSE, b"\x03\xe8bye"))
        self.assertEqual(self.code(), 1000)
        self.clock.advance(0)
        self.assertEqual((self.handler.ends, self.wire.aborted), (["transport_close"], False))

    def test_we_close(self) -> None:
        self.open()
        self.websocket.end(4000, "drain")
        self.assertEqual(self.sent(), [(CLOSE, b"\x0f\xa0drain")])
        self.websocket.send(b"never")
        self.send(frame(CLOSE, b"\x0f\xa0"))
        self.clock.advance(0)
        self.assertEqual((self.handler.ends, self.wire.aborted), (["transport_close"], False))

    def test_cut(self) -> None:
        self.open()
        self.wire.abortConnection()
        self.clock.advance(0)
        self.assertEqual(self.handler.ends, ["transport_error"])

    def test_no_deadline_is_left(self) -> None:
        self.open()
        self.send(frame(TEXT, b"a", final=False))
        self.websocket.end(1000)
        self.wire.hang_up()
        self.clock.advance(0)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.factory.countConnections, 0)

    def test_full_and_drained(self) -> None:
        self.open()
        self.wire.stalled = True
        self.websocket.send(b"x" * 70000)
        self.assertTrue(self.websocket.is_full)
        self.wire.drain()
        self.assertFalse(self.websocket.is_full)
        self.assertEqual(self.handler.events[1:], [("full",), ("drained",)])


class ViolationTests(Exchange):
    """What breaks the protocol is answered with its code, and then no longer listened to."""

    def check(self, data: bytes, code: int, word: str = "parse_error") -> None:
        self.setUp()
        self.open()
        self.send(data + frame(TEXT, b"after") * 3)
        self.assertEqual(self.code(), code, data)
        self.websocket.processData = lambda: self.fail("still listening")  # type: ignore[method-assign]
        self.send(frame(TEXT, b"after"))
        self.assertTrue(self.wire.half_closed)
        self.clock.advance(2.1)
        self.assertEqual((self.handler.messages, self.handler.ends), ([], [word]))

    def test_each(self) -> None:
        self.check(b"\x81\x05hello", 1002)
        self.check(frame(TEXT | 0x40, b"x"), 1002)
        self.check(frame(3, b"x"), 1002)
        self.check(frame(11, b"x"), 1002)
        self.check(frame(0, b"x"), 1002)
        self.check(frame(PING, b"x", final=False), 1002)
        self.check(frame(PING, b"x" * 126), 1002)
        self.check(frame(TEXT, b"x", final=False) + frame(TEXT, b"y"), 1002)
        self.check(frame(TEXT, b"\xff"), 1007)
        self.check(frame(TEXT, b"\xed\xa0\x80"), 1007)
        self.check(frame(TEXT, b"\xc3"), 1007)
        self.check(frame(CLOSE, b"\x03"), 1002)
        self.check(frame(CLOSE, b"\x03\xec"), 1002)
        self.check(frame(CLOSE, b"\x03\xe8\xff"), 1007)
        self.check(b"\x81\xfe\x00\x05abcdhello", 1002)
        self.check(b"\x81\xff\x80" + bytes(7), 1002)
        self.check(frame(TEXT, b"x" * 1001), 1009, "message.too_large")
        self.check(frame(TEXT, b"x" * 600, final=False) + frame(0, b"y" * 600), 1009, "message.too_large")

    def test_a_length_of_which_nothing_came(self) -> None:
        self.check(b"\x82\xff" + (1 << 40).to_bytes(8, "big") + b"abcd", 1009, "message.too_large")

    def test_whole_messages_before_it_are_handed_over(self) -> None:
        self.open()
        self.send(frame(TEXT, b"good") + frame(TEXT, b"\xff") + frame(TEXT, b"after"))
        self.assertEqual((self.handler.messages, self.code()), (["good"], 1007))

    @unhurried
    @given(
        strategies.lists(
            strategies.tuples(
                strategies.integers(0, 15), strategies.binary(max_size=140), strategies.booleans()
            ),
            max_size=6,
        ),
        strategies.integers(1, 300),
    )
    def test_any_frames_in_any_pieces(self, frames: list[tuple[int, bytes, bool]], size: int) -> None:
        """Pieces make no difference to what is understood."""
        data = b"".join(frame(opcode, payload, final=final) for opcode, payload, final in frames)
        told = []
        for step in (size, len(data) + 1):
            self.setUp()
            self.open()
            for start in range(0, len(data), step):
                self.send(data[start : start + step])
            told.append((self.handler.messages, self.code()))
            self.clock.advance(20)
        self.assertEqual(told[0], told[1])
        self.assertEqual(self.flushLoggedErrors(), [])

    @unhurried
    @given(strategies.binary(max_size=60))
    def test_any_bytes(self, data: bytes) -> None:
        self.setUp()
        self.open()
        self.send(data)
        self.clock.advance(20)
        self.assertEqual(self.flushLoggedErrors(), [])


class MendingTests(Exchange):
    """Autobahn's traps (RELIABILITY.md section 4.2), one by one."""

    def pending(self) -> Deferred[None]:
        """A socket whose handshake waits for a Deferred."""
        waiting: Deferred[None] = Deferred()

        def on_connect(request: object) -> Deferred[None]:
            self.asked += 1
            return waiting

        self.asked = 0
        self.websocket.onConnect = on_connect  # type: ignore[method-assign]
        self.websocket.dataReceived(opening())
        return waiting

    def test_no_ghost_after_the_client_left(self) -> None:
        waiting = self.pending()
        self.wire.hang_up()
        waiting.callback(None)
        self.assertEqual((self.handler.events, self.factory.countConnections), ([], 0))
        self.assertEqual(self.websocket.state, WebSocketProtocol.STATE_CLOSED)

    def test_no_ghost_after_a_refusal(self) -> None:
        waiting = self.pending()
        self.wire.hang_up()
        waiting.errback(ZeroDivisionError("secret"))
        self.assertEqual((self.handler.events, self.wire.drain()), ([], b""))

    def test_a_failure_is_not_quoted(self) -> None:
        self.pending().errback(ZeroDivisionError("secret"))
        answer = self.wire.drain()
        self.assertTrue(answer.startswith(b"HTTP/1.1 400 Bad Request\r\n"), answer)
        self.assertNotIn(b"secret", answer)

    def test_a_second_request_while_the_first_waits(self) -> None:
        waiting = self.pending()
        self.websocket.dataReceived(opening())
        self.clock.advance(0)
        waiting.callback(None)
        self.assertEqual((self.asked, self.handler.events), (1, []))
        self.assertTrue(self.wire.aborted)

    def test_a_peer_that_closes_and_stays(self) -> None:
        """It has not read what we sent, and never will."""
        self.open()
        self.wire.stalled = True
        self.websocket.send(b"x" * 70000)
        self.send(frame(CLOSE, b"\x03\xe8"))
        self.clock.advance(1.9)
        self.assertEqual(self.handler.ends, [])
        self.clock.advance(0.2)
        self.assertEqual((self.handler.ends, self.factory.countConnections), (["transport_close"], 0))

    def test_a_peer_that_does_not_answer_our_close(self) -> None:
        self.open()
        self.websocket.end(1000)
        self.clock.advance(2.1)
        self.assertEqual((self.wire.aborted, len(self.handler.ends)), (True, 1))

    def test_a_failing_end_counts_all_the_same(self) -> None:
        for _ in range(5):
            self.setUp()
            self.handler.failing = "lost"
            self.open()
            self.wire.hang_up()
            self.assertEqual(self.factory.countConnections, 0)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 5)

    def test_a_handler_that_fails_closes_with_1011(self) -> None:
        for failing in ("opened", "received", "full"):
            self.setUp()
            self.handler.failing = failing
            self.websocket.dataReceived(opening())
            if failing != "opened":
                self.wire.drain()
                self.send(frame(TEXT, b"x"))
                self.wire.stalled = True
                self.websocket.send(b"\x82\x7e" + b"x" * 70000)
                self.wire.stalled = False
            written = bytes(self.wire.output)
            self.assertIn(b"\x03\xf3internal error", written)
            self.send(frame(TEXT, b"x"))
            self.clock.advance(2.1)
            self.assertEqual(self.handler.ends, ["transport_error"])
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_empty_fragments(self) -> None:
        self.open()
        self.send(frame(TEXT, b"a", final=False) + frame(0, final=False) * (MAX_FRAMES - 2) + frame(0))
        self.assertEqual(self.handler.messages, ["a"])
        self.send(frame(TEXT, b"a", final=False) + frame(0, final=False) * MAX_FRAMES)
        self.assertEqual(self.code(), 1008)
        for _ in range(1000):
            self.send(frame(0, final=False) * 1000)
        self.clock.advance(2.1)
        self.assertEqual(len(self.handler.ends), 1)

    def test_a_message_that_does_not_come_to_its_end(self) -> None:
        for begin, more in (
            (frame(TEXT, b"x", final=False), frame(PING)),
            (frame(TEXT, b"x" * 500)[:10], b"x"),
            (b"\x81", b""),
        ):
            self.setUp()
            self.open()
            self.send(begin)
            for _ in range(9):
                self.clock.advance(1)
                self.send(more)
            self.assertTrue(self.wire.connected and not self.wire.half_closed)
            self.clock.advance(1)
            self.assertEqual(self.code(), 1008)

    def test_whole_messages_have_no_deadline(self) -> None:
        self.open()
        self.send(frame(TEXT, b"x", final=False))
        self.send(frame(0, b"y"))
        self.clock.advance(100)
        self.assertEqual(self.sent(), [])

    def test_a_flood_of_pings(self) -> None:
        self.open()
        self.send(frame(PING) * MAX_CONTROLS)
        self.assertEqual(len(self.sent()), MAX_CONTROLS)
        self.clock.advance(1)
        self.send(frame(PONG) * MAX_CONTROLS)
        self.assertIsNone(self.code())
        self.send(frame(PONG))
        self.assertEqual(self.code(), 1008)

    def test_pongs_do_not_pile_up(self) -> None:
        self.open()
        self.wire.stalled = True
        self.websocket.send(b"x" * 70000)
        self.send(frame(PING, b"x" * 100) * 10)
        self.assertEqual(len(self.wire.output), 70000)

    def test_no_timer_of_autobahn(self) -> None:
        self.assertEqual(
            (self.websocket.openHandshakeTimeout, self.websocket.closeHandshakeTimeout), (0, 0)
        )
        self.assertEqual(self.websocket.autoPingInterval, 0)

    def test_options(self) -> None:
        self.assertEqual(self.websocket.versions, [13])
        self.assertFalse(self.websocket.webStatus)
        self.assertFalse(self.websocket.failByDrop)
        self.assertNotIn("maxMessagePayloadSize", vars(self.websocket))


class HoldTests(Exchange):
    """Nothing is handed over while it is held."""

    def test_hold_and_release(self) -> None:
        self.open()
        self.websocket.hold()
        self.websocket.hold()
        self.send(frame(TEXT, b"a") + frame(TEXT, b"b"))
        self.assertEqual((self.handler.messages, self.wire.reading), ([], False))
        self.clock.advance(100)
        self.websocket.release()
        self.websocket.release()
        self.clock.advance(0)
        self.assertEqual((self.handler.messages, self.wire.reading), (["a", "b"], True))

    def test_release_after_the_end(self) -> None:
        self.open()
        self.websocket.hold()
        self.send(frame(TEXT, b"a"))
        self.websocket.release()
        self.wire.hang_up()
        self.clock.advance(0)
        self.assertEqual((self.handler.messages, len(self.handler.ends)), ([], 1))

    def test_a_close_while_held_is_answered(self) -> None:
        self.open()
        self.websocket.hold()
        self.websocket.end(4000)
        self.assertTrue(self.wire.reading)
        self.send(frame(CLOSE, b"\x0f\xa0"))
        self.clock.advance(0)
        self.assertEqual(self.handler.ends, ["transport_close"])


_ASKS = b"GET / HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + KEY + b"\r\n"


class TurnTests(Exchange):
    """What one socket brings is taken in turns, so that the others have theirs."""

    def setUp(self) -> None:
        super().setUp()
        self.open()
        self.names = [f"m{number}" for number in range(3 * PER_TURN + 5)]
        self.flood = b"".join(frame(TEXT, name.encode()) for name in self.names)

    def test_turns(self) -> None:
        """So many messages a turn, in order, and what came meanwhile after them."""
        self.send(self.flood)
        self.assertEqual(self.handler.messages, self.names[:PER_TURN])
        self.assertFalse(self.wire.reading)
        self.send(frame(TEXT, b"late"))
        for turn in (2, 3, 4):
            self.clock.advance(0)
            self.assertEqual(
                self.handler.messages[: turn * PER_TURN], [*self.names, "late"][: turn * PER_TURN]
            )
        self.assertEqual(self.handler.messages, [*self.names, "late"])
        self.assertTrue(self.wire.reading)

    def test_cut_anywhere(self) -> None:
        """Whatever pieces it comes in, nothing is lost, doubled or turned."""
        for size in (1, 7, 100, 1001):
            self.setUp()
            for start in range(0, len(self.flood), size):
                self.send(self.flood[start : start + size])
            for _ in range(len(self.flood)):
                self.clock.advance(0)
            self.assertEqual(self.handler.messages, self.names)

    def test_held_meanwhile(self) -> None:
        """Who is held while it rests goes on when it is released, and not before."""
        self.send(self.flood)
        self.websocket.hold()
        for _ in range(5):
            self.clock.advance(0)
        self.assertEqual(len(self.handler.messages), PER_TURN)
        self.websocket.release()
        for _ in range(9):
            self.clock.advance(0)
        self.assertEqual(self.handler.messages, self.names)

    def test_gone_meanwhile(self) -> None:
        """A socket that is lost while it rests hands over nothing more."""
        self.send(self.flood)
        self.wire.hang_up()
        for _ in range(5):
            self.clock.advance(0)
        self.assertEqual(len(self.handler.messages), PER_TURN)
        self.assertEqual(len(self.handler.ends), 1)
