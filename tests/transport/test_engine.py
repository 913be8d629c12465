from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from realtime.connections import IOutlet
from realtime.errors import Close, TooManyConnections
from realtime.wire.session import Frame

from .peer import BINARY, CLOSE, TEXT, Peer, World, frame


def text(number: int, size: int = 0) -> Frame:
    return Frame(b"4%d" % number + b"x" * size)


def close_of(peer: Peer) -> tuple[int, str] | None:
    """Code and reason of the close frame that the server sent."""
    for opcode, payload in peer.frames():
        if opcode == CLOSE:
            return int.from_bytes(payload[:2], "big"), payload[2:].decode()
    return None


class WebSocketSessionTests(SynchronousTestCase):
    """A session carried by a WebSocket from the beginning."""

    def setUp(self) -> None:
        self.world = World()
        self.peer, self.recorder = self.world.websocket()
        self.socket = self.recorder.socket

    def test_is_an_outlet(self) -> None:
        verifyObject(IOutlet, self.socket)
        self.assertEqual(self.socket.transport, "websocket")

    def test_open_packet(self) -> None:
        peer = self.world.peer()
        peer.upgrade("/engine.io/?EIO=4&transport=websocket")
        (opened,) = peer.said()
        self.assertIn('"upgrades":[],"pingInterval":25000,"pingTimeout":20000', opened)

    def test_messages_both_ways(self) -> None:
        self.peer.say("4hello")
        self.peer.say(b"\x01\x02")
        self.peer.say("4")
        self.assertEqual(self.recorder.messages, ["hello", b"\x01\x02", ""])
        self.socket.write(Frame(b"4there"))
        self.socket.write(Frame(b"451-x", (b"\x01", b"\x02")))
        self.assertEqual(
            self.peer.frames(), [(TEXT, b"4there"), (TEXT, b"451-x"), (BINARY, b"\x01"), (BINARY, b"\x02")]
        )

    def test_messages_in_pieces(self) -> None:
        data = frame(TEXT, b"4one") + frame(BINARY, b"two") + frame(TEXT, b"4th" + b"r" * 200)
        for place in range(len(data)):
            self.peer.send(data[place : place + 1])
        self.assertEqual(self.recorder.messages, ["one", b"two", "th" + "r" * 200])

    def test_peer_closes(self) -> None:
        self.peer.send(frame(CLOSE, b"\x03\xe8"))
        self.world.turn()
        self.assertEqual(self.recorder.ends, ["transport_close"])
        self.assertEqual(len(self.world.engine), 0)

    def test_peer_hangs_up(self) -> None:
        self.peer.wire.hang_up()
        self.assertEqual(self.recorder.ends, ["transport_close"])

    def test_close_packet(self) -> None:
        self.peer.say("1")
        self.assertEqual(self.recorder.ends, ["transport_close"])
        self.assertEqual(close_of(self.peer), (1000, ""))

    def test_wrong_packets(self) -> None:
        for packet, reason in (("abc", "parse_error"), ("", "parse_error"), ("2", "transport_error")):
            peer, recorder = self.world.websocket()
            peer.say(packet)
            self.assertEqual(recorder.ends, [reason])
            self.assertEqual(close_of(peer), (4010, "protocol.error"))
            peer.say("4more")
            self.assertEqual(recorder.messages, [])

    def test_packets_without_meaning_here(self) -> None:
        for packet in ("0", "5", "6", "3"):
            self.peer.say(packet)
        self.peer.say("4still here")
        self.assertEqual(self.recorder.messages, ["still here"])

    def test_close_says_why_after_what_was_written(self) -> None:
        self.socket.write(Frame(b"41"))
        self.socket.close(Close.KICKED)
        self.socket.write(Frame(b"4never"))
        self.assertEqual(self.recorder.ends, [])
        self.assertEqual(
            self.peer.frames(), [(TEXT, b"41"), (CLOSE, (4501).to_bytes(2, "big") + b"kicked")]
        )
        self.peer.send(frame(CLOSE, (4501).to_bytes(2, "big")))
        self.world.turn()
        self.assertEqual(self.recorder.ends, ["kicked"])

    def test_close_of_a_peer_that_does_not_answer(self) -> None:
        self.socket.close(Close.DRAIN)
        self.peer.say("4late")
        self.world.clock.advance(1.9)
        self.assertTrue(self.peer.wire.connected)
        self.world.clock.advance(0.2)
        self.assertFalse(self.peer.wire.connected)
        self.assertEqual((self.recorder.ends, self.recorder.messages), (["drain"], []))

    def test_a_receiver_that_fails(self) -> None:
        self.recorder.on_message = lambda data: 1 / 0  # type: ignore[assignment,return-value]
        self.peer.say("4x")
        self.assertEqual(close_of(self.peer), (4012, "internal.error"))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_receiver_that_fails_at_the_end(self) -> None:
        def closed(reason: str) -> None:
            raise ZeroDivisionError

        self.recorder.closed = closed  # type: ignore[method-assign]
        self.peer.wire.hang_up()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual((len(self.world.engine), self.world.websockets.countConnections), (0, 0))


