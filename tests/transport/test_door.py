from __future__ import annotations

from typing import Any

from hypothesis import given, strategies
from twisted.internet.error import ConnectionDone
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from realtime.addresses import Proxies
from realtime.reception import PER_TURN
from realtime.transport.door import DRAIN, IDLE, DoorFactory
from realtime.transport.site import Request, Site

from ..generated import unhurried
from .peer import TEXT, Answer, Peer, World, frame

OPEN = "/engine.io/?EIO=4&transport=polling"
HEAD = f"GET {OPEN} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


class Held(Resource):
    """Answers when it is told to, with the path."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Request] = []
        self.lost: list[Request] = []

    def render(self, request: Request) -> int:
        self.waiting.append(request)
        request.lost = lambda: self.lost.append(request)
        return NOT_DONE_YET

    def answer(self, body: bytes | None = None) -> None:
        """Answer the oldest that waits."""
        request = self.waiting.pop(0)
        request.answer(200, request.uri if body is None else body, b"text/plain")


class Doors(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = World()
        self.clock = self.world.clock
        self.held = Held()
        self.factory = self.door()
        self.peer = self.connect()

    def door(self, **options: Any) -> DoorFactory:
        return DoorFactory(
            **{
                "clock": self.clock,
                "site": Site({"/held": self.held}),
                "upgrades": {"/engine.io": self.world.engine},
                "websockets": self.world.websockets,
                "head_timeout": 5.0,
                "body_timeout": 10.0,
                **options,
            }
        )

    def connect(self, address: str = "192.0.2.1") -> Peer:
        return Peer(self.factory, self.clock, address)

    def given(self, peer: Peer | None = None) -> Answer:
        answer = (peer or self.peer).answer()
        assert answer is not None, "no answer"
        return answer


class CrowdTests(Doors):
    """Where there is no time left in a turn."""

    def busy(self) -> None:
        """Somebody was served in this turn, for longer than strangers may be."""
        self.factory.reception.ready()
        self.clock.rightNow += PER_TURN

    def test_strangers_wait(self) -> None:
        """Their requests are read later; what has come is kept, and no more is read meanwhile."""
        self.busy()
        other = self.connect()
        other.send(HEAD[:20])
        other.send(HEAD[20:])
        self.assertFalse(other.wire.reading)
        self.assertIsNone(other.answer())
        self.clock.advance(0)
        self.assertTrue(other.wire.reading)
        self.assertEqual(self.given(other).status, 404)

    def test_known_do_not(self) -> None:
        """Who carries a session is read at once."""
        self.busy()
        self.factory.prove(self.peer.door)
        self.peer.send(HEAD)
        self.assertEqual(self.given().status, 404)

    def test_pipelined(self) -> None:
        """Between two requests of one connection, known or not, the others have their turn."""
        served: list[bytes] = []

        def render(request: Request) -> bytes:
            served.append(request.uri)
            self.busy()
            return b""

        self.factory.prove(self.peer.door)
        self.held.render = render  # type: ignore[method-assign,assignment]
        for peer, names in ((self.peer, "abc"), (self.connect(), "xyz")):
            peer.send(b"".join(f"GET /held?{name} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for name in names))
        self.clock.advance(0)
        order = [uri.decode()[-1] for uri in served]
        self.assertEqual("".join(order), "abxcyz")

    def test_gone(self) -> None:
        """One who went while waiting is nobody any more."""
        self.busy()
        other = self.connect()
        other.send(HEAD)
        other.wire.hang_up()
        self.clock.advance(0)
        self.assertEqual(len(self.factory.reception), 0)
        self.assertEqual(len(self.world.engine), 0)

    def test_too_slow(self) -> None:
        """One who waits too long, as the deadline of a head has it, is told so or dropped."""
        self.busy()
        other = self.connect()
        other.send(b"GET")
        self.clock.advance(0)
        self.clock.advance(5)
        self.assertEqual(self.given(other).status, 408)


class SequenceTests(Doors):
    """Requests on one connection, one after the other."""

    def test_pipelined_requests_are_answered_in_order(self) -> None:
        self.peer.send(
            b"".join(b"GET /held/?%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(3))
        )
        for number in range(3):
            self.assertEqual([request.uri for request in self.held.waiting], [b"/held/?%d" % number])
            self.held.answer()
            self.assertEqual(self.given().body, b"/held/?%d" % number)

    def test_byte_by_byte(self) -> None:
        for byte in b"\r\nPOST /held HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc":
            self.assertEqual(self.held.waiting, [])
            self.peer.send(bytes([byte]))
        self.assertEqual(self.held.waiting[0].content.read(), b"abc")

    def test_a_body_and_what_follows_it(self) -> None:
        self.peer.send(
            b"POST /held?1 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
            b"GET /held?2 HTTP/1.1\r\nHost: x\r\n\r\n"
        )
        self.assertEqual(self.held.waiting[0].content.read(), b"abc")
        self.held.answer()
        self.assertEqual([request.uri for request in self.held.waiting], [b"/held?2"])

    def test_every_head_is_looked_at(self) -> None:
        """Not only the first of a connection (a balancer puts many clients' requests on one)."""
        self.peer.send(b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n")
        self.held.answer()
        self.given()
        self.peer.send(b"GET /held HTTP/1.1\r\nHost: x\r\nX: a\x85b\r\n\r\n")
        self.assertEqual(self.given().status, 400)
        self.assertTrue(self.peer.gone)

    def test_an_idle_connection_is_upgraded_by_its_next_request(self) -> None:
        self.peer.send(b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n")
        self.held.answer()
        self.given()
        self.assertEqual(self.peer.upgrade("/engine.io/?EIO=4&transport=websocket").status, 101)
        self.peer.say("4x")
        self.assertEqual(self.world.recorders[0].messages, ["x"])
        self.clock.advance(IDLE)
        self.assertTrue(self.peer.wire.connected)

    def test_frames_in_one_piece_with_the_upgrade(self) -> None:
        self.peer.send(
            b"GET /engine.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" + frame(TEXT, b"4x") + frame(TEXT, b"4y")
        )
        self.assertEqual(self.world.recorders[0].messages, ["x", "y"])

    def test_an_upgrade_behind_a_request_that_waits(self) -> None:
        self.peer.send(b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n")
        self.peer.request(
            "GET",
            "/engine.io/?EIO=4&transport=websocket",
            Upgrade="websocket",
            Connection="Upgrade",
            Sec_WebSocket_Version="13",
            Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==",
        )
        self.assertEqual(self.world.recorders, [])
        self.held.answer()
        self.assertEqual((self.given().status, self.given().status), (200, 101))

    def test_connection_close(self) -> None:
        for request in (
            b"GET /held HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            b"GET /held HTTP/1.0\r\n\r\n",
        ):
            peer = self.connect()
            peer.send(request + HEAD)
            self.held.answer()
            self.assertEqual(self.given(peer).headers["connection"], "close")
            self.assertTrue(peer.gone)
            self.assertEqual(peer.read(), b"")

    def test_continue(self) -> None:
        self.peer.request("POST", "/held", Expect="100-Continue", Content_Length="3")
        self.assertEqual(self.peer.read(), b"HTTP/1.1 100 Continue\r\n\r\n")
        self.peer.send(b"abc")
        self.held.answer()
        self.assertEqual(self.given().status, 200)
        self.peer.request("POST", "/held", b"abc", Expect="100-continue")
        self.assertEqual(self.peer.read(), b"")

    def test_the_peer_hangs_up_while_it_waits(self) -> None:
        self.peer.send(b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n")
        self.peer.wire.hang_up()
        self.assertEqual(len(self.held.lost), 1)
        self.held.answer()
        self.assertEqual(self.factory.sockets, 0)

    def test_options_of_the_socket(self) -> None:
        self.assertEqual(self.peer.wire.options, {"nodelay": True, "keepalive": True})


class RefusalTests(Doors):
    """What can't be read in one way only is refused, and the connection ends."""

    def refused(self, raw: bytes, status: int) -> Answer:
        peer = self.connect()
        peer.send(raw)
        answer = self.given(peer)
        self.assertEqual(answer.status, status, raw)
        self.assertEqual(set(answer.json), {"code", "message"})
        self.assertEqual(answer.headers["connection"], "close")
        self.assertTrue(peer.gone)
        peer.send(HEAD)
        self.assertEqual(peer.read(), b"")
        return answer

    def test_each(self) -> None:
        self.refused(b"GET / HTTP/1.1\r\n\r\n", 400)
        self.refused(b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400)
        self.refused(b"GET / HTTP/1.1\r\nHost: x\nFoo: y\r\n\r\n", 400)
        self.refused(b"GET / HTTP/1.1\r\nHost: x\r\n Foo: y\r\n\r\n", 400)
        self.refused(b"GET / HTTP/1.1\r\nHost: x\r\nFoo: a\x85X-Forwarded-For: 6.6.6.6\r\n\r\n", 400)
        self.refused(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n\r\n", 400)
        self.refused(b"GET / HTTP/3\r\nHost: x\r\n\r\n", 505)
        self.refused(b"GET / HTTP/1.1\r\nHost: x\r\nExpect: miracle\r\n\r\n", 417)
        self.refused(b"\x16\x03\x01\x00\xa5 TLS where none is spoken\r\n\r\n", 400)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_a_large_head(self) -> None:
        line = b"GET / HTTP/1.1\r\nHost: x\r\nX: "
        self.refused(line + b"y" * 17000, 431)
        self.refused(line + b"y" * 17000 + b"\r\n\r\n", 431)
        peer = self.connect()
        peer.send(line + b"y" * (16384 - len(line)) + b"\r\n\r\n")
        self.assertEqual(self.given(peer).status, 404)

    def test_a_large_body(self) -> None:
        self.refused(b"POST /held HTTP/1.1\r\nHost: x\r\nContent-Length: 70000\r\n\r\n", 413)
        self.refused(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 300000000\r\n\r\n", 413)
        chunks = b"Transfer-Encoding: chunked\r\n\r\n" + b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
        self.refused(b"POST /nowhere HTTP/1.1\r\nHost: x\r\n" + chunks + b"8001\r\n", 413)

    def test_wrong_chunks(self) -> None:
        self.refused(b"POST /held HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nhello\r\n", 400)

    def test_upgrades(self) -> None:
        good = "/engine.io/?EIO=4&transport=websocket"
        for target, headers, status in (
            ("/nowhere", {}, 404),
            ("/engine.io/?EIO=4&transport=abc", {}, 400),
            ("/engine.io/?EIO=3&transport=websocket", {}, 400),
            (good + "&sid=nobody", {}, 400),
            (good, {"Origin": "https://evil.example"}, 403),
            (good, {"Origin": "null"}, 403),
            (good, {"Sec_WebSocket_Version": "12"}, 426),
            (good, {"Sec_WebSocket_Key": "short"}, 400),
            (good, {"Content_Length": "5"}, 400),
        ):
            peer = self.connect()
            answer = peer.upgrade(target, **headers)
            self.assertEqual(
                (answer.status, set(answer.json)), (status, {"code", "message"}), (target, headers)
            )
            self.assertTrue(peer.gone)
            self.assertEqual(answer.headers.get("sec-websocket-version"), "13" if status == 426 else None)
        self.assertEqual((self.world.recorders, self.world.websockets.countConnections), ([], 0))

    def test_an_upgrade_that_fails(self) -> None:
        class Broken:
            def upgrade(self, head: object, address: str) -> None:
                raise ZeroDivisionError

        self.factory = self.door(upgrades={"/broken": Broken()})
        self.assertEqual(self.connect().upgrade("/broken").status, 500)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_the_refused_has_time_to_read(self) -> None:
        """Closing with unread bytes would reset the connection before the answer is read."""
        self.peer.send(b"rubbish\r\n\r\n" + b"x" * 100_000)
        self.assertEqual((self.peer.wire.half_closed, self.peer.wire.aborted), (True, False))
        self.peer.send(b"x" * 100_000)
        self.clock.advance(1.9)
        self.assertFalse(self.peer.wire.aborted)
        self.clock.advance(0.1)
        self.assertTrue(self.peer.wire.aborted)

    @unhurried
    @given(strategies.binary(max_size=300))
    def test_any_bytes(self, data: bytes) -> None:
        peer = self.connect()
        peer.send(data)
        peer.send(b"\r\n\r\n")
        self.clock.pump([5.0] * 20)
        self.assertFalse(peer.wire.connected)
        self.assertEqual(self.flushLoggedErrors(), [])

    @unhurried
    @given(
        strategies.lists(
            strategies.tuples(
                strategies.integers(0, 400), strategies.integers(0, 255), strategies.booleans()
            ),
            min_size=1,
            max_size=4,
        ),
        strategies.booleans(),
        strategies.integers(1, 400),
    )
    def test_any_mutation(self, changes: list[tuple[int, int, bool]], upgrade: bool, piece: int) -> None:
        data = bytearray(_UPGRADE if upgrade else _POST)
        for place, byte, insert in changes:
            start = place % len(data)
            data[start : start + (0 if insert else 1)] = bytes([byte])
        peer = self.connect()
        for start in range(0, len(data), piece):
            peer.send(bytes(data[start : start + piece]))
        self.clock.pump([2.0] * 60)
        self.assertFalse(peer.wire.connected)
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertEqual((self.factory.sockets, self.factory.strangers), (0, 0))


class DeadlineTests(Doors):
    """Nobody holds a connection for long without saying something whole."""

    def setUp(self) -> None:
        super().setUp()
        self.peer.wire.hang_up()

    def test_silence(self) -> None:
        peer = self.connect()
        self.clock.advance(4.9)
        self.assertTrue(peer.wire.connected)
        self.clock.advance(0.1)
        self.assertEqual((peer.wire.connected, peer.read()), (False, b""))

    def test_a_head_that_trickles(self) -> None:
        peer = self.connect()
        for _ in range(5):
            peer.send(b"x")
            self.clock.advance(1)
        self.assertEqual(self.given(peer).status, 408)
        self.assertTrue(peer.gone)

    def test_a_later_head_that_trickles(self) -> None:
        peer = self.connect()
        peer.send(b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertEqual(self.given(peer).status, 404)
        self.clock.advance(60)
        for _ in range(5):
            peer.send(b"x")
            self.clock.advance(1)
        self.assertEqual(self.given(peer).status, 408)

    def test_a_body_that_trickles(self) -> None:
        peer = self.connect()
        peer.send(b"POST /held HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n")
        for _ in range(10):
            peer.send(b"x")
            self.clock.advance(1)
        self.assertEqual((self.given(peer).status, self.held.waiting), (408, []))

    def test_rest_between_requests(self) -> None:
        peer = self.connect()
        for _ in range(2):
            peer.send(b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")
            self.given(peer)
            self.clock.advance(IDLE - 1)
            self.assertTrue(peer.wire.connected)
        self.clock.advance(1)
        self.assertFalse(peer.wire.connected)

    def test_an_answer_may_take_its_time(self) -> None:
        peer = self.connect()
        peer.send(b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n")
        self.clock.advance(10 * IDLE)
        self.held.answer()
        self.assertEqual(self.given(peer).status, 200)

    def test_an_answer_that_is_not_read(self) -> None:
        peer = self.connect()
        peer.wire.stalled = True
        peer.send(b"GET /held HTTP/1.1\r\nHost: x\r\n\r\nGET /held?2 HTTP/1.1\r\nHost: x\r\n\r\n")
        self.held.answer(b"x" * 100_000)
        self.assertEqual(self.held.waiting, [])
        self.clock.advance(DRAIN - 0.1)
        self.assertTrue(peer.wire.connected)
        self.clock.advance(0.1)
        self.assertTrue(peer.wire.aborted)

    def test_the_last_answer_that_is_read_slowly(self) -> None:
        """A proxy that closes after each request, in front of a client on a slow line."""
        peer = self.connect()
        peer.wire.stalled = True
        peer.send(b"GET /held HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        self.held.answer(b"x" * 100_000)
        self.assertTrue(peer.gone)
        self.clock.advance(DRAIN - 0.1)
        self.assertTrue(peer.wire.connected)
        self.clock.advance(0.1)
        self.assertTrue(peer.wire.aborted)

    def test_an_answer_that_is_read_at_last(self) -> None:
        peer = self.connect()
        peer.wire.stalled = True
        peer.send(b"GET /held HTTP/1.1\r\nHost: x\r\n\r\nGET /held?2 HTTP/1.1\r\nHost: x\r\n\r\n")
        self.held.answer(b"x" * 100_000)
        peer.read()
        self.assertEqual([request.uri for request in self.held.waiting], [b"/held?2"])
        self.clock.advance(DRAIN)
        self.assertTrue(peer.wire.connected)

    def test_nothing_is_left(self) -> None:
        self.held.isLeaf = True
        for data in (
            b"",
            b"x",
            b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n",
            b"POST /held HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx",
            b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n",
            b"rubbish\r\n\r\n",
        ):
            peer = self.connect()
            peer.send(data)
            peer.wire.hang_up()
        self.clock.advance(0)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual((self.factory.sockets, self.factory.strangers), (0, 0))


class UnaskedTests(Doors):
    """Bytes that nobody asked for, behind a poll that waits."""

    def test_a_little_waits_for_its_turn(self) -> None:
        self.peer.send(b"GET /held?1 HTTP/1.1\r\nHost: x\r\n\r\nGET /held?2 HTTP/1.1\r\nHost: x\r\n\r\n")
        self.held.answer()
        self.assertEqual([request.uri for request in self.held.waiting], [b"/held?2"])

    def test_much_ends_the_connection(self) -> None:
        """To stop reading instead would hide that the peer is gone, and the poll would leak."""
        self.peer.send(b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n")
        self.peer.send(b"x" * 16384)
        self.assertFalse(self.peer.wire.aborted)
        self.peer.send(b"x")
        self.clock.advance(0)
        self.assertEqual((self.peer.wire.aborted, len(self.held.lost)), (True, 1))
        self.assertTrue(self.peer.wire.reading)


class StrangerTests(Doors):
    """Those who only connect can't keep others out."""

    def setUp(self) -> None:
        super().setUp()
        self.peer.wire.hang_up()
        self.factory = self.door(
            site=self.world.factory.site, strangers=10, strangers_per_address=4, max_sockets=20
        )

    def test_of_one_address_the_oldest_gives_way(self) -> None:
        peers = [self.connect() for _ in range(6)]
        self.clock.advance(0)
        self.world.turn()
        self.assertEqual([peer.wire.connected for peer in peers], [False] * 2 + [True] * 4)
        self.assertEqual(self.factory.strangers, 4)

    def test_in_all_the_oldest_gives_way(self) -> None:
        peers = [self.connect(f"192.0.2.{number}") for number in range(12)]
        self.assertEqual([peer.wire.aborted for peer in peers], [True] * 2 + [False] * 10)
        self.clock.advance(0)
        self.assertEqual((self.factory.strangers, self.factory.sockets), (10, 10))

    def test_a_client_gets_in_through_a_crowd(self) -> None:
        for number in range(30):
            self.connect(f"198.51.100.{number % 5}")
            self.clock.advance(0)
        peer = self.connect()
        self.assertEqual(peer.ask("GET", OPEN).status, 200)

    def test_who_carries_a_session_is_no_stranger(self) -> None:
        first, second = self.connect(), self.connect()
        answer = first.ask("GET", OPEN)
        sid = answer.body.split(b'"')[3].decode()
        second.request("GET", f"{OPEN}&sid={sid}")
        for _ in range(6):
            self.connect()
        self.clock.advance(0)
        self.assertEqual((first.wire.connected, second.wire.connected), (True, True))

    def test_a_refused_request_proves_nothing(self) -> None:
        first = self.connect()
        first.ask("GET", f"{OPEN}&sid=nobody")
        for _ in range(4):
            self.connect()
        self.assertTrue(first.wire.aborted)

    def test_a_websocket_is_no_stranger(self) -> None:
        first = self.connect()
        first.upgrade("/engine.io/?EIO=4&transport=websocket")
        self.assertEqual((self.factory.sockets, self.factory.strangers), (0, 0))
        for _ in range(6):
            self.connect()
        self.clock.advance(0)
        self.assertTrue(first.wire.connected)

    def test_more_than_there_can_be(self) -> None:
        for number in range(4):
            for _ in range(5):
                poller = self.connect(f"192.0.2.{number}")
                sid = poller.ask("GET", OPEN).body.split(b'"')[3].decode()
                poller.request("GET", f"{OPEN}&sid={sid}")
        self.assertEqual(self.factory.sockets, 20)
        self.assertTrue(self.connect().refused)

    def test_without_an_address(self) -> None:
        door = self.factory.buildProtocol(None)
        assert door is not None
        self.assertEqual(door.address, "")


class EndTests(Doors):
    """The ways in which a connection ends while something is under way."""

    def test_lost_in_a_body(self) -> None:
        self.peer.send(b"POST /held HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx")
        self.peer.wire.hang_up()
        self.assertEqual(self.held.waiting, [])

    def test_refused_in_a_body_that_is_being_answered(self) -> None:
        """An answer that has begun is not followed by another."""
        self.peer.send(b"POST /held HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        request = self.peer.door._request
        assert request is not None
        request.write(b"early")
        self.peer.send(b"rubbish\r\n")
        self.assertEqual(self.peer.read().count(b"HTTP/1.1"), 1)
        self.assertTrue(self.peer.gone)

    def test_told_twice(self) -> None:
        self.peer.door.lose()
        self.peer.door.lose()
        self.peer.wire._lose(ConnectionDone())
        self.assertEqual(self.factory.sockets, 0)


_UPGRADE = (
    b"GET /engine.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Origin: https://app.example.com\r\n\r\n" + frame(TEXT, b"4hello")
)
_POST = (
    b"POST /engine.io/?EIO=4&transport=polling&sid=x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
    b"Content-Type: text/plain\r\nConnection: keep-alive\r\n\r\n4hell"
)


class AddressTests(Doors):
    """Whose address a request has that comes through a proxy."""

    def found(self, peer: Peer) -> str:
        return self.held.waiting.pop(0).client if peer.wire.connected else "closed"

    def behind(self, **options: Any) -> None:
        self.factory = self.door(proxies=Proxies(["10.0.0.0/8"]), **options)

    def test_forwarded(self) -> None:
        """A trusted proxy is believed, for each request anew; nobody else is."""
        self.behind()
        peer = self.connect("10.0.0.1")
        for field, address in (("203.0.113.9", "203.0.113.9"), ("6.6.6.6, 203.0.113.8", "203.0.113.8")):
            peer.request("GET", "/held", X_Forwarded_For=field)
            self.assertEqual(self.found(peer), address)
            peer = self.connect("10.0.0.1")
        other = self.connect("192.0.2.1")
        other.request("GET", "/held", X_Forwarded_For="6.6.6.6")
        self.assertEqual(self.found(other), "192.0.2.1")

    def test_forwarded_to_a_session(self) -> None:
        """A session has the address that the request told which opened it, on either transport."""
        world = World(proxies=Proxies(["10.0.0.0/8"]))
        forwarded = {"X_Forwarded_For": "203.0.113.9"}
        world.peer("10.0.0.1").request("GET", OPEN, **forwarded)
        world.peer("10.0.0.1").upgrade("/engine.io/?EIO=4&transport=websocket", **forwarded)
        world.peer("10.0.0.1").request("GET", OPEN)
        addresses = [recorder.socket.handshake.address for recorder in world.recorders]
        self.assertEqual(addresses, ["203.0.113.9", "203.0.113.9", "10.0.0.1"])

    def test_proxy_protocol(self) -> None:
        """The header comes first, in pieces too, and what follows is the client's."""
        self.behind(proxy_protocol=True)
        peer = self.connect("10.0.0.1")
        for byte in b"PROXY TCP4 203.0.113.9 10.0.0.1 5000 443\r\nGET /held HTTP/1.1\r\nHost: x\r\n\r\n":
            peer.send(bytes((byte,)))
        self.assertEqual(self.found(peer), "203.0.113.9")
        self.assertEqual(peer.door.address, "203.0.113.9")

    def test_proxy_protocol_of_nobody(self) -> None:
        """A proxy that speaks for itself keeps its address."""
        self.behind(proxy_protocol=True)
        peer = self.connect("10.0.0.1")
        peer.send(b"PROXY UNKNOWN\r\nGET /held HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertEqual(self.found(peer), "10.0.0.1")

    def test_proxy_protocol_is_needed_and_forbidden(self) -> None:
        """A trusted proxy has to begin with it; from anybody else it is no request."""
        self.behind(proxy_protocol=True)
        bare = self.connect("10.0.0.1")
        bare.send(HEAD)
        self.assertEqual((self.given(bare).status, self.held.waiting), (400, []))
        forged = self.connect("192.0.2.1")
        forged.send(b"PROXY TCP4 6.6.6.6 10.0.0.1 1 2\r\n" + HEAD)
        self.assertEqual(self.given(forged).status, 400)

    def test_slow_proxy_header(self) -> None:
        """It has to come within the time that a head has."""
        self.behind(proxy_protocol=True)
        peer = self.connect("10.0.0.1")
        peer.send(b"PROXY TCP4 ")
        self.clock.advance(5.0)
        self.assertFalse(peer.wire.connected and not peer.answer())

    def test_strangers_behind_a_proxy(self) -> None:
        """A proxy's connections do not crowd each other out, nor do its clients each other's."""
        self.behind(proxy_protocol=True, strangers=100, strangers_per_address=2)
        peers = [self.connect("10.0.0.1") for _ in range(5)]
        self.assertTrue(all(peer.wire.connected for peer in peers))
        for peer in peers[:3]:
            peer.send(b"PROXY TCP4 203.0.113.9 10.0.0.1 1 2\r\n")
        self.world.turn()
        self.assertEqual([peer.wire.connected for peer in peers], [False, True, True, True, True])
