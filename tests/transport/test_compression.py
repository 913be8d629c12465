"""permessage-deflate: negotiated, bounded, one making for all; and nothing of it where it is off."""

from __future__ import annotations

import zlib
from itertools import pairwise
from random import Random
from typing import Any

from hypothesis import given, strategies
from twisted.trial.unittest import SynchronousTestCase

from realtime.transport import compression
from realtime.transport.compression import offered
from realtime.wire.request import parse
from realtime.wire.session import BINARY as BINARY_MESSAGE
from realtime.wire.session import Control, Frame, Several, deflated_frame, websocket_frame

from ..generated import unhurried
from .peer import BINARY, CLOSE, TEXT, Peer, Recorder, World, frame

OFFER = "permessage-deflate; client_max_window_bits"


def deflate(data: bytes, final: bool = False) -> bytes:
    """A message as a client compresses it."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    made = stream.compress(data)
    if final:
        return made + stream.flush() + b"\x00"
    return (made + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]


def inflate(data: bytes, window: int = 12) -> bytes:
    """A message as a client with this window reads it."""
    return zlib.decompressobj(-window).decompress(data + b"\x00\x00\xff\xff")


def messages(data: bytes) -> list[tuple[int, bool, bytes]]:
    """The frames of a server: opcode, whether it is compressed, and the message."""
    found = []
    while data:
        size, start = data[1], 2
        if size == 126:
            size, start = int.from_bytes(data[2:4], "big"), 4
        elif size == 127:
            size, start = int.from_bytes(data[2:10], "big"), 10
        payload, packed = data[start : start + size], bool(data[0] & 0x40)
        found.append((data[0] & 15, packed, inflate(payload) if packed else payload))
        data = data[start + size :]
    return found


class OfferTests(SynchronousTestCase):
    """Which offers are taken."""

    def offered(self, *values: str) -> str | None:
        lines = "".join(f"Sec-WebSocket-Extensions: {value}\r\n" for value in values)
        return offered(parse(f"GET / HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode()))

    def test_taken(self) -> None:
        flags = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
        for offer, answer in {
            "permessage-deflate": flags,
            OFFER: flags,
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover": flags,
            "permessage-deflate; client_max_window_bits=8": flags,
            'permessage-deflate; client_max_window_bits="10"': flags,
            "permessage-deflate; server_max_window_bits=12": f"{flags}; server_max_window_bits=12",
            "Permessage-Deflate ;server_max_window_bits=15": f"{flags}; server_max_window_bits=15",
            "x-other; a=1, permessage-deflate": flags,
            "permessage-deflate; server_max_window_bits=9, permessage-deflate": flags,
        }.items():
            self.assertEqual(self.offered(offer), answer, offer)
        self.assertEqual(self.offered("x-other", "permessage-deflate"), flags)

    def test_declined(self) -> None:
        for offer in (
            "",
            "x-webkit-deflate-frame",
            "permessage-deflate; server_max_window_bits=11",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; client_max_window_bits=7",
            "permessage-deflate; client_max_window_bits=08",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            "permessage-deflate; what",
            ", ".join(["x"] * compression.MAX_OFFERS + ["permessage-deflate"]),
        ):
            self.assertIsNone(self.offered(offer), offer)

    @unhurried
    @given(strategies.text(strategies.characters(min_codepoint=32, max_codepoint=126), max_size=80))
    def test_anything(self, text: str) -> None:
        """Whatever comes, there is an answer."""
        self.offered(f"permessage-deflate;{text}")


class FrameTests(SynchronousTestCase):
    """What is sent."""

    def test_threshold(self) -> None:
        """Short parts stay as they are, and so does what compression would make longer."""
        short, long = Frame(b"4" + b"a" * 98), Frame(b"4" + b"a" * 99)
        self.assertIs(short.deflated(100), short.websocket)
        self.assertLess(len(long.deflated(100)), 20)
        self.assertEqual(messages(long.deflated(100)), [(TEXT, True, long.text)])
        noise = Random(1).randbytes(300)
        self.assertEqual(deflated_frame(BINARY_MESSAGE, noise)[0], 0x82)

    def test_attachments(self) -> None:
        made = Frame(b"451-2", (b"\x00" * 500, b"\x01")).deflated(100)
        self.assertEqual(
            messages(made),
            [(TEXT, False, b"451-2"), (BINARY, True, b"\x00" * 500), (BINARY, False, b"\x01")],
        )

    def test_several(self) -> None:
        """Several frames stay several messages; a ping is never compressed."""
        ping = Control()
        self.assertIs(ping.deflated(0), ping.websocket)
        made = Several((ping, Frame(b"a" * 200), Frame(b"b"))).deflated(100)
        self.assertEqual(messages(made), [(9, False, b""), (TEXT, True, b"a" * 200), (TEXT, False, b"b")])

    def test_once(self) -> None:
        """All who negotiated it share one making."""
        shared = Frame(b"4" + b"a" * 5000)
        self.assertIs(shared.deflated(100), shared.deflated(100))

    @unhurried
    @given(strategies.binary(max_size=20_000), strategies.integers(1, 40))
    def test_any_message(self, data: bytes, times: int) -> None:
        """A client of the smallest window that is agreed to reads what was sent."""
        made = deflated_frame(BINARY, data * times)
        ((opcode, _, payload),) = messages(made)
        self.assertEqual((opcode, payload), (BINARY, data * times))
        self.assertLessEqual(len(made), len(websocket_frame(BINARY, data * times)))


class ExchangeTests(SynchronousTestCase):
    """A client of the port, by Engine.IO."""

    def setUp(self) -> None:
        self.world = World(compress_from=100)

    def open(self, offer: str | None = OFFER) -> tuple[Peer, Recorder]:
        peer = self.world.peer()
        headers = {} if offer is None else {"Sec_WebSocket_Extensions": offer}
        answer = peer.upgrade("/engine.io/?EIO=4&transport=websocket", **headers)
        self.assertEqual(answer.status, 101)
        told = answer.headers.get("sec-websocket-extensions")
        self.assertEqual(
            told is not None, offer is not None and self.world.websockets.compress_from is not None
        )
        if told is not None:
            self.assertIn("client_no_context_takeover", told)
            self.assertIn("server_no_context_takeover", told)
        peer.read()
        return peer, self.world.recorders[-1]

    def code(self, peer: Peer) -> int | None:
        for opcode, payload in peer.frames():
            if opcode == CLOSE:
                return int.from_bytes(payload[:2], "big")
        return None

    def test_off(self) -> None:
        """Where it is off an offer is not answered, and a compressed message breaks the protocol."""
        self.world = World()
        peer, recorder = self.open()
        peer.send(frame(TEXT | 0x40, deflate(b"4x")))
        self.assertEqual((self.code(peer), recorder.messages), (1002, []))

    def test_who_does_not_offer(self) -> None:
        """One fan-out goes out compressed to some and as it is to others."""
        one, first = self.open()
        other, second = self.open(None)
        again, third = self.open()
        shared = Frame(b"4" + b"x" * 500)
        for recorder in (first, second, third):
            recorder.socket.write(shared)
        self.assertEqual(messages(other.read()), [(TEXT, False, shared.text)])
        sent = one.read()
        self.assertEqual(messages(sent), [(TEXT, True, shared.text)])
        self.assertEqual(again.read(), sent)

    def test_what_waited(self) -> None:
        """What had to wait for a slow client leaves compressed, too."""
        peer, recorder = self.open()
        peer.wire.stalled, peer.wire.mark = True, 10
        for text in (b"a", b"b", b"c"):
            recorder.socket.write(Frame(b"4" + text * 300))
            self.world.turn()
        self.assertTrue(recorder.socket.waits)
        peer.wire.stalled = False
        found = messages(peer.read() + peer.read() + peer.read())
        self.assertEqual(
            [(packed, text[1:2]) for _, packed, text in found], [(True, t) for t in (b"a", b"b", b"c")]
        )

    def test_received(self) -> None:
        """Compressed and plain, whole and in parts, with pings between, ended in either way."""
        peer, recorder = self.open()
        text = b"4" + "höher ".encode() * 200
        packed = deflate(text)
        peer.send(frame(TEXT | 0x40, packed))
        peer.send(frame(TEXT, b"4plain"))
        peer.send(frame(TEXT | 0x40, packed[:7], final=False) + frame(9, b"?"))
        peer.send(frame(0, packed[7:9], final=False) + frame(0, packed[9:]))
        peer.send(frame(TEXT | 0x40, deflate(text, final=True)))
        peer.send(frame(BINARY | 0x40, deflate(b"\x00" * 999)))
        expected = [text[1:].decode(), "plain", text[1:].decode(), text[1:].decode(), b"\x00" * 999]
        for _ in range(3):
            self.world.turn()
        self.assertEqual(recorder.messages, expected)

    def test_bomb(self) -> None:
        """A little that becomes too much is refused when it has become as much as may be, not later."""
        peer, recorder = self.open()
        peer.send(frame(TEXT | 0x40, deflate(b"4" + b"x" * 50_000_000)))
        self.assertEqual((self.code(peer), recorder.messages), (1009, []))

    def test_bomb_in_parts(self) -> None:
        peer, recorder = self.open()
        packed = deflate(b"4" + b"x" * 150_000)
        peer.send(frame(TEXT | 0x40, packed[:90], final=False) + frame(0, packed[90:]))
        self.assertEqual((self.code(peer), recorder.messages), (1009, []))

    def test_as_much_as_may_be(self) -> None:
        """To the byte."""
        for size, code in ((100_000, None), (100_001, 1009), (100_040, 1009)):
            peer, recorder = self.open()
            peer.send(frame(TEXT | 0x40, deflate(b"4" * size)))
            self.world.turn()
            self.assertEqual((self.code(peer), len(recorder.messages)), (code, 0 if code else 1), size)

    def test_many_that_become_much(self) -> None:
        """A client's small messages that become large ones leave the others their turn."""
        peer, recorder = self.open()
        peer.send(frame(TEXT | 0x40, deflate(b"4" + b"x" * 90_000)) * 20)
        first = len(recorder.messages)
        self.assertLessEqual(first, 1 + compression.PER_TURN // 90_000)
        for _ in range(20):
            self.world.turn()
        self.assertEqual(len(recorder.messages), 20)

    def test_corrupt(self) -> None:
        """What is no deflate data, a compressed ping, a compressed continuation."""
        for sent, code in (
            (frame(TEXT | 0x40, b"\xff\xff\xff\xff"), 1007),
            (frame(TEXT | 0x40, deflate(b"4\xff" * 300)), 1007),
            (frame(9 | 0x40, b""), 1002),
            (frame(TEXT | 0x40, deflate(b"4x"), final=False) + frame(0x40, b"x"), 1002),
            (frame(TEXT | 0x20, b"4x"), 1002),
        ):
            peer, recorder = self.open()
            peer.send(sent)
            self.assertEqual((self.code(peer), recorder.messages), (code, []), sent)

    def test_nothing_is_kept(self) -> None:
        """No connection keeps a window between two messages."""
        peer, _ = self.open()
        peer.send(frame(TEXT | 0x40, deflate(b"4" + b"x" * 1000)))
        websocket: Any = peer.door.dataReceived.__self__  # type: ignore[attr-defined]
        self.assertIsNone(websocket._perMessageCompress._stream)

    @unhurried
    @given(strategies.binary(max_size=300), strategies.lists(strategies.integers(0, 400), max_size=4))
    def test_any_garbage(self, data: bytes, cuts: list[int]) -> None:
        """Whatever comes as compressed data ends in a message or in a close with a code."""
        peer, recorder = self.open()
        sent = frame(BINARY | 0x40, data)
        edges = sorted({0, len(sent), *(cut for cut in cuts if cut < len(sent))})
        for start, end in pairwise(edges):
            peer.send(sent[start:end])
        self.world.turn()
        code = self.code(peer)
        self.assertTrue(len(recorder.messages) == 1 or code in (1007, 1009), (recorder.messages, code))