class SlowPeerTests(SynchronousTestCase):
    """A peer that does not read what it is sent."""

    def setUp(self) -> None:
        self.world = World()
        self.peer, self.recorder = self.world.websocket()
        self.socket = self.recorder.socket
        self.peer.wire.stalled = True

    def fill(self) -> None:
        """Write until the transport has enough."""
        self.socket.write(text(0, 70000))
        self.assertEqual(self.socket.buffered, 0)

    def test_past_the_mark_frames_wait_and_are_counted(self) -> None:
        self.fill()
        for number in range(1, 4):
            self.socket.write(text(number, 998))
        self.assertEqual(self.socket.buffered, 3000)
        written = self.peer.said()
        self.assertEqual(len(written), 1)
        self.assertEqual(self.socket.buffered, 0)
        self.assertEqual([str(said)[:2] for said in self.peer.said()], ["41", "42", "43"])

    def test_one_large_frame_is_no_sign_of_slowness(self) -> None:
        """What is over the limit by itself is sent; a client by long-polling reads in turns anyway."""
        poller = self.world.poller()
        poller.socket.write(text(1, 60_000))
        answer = poller.poll()
        assert answer is not None
        self.assertEqual((len(answer.body), self.world.counters.slow), (60_002, 0))

    def test_past_the_limit_it_is_closed(self) -> None:
        self.fill()
        for _ in range(5):
            self.socket.write(text(1, 9998))
        self.assertEqual(self.recorder.ends, [])
        self.socket.write(text(2))
        self.assertEqual((self.socket.buffered, self.world.counters.slow), (0, 1))
        self.peer.wire.stalled = False
        self.assertEqual(self.peer.frames()[-1], (CLOSE, (4003).to_bytes(2, "big") + b"slow_consumer"))

    def test_one_that_never_reads_is_aborted(self) -> None:
        self.fill()
        for _ in range(6):
            self.socket.write(text(1, 9998))
        self.world.clock.advance(2.1)
        self.assertTrue(self.peer.wire.aborted)
        self.assertEqual(self.recorder.ends, ["slow_consumer"])

    def test_close_waits_for_what_was_written(self) -> None:
        self.fill()
        self.socket.write(text(1))
        self.socket.close(Close.REPLACED)
        self.assertEqual(len(self.peer.frames()), 1)
        self.assertEqual(
            self.peer.frames(), [(TEXT, b"41"), (CLOSE, (4006).to_bytes(2, "big") + b"replaced")]
        )

    def test_close_with_a_queue_that_does_not_drain_is_aborted(self) -> None:
        self.fill()
        self.socket.write(text(1))
        self.socket.close(Close.REPLACED)
        self.world.clock.advance(2.1)
        self.assertEqual((self.peer.wire.aborted, self.recorder.ends), (True, ["replaced"]))

    def test_pings_are_not_answered_while_nothing_is_read(self) -> None:
        self.fill()
        size = len(self.peer.wire.output)
        self.peer.send(frame(9, b"x" * 100))
        self.assertEqual(len(self.peer.wire.output), size)


class ReplayTests(SynchronousTestCase):
    """Frames that a session missed are sent as its transport takes them."""

    def setUp(self) -> None:
        self.world = World()
        self.peer, self.recorder = self.world.websocket()
        self.socket = self.recorder.socket
        self.drawn = 0

    def missed(self, count: int, size: int = 30000) -> Iterator[Frame]:
        for number in range(count):
            self.drawn += 1
            yield text(number, size)

    def test_at_once_where_there_is_room(self) -> None:
        self.socket.replay(self.missed(20))
        self.assertEqual(len(self.peer.said()), 20)

    def test_paced_by_the_transport_and_not_counted(self) -> None:
        self.peer.wire.stalled = True
        self.socket.replay(self.missed(20))
        self.assertEqual((self.drawn, self.socket.buffered), (3, 0))
        self.socket.write(text(99))
        self.assertEqual(self.socket.buffered, 3)
        said: list[str | bytes] = []
        while batch := self.peer.said():
            self.assertLessEqual(len(batch), 4)
            said += batch
        self.assertEqual([str(one)[1:].rstrip("x") for one in said], [*map(str, range(20)), "99"])

    def test_over_polling_in_several_answers(self) -> None:
        poller = self.world.poller()
        poller.socket.replay(self.missed(10))
        poller.socket.write(text(99))
        numbers: list[str] = []
        answers = 0
        while len(numbers) < 11:
            answer = poller.poll()
            assert answer is not None
            numbers += [part.decode()[1:].rstrip("x") for part in answer.body.split(b"\x1e")]
            answers += 1
        self.assertEqual(numbers, [*map(str, range(10)), "99"])
        self.assertGreater(answers, 2)

    def test_one_that_fails(self) -> None:
        def broken() -> Iterator[Frame]:
            yield text(1)
            raise ZeroDivisionError

        self.socket.replay(broken())
        self.assertEqual(
            self.peer.frames(), [(TEXT, b"41"), (CLOSE, (4012).to_bytes(2, "big") + b"internal.error")]
        )
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class HeartbeatTests(SynchronousTestCase):
    """Sessions are pinged, and end without a pong."""

    def test_websocket(self) -> None:
        world = World()
        peer, recorder = world.websocket()
        world.clock.advance(25)
        self.assertEqual(peer.said(), ["2"])
        self.assertFalse(recorder.socket.owes_pong)
        world.clock.advance(10)
        self.assertTrue(recorder.socket.owes_pong)
        peer.say("3")
        self.assertFalse(recorder.socket.owes_pong)
        world.clock.advance(24.9)
        self.assertEqual(peer.said(), [])
        world.clock.advance(0.1)
        self.assertEqual(peer.said(), ["2"])
        world.clock.advance(20)
        self.assertEqual(recorder.ends, ["ping_timeout"])
        self.assertEqual(close_of(peer), (4008, "ping_timeout"))

    def test_another_packet_gives_time_once(self) -> None:
        world = World()
        peer, recorder = world.websocket()
        world.clock.advance(25)
        for _ in range(2):
            world.clock.advance(15)
            peer.say("4uploading")
        self.assertEqual(recorder.ends, [])
        world.clock.advance(5)
        self.assertEqual(recorder.ends, ["ping_timeout"])

    def test_polling(self) -> None:
        world = World()
        poller = world.poller()
        self.assertIsNone(poller.poll())
        world.clock.advance(25)
        answer = poller.fetched()
        assert answer is not None
        self.assertEqual(answer.body, b"2")
        self.assertIsNone(poller.poll())
        world.clock.advance(20)
        answer = poller.fetched()
        assert answer is not None
        self.assertEqual((answer.body, poller.recorder.ends), (b"1", ["ping_timeout"]))

    def test_a_poll_at_the_very_moment_of_the_timeout(self) -> None:
        """The reactor reads sockets before it runs timers: the session is gone all the same."""
        world = World()
        poller = world.poller()
        world.clock.advance(25)
        world.clock.rightNow += 20
        answer = poller.poll()
        assert answer is not None
        self.assertEqual((answer.status, answer.json["code"]), (400, 1))


class UpgradeTests(SynchronousTestCase):
    """A WebSocket takes over from long-polling: nothing is lost, nothing said twice."""

    def setUp(self) -> None:
        self.world = World()
        self.poller = self.world.poller()
        self.socket = self.poller.socket
        self.recorder = self.poller.recorder

    def test_whole(self) -> None:
        self.assertIsNone(self.poller.poll())
        probe = self.poller.probe()
        probe.say("2probe")
        self.assertEqual(probe.said(), ["3probe"])
        answer = self.poller.fetched()
        assert answer is not None
        self.assertEqual(answer.body, b"6")
        probe.send(frame(TEXT, b"5") + frame(TEXT, b"4hello"))
        self.assertEqual(self.socket.transport, "websocket")
        self.assertEqual(self.recorder.messages, ["hello"])
        self.socket.write(Frame(b"4there"))
        self.assertEqual(probe.said(), ["4there"])
        self.assertEqual(self.recorder.ends, [])
        gone = self.poller.poll()
        assert gone is not None
        self.assertEqual((gone.status, gone.json["code"]), (400, 3))

    def test_a_poll_during_the_probe_is_not_left_waiting(self) -> None:
        probe = self.poller.probe()
        probe.say("2probe")
        for _ in range(2):
            answer = self.poller.poll()
            assert answer is not None
            self.assertEqual(answer.body, b"6")

    def test_messages_during_the_probe_leave_by_the_poll_that_asks(self) -> None:
        probe = self.poller.probe()
        probe.say("2probe")
        self.socket.write(Frame(b"41"))
        answer = self.poller.poll()
        assert answer is not None
        self.assertEqual(answer.body, b"41")
        self.socket.write(Frame(b"42"))
        self.socket.write(Frame(b"4-", (b"\x07",)))
        self.poller.bring(b"4up")
        probe.say("5")
        self.assertEqual(probe.said(), ["3probe", "42", "4-", b"\x07"])
        self.assertEqual(self.recorder.messages, ["up"])

    def test_an_upgrade_without_a_probe(self) -> None:
        probe = self.poller.probe()
        probe.say("5")
        probe.say("4x")
        self.assertEqual(self.recorder.messages, ["x"])

    def test_a_poll_still_waits(self) -> None:
        self.assertIsNone(self.poller.poll())
        probe = self.poller.probe()
        probe.say("5")
        answer = self.poller.fetched()
        assert answer is not None
        self.assertEqual(answer.body, b"6")
        self.poller.fetching.wire.hang_up()
        self.assertEqual(self.recorder.ends, [])

    def test_a_request_with_packets_under_way(self) -> None:
        head = f"POST {self.poller.target} HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\n"
        self.poller.bringing.send(head.encode() + b"4la")
        probe = self.poller.probe()
        probe.say("5")
        answer = self.poller.bringing.answer()
        assert answer is not None
        self.assertEqual((answer.status, answer.json["code"]), (400, 3))
        self.poller.bringing.send(b"te!")
        self.assertEqual((self.recorder.messages, self.recorder.ends), ([], []))

    def test_a_second_one_is_refused(self) -> None:
        probe = self.poller.probe()
        other = self.poller.probe()
        self.assertEqual(close_of(other), (1008, "no upgrade"))
        probe.say("5")
        another = self.poller.probe()
        another.say("5")
        self.assertEqual(close_of(another), (1008, "no upgrade"))
        another.wire.hang_up()
        probe.say("4x")
        self.assertEqual((self.recorder.messages, self.recorder.ends), (["x"], []))

    def test_not_completed_in_time(self) -> None:
        probe = self.poller.probe()
        probe.say("2probe")
        probe.read()
        self.world.clock.advance(10)
        self.assertEqual(close_of(probe), (1008, "no upgrade"))
        self.assertIsNone(self.poller.poll())
        self.assertEqual(self.recorder.ends, [])
        again = self.poller.probe()
        again.say("5")
        again.say("4x")
        self.assertEqual(self.recorder.messages, ["x"])

    def test_anything_else_ends_the_attempt_only(self) -> None:
        for rubbish in ("4x", "abc", "2", b"\x00", "1"):
            probe = self.poller.probe()
            probe.say(rubbish)
            self.assertEqual(close_of(probe), (1008, "no upgrade"))
            probe.say("5")
        self.assertEqual((self.socket.transport, self.recorder.messages), ("polling", []))

    def test_the_probe_hangs_up(self) -> None:
        self.poller.probe().wire.hang_up()
        self.assertEqual(self.recorder.ends, [])
        again = self.poller.probe()
        again.say("5")
        self.assertEqual(self.socket.transport, "websocket")

    def test_the_session_ends_during_the_probe(self) -> None:
        probe = self.poller.probe()
        probe.say("2probe")
        probe.read()
        self.poller.bring(b"1")
        self.assertEqual(close_of(probe), (1008, "no upgrade"))
        probe.say("5")
        self.assertEqual(self.recorder.ends, ["transport_close"])

    def test_the_session_ends_before_the_websocket_opens(self) -> None:
        handler, _ = self.world.engine.upgrade(_head(self.poller.sid), "192.0.2.1")
        self.poller.bring(b"1")
        peer = self.world.peer()
        websocket = self.world.websockets.make(handler)
        peer.door._hand_over(websocket, _OPENING)
        self.assertIn((1008, "no upgrade"), [close_of(_after_head(peer))])

    def test_closed_by_us_during_the_probe(self) -> None:
        """The client may have paused its polls for good: the last words go where it listens."""
        probe = self.poller.probe()
        probe.say("2probe")
        self.socket.write(Frame(b"441"))
        self.socket.close(Close.KICKED)
        probe.say("5")
        self.assertEqual(
            probe.frames(),
            [(TEXT, b"3probe"), (TEXT, b"441"), (CLOSE, (4501).to_bytes(2, "big") + b"kicked")],
        )
        probe.wire.hang_up()
        self.assertEqual(self.recorder.ends, ["kicked"])

    def test_a_ping_under_way_is_still_owed(self) -> None:
        self.world.clock.advance(25)
        probe = self.poller.probe()
        probe.say("5")
        self.assertEqual(probe.said(), ["2"])
        self.world.clock.advance(20)
        self.assertEqual(self.recorder.ends, ["ping_timeout"])

    def test_reading_stays_paused(self) -> None:
        self.socket.pause_reading()
        probe = self.poller.probe()
        probe.send(frame(TEXT, b"5") + frame(TEXT, b"4x"))
        self.assertEqual(self.recorder.messages, [])
        self.socket.resume_reading()
        self.world.turn()
        self.assertEqual(self.recorder.messages, ["x"])


class PauseTests(SynchronousTestCase):
    """The receiver may ask for nothing more."""

    def test_websocket(self) -> None:
        world = World()
        peer, recorder = world.websocket()
        recorder.on_message = lambda data: recorder.socket.pause_reading()
        peer.send(b"".join(frame(TEXT, b"4%d" % number) for number in range(3)))
        self.assertEqual((recorder.messages, peer.wire.reading), (["0"], False))
        recorder.on_message = lambda data: None
        recorder.socket.resume_reading()
        world.turn()
        self.assertEqual((recorder.messages, peer.wire.reading), (["0", "1", "2"], True))

    def test_websocket_inside_a_message(self) -> None:
        world = World()
        peer, recorder = world.websocket()

        def flicker(data: str | bytes) -> None:
            recorder.socket.pause_reading()
            recorder.socket.resume_reading()

        recorder.on_message = flicker
        peer.send(b"".join(frame(TEXT, b"4%d" % number) for number in range(3)))
        world.turn()
        self.assertEqual(recorder.messages, ["0", "1", "2"])

    def test_polling_answers_when_all_is_taken(self) -> None:
        world = World()
        poller = world.poller()
        recorder = poller.recorder
        recorder.on_message = lambda data: recorder.socket.pause_reading()
        self.assertIsNone(poller.bring(b"40\x1e41\x1e42"))
        self.assertEqual(recorder.messages, ["0"])
        recorder.on_message = lambda data: None
        recorder.socket.resume_reading()
        world.turn()
        answer = poller.bringing.answer()
        assert answer is not None
        self.assertEqual((answer.body, recorder.messages), (b"ok", ["0", "1", "2"]))

    def test_polling_of_very_many_packets_gives_others_a_turn(self) -> None:
        world = World()
        poller = world.poller()
        self.assertIsNone(poller.bring(b"\x1e".join([b"4x"] * 1000)))
        self.assertEqual(len(poller.recorder.messages), 64)
        for _ in range(16):
            world.turn()
        self.assertEqual(len(poller.recorder.messages), 1000)
        answer = poller.bringing.answer()
        assert answer is not None
        self.assertEqual(answer.body, b"ok")


class GarbageTests(SynchronousTestCase):
    """What is over is freed at once: the garbage collector comes seldom, and holds up everybody."""

    def test_websocket(self) -> None:
        world = World()
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        for close in (lambda peer: peer.wire.hang_up(), lambda peer: peer.send(frame(CLOSE))):
            peer, recorder = world.websocket()
            websocket = weakref.ref(recorder.socket.carrier._websocket)
            close(peer)
            world.turn()
            peer.wire.hang_up()
            world.turn()
            # what the stand-ins of this test hold
            peer.wire.lost, peer.wire.producer = lambda reason: None, None
            world.recorders.clear()
            del peer, recorder
            self.assertIsNone(websocket())


class AdmissionTests(SynchronousTestCase):
    """Who may open a session."""

    targets = ("/engine.io/?EIO=4&transport=polling", "/engine.io/?EIO=4&transport=websocket")

    def open(self, world: World, target: str, **headers: str) -> int:
        peer = world.peer()
        answer = (
            peer.upgrade(target, **headers) if "websocket" in target else peer.ask("GET", target, **headers)
        )
        self.answered = answer
        return answer.status

    def test_no_room(self) -> None:
        def full(address: str) -> None:
            raise TooManyConnections("the service is full; try again")

        world = World(admit=full)
        for target in self.targets:
            self.assertEqual(self.open(world, target), 503)
            self.assertEqual(self.answered.json["code"], "connection.limit")
            self.assertEqual(self.answered.json["retryAfter"], 1000)
        self.assertEqual(world.recorders, [])

    def test_sessions_go_on_when_there_is_no_more_room(self) -> None:
        room = True

        def admit(address: str) -> None:
            if not room:
                raise TooManyConnections()

        world = World(admit=admit)
        poller = world.poller()
        room = False
        answer = poller.bring(b"4x")
        assert answer is not None
        self.assertEqual(answer.status, 200)
        poller.probe().say("5")
        self.assertEqual(poller.socket.transport, "websocket")

    def test_origins(self) -> None:
        refused: list[str] = []
        world = World(origin_refused=refused.append)
        for target in self.targets:
            good = 101 if "websocket" in target else 200
            self.assertEqual(self.open(world, target, Origin="https://app.example.com"), good)
            for origin in ("https://evil.example", "null", "https://app.example.com.evil.example"):
                self.assertEqual(self.open(world, target, Origin=origin), 403)
                self.assertEqual(self.answered.json, {"code": 4, "message": "Forbidden"})
        self.assertEqual(len(refused), 6)

    def test_handshake(self) -> None:
        for query_token in (False, True):
            world = World(query_token=query_token)
            for target in self.targets:
                self.open(world, target + "&token=q", Origin="https://app.example.com")
                handshake = world.recorders[-1].socket.handshake
                self.assertEqual(
                    (handshake.address, handshake.origin, handshake.token),
                    ("192.0.2.1", "https://app.example.com", "q" if query_token else None),
                )
                self.open(world, target + "&token=q", Authorization="Bearer h.h.h")
                self.assertEqual(world.recorders[-1].socket.handshake.token, "h.h.h")

    def test_session_ids_are_secret(self) -> None:
        world = World()
        ids = {world.poller().sid for _ in range(20)}
        self.assertEqual(len(ids), 20)
        self.assertTrue(all(len(sid) * 6 >= 128 for sid in ids))

    def test_a_receiver_that_can_not_be_made(self) -> None:
        def accept(socket: object) -> None:
            raise ZeroDivisionError

        world = World(accept=accept)
        peer = world.peer()
        peer.upgrade("/engine.io/?EIO=4&transport=websocket")
        self.assertEqual(close_of(peer), (4012, "internal.error"))
        polling = world.peer().ask("GET", self.targets[0])
        self.assertEqual(polling.status, 200)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)


_OPENING = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def _head(sid: str) -> object:
    from realtime.wire.request import parse

    target = f"GET /engine.io/?EIO=4&transport=websocket&sid={sid} HTTP/1.1\r\nHost: x\r\n\r\n"
    return parse(target.encode())


def _after_head(peer: Peer) -> Peer:
    data = peer.wire.output
    del data[: data.index(b"\r\n\r\n") + 4]
    return peer
