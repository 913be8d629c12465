"""What RFC 6455 asks of a server, case by case, in memory; numbers are those of Autobahn's suite.

Each case goes in whole, byte by byte, and in uneven pieces: what comes back must be the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from websocket import ABNF, WebSocket

from ..transport.peer import BINARY, CLOSE, PING, PONG, TEXT, Peer, frame
from .client import PATIENCE
from .process import port_of
from .websocket import MAX_MESSAGE, echo_port

CONTINUATION: Final = 0
#: Bytes past which a case does not go in byte by byte.
LONG: Final = 2000
NO_UTF8: Final = {
    "a lone continuation byte": b"\x80",
    "a surrogate": b"\xed\xa0\x80",
    "an overlong slash": b"\xc0\xaf",
    "an overlong NUL": b"\xe0\x80\x80",
    "past the last code point": b"\xf4\x90\x80\x80",
    "a byte that is never used": b"\xfe",
    "five bytes": b"\xf8\x88\x80\x80\x80",
    "cut off": "\N{GREEK SMALL LETTER KAPPA}".encode()[:1],
}
UTF8: Final = (
    "Hello-µ@ßöäüàá-UTF-8!!",
    "κόσμε",
    "\N{GRINNING FACE}",
    "\x00",
    "\U0010ffff",
    "\ufffe\uffff",
    "\ud7ff\ue000",
)
CODES: Final = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)
NO_CODES: Final = (0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65535)

Sent = list[tuple[int, bytes]]


class SuiteCase(SynchronousTestCase):
    def answers(self, *frames: bytes, step: int = 0) -> Sent:
        """All that comes back when these bytes go in, in pieces of `step`; 0 for all at once."""
        clock = Clock()
        peer = Peer(echo_port(clock), clock)
        self.assertEqual(peer.upgrade("/").status, 101)
        data = b"".join(frames)
        found: Sent = []
        for start in range(0, len(data), step or max(len(data), 1)):
            peer.send(data[start : start + (step or len(data))])
            found += peer.frames()
        clock.advance(0)
        return found + peer.frames()

    def check(self, sent: Iterable[bytes], wanted: Sent) -> None:
        """It is answered with just this, however it is cut up."""
        sent = tuple(sent)
        long = sum(map(len, sent)) > LONG
        for step in (0, 7919) if long else (0, 1, 3, 7):
            self.assertEqual(self.answers(*sent, step=step), wanted, (sent[0][:40], step))

    def check_fails(self, sent: Iterable[bytes], code: int, before: Sent | None = None) -> None:
        """What comes before the fault is answered; then the connection is closed with a code, and deaf."""
        sent = (*sent, frame(TEXT, b"after"))
        for step in (0, 1, 3, 7):
            *others, (opcode, payload) = self.answers(*sent, step=step)
            told = (others, opcode, int.from_bytes(payload[:2], "big"))
            self.assertEqual(told, (before or [], CLOSE, code), (sent[0][:40], step))


def closing(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, code.to_bytes(2, "big") + reason)


class MessageTests(SuiteCase):
    """1 and 5: messages of any size, in any number of frames."""

    def test_sizes(self) -> None:
        """1.1, 1.2: sizes around those where the length is written otherwise."""
        for size in (0, 1, 125, 126, 127, 128, 65535, 65536, 70000):
            for opcode, payload in ((TEXT, b"*" * size), (BINARY, b"\xfe" * size)):
                self.check([frame(opcode, payload)], [(opcode, payload)])

    def test_masks(self) -> None:
        """Any mask, that of nothing too."""
        for mask in (bytes(4), b"\xff" * 4, b"\x00\xff\x80\x7f"):
            self.check([frame(TEXT, b"masked text", mask=mask)], [(TEXT, b"masked text")])

    def test_fragments(self) -> None:
        """5.3 to 5.8: a message in frames, empty ones too; pings in between are answered first."""
        first, last = frame(TEXT, b"frag", final=False), frame(CONTINUATION, b"ment")
        empty = frame(CONTINUATION, final=False)
        whole = (TEXT, b"fragment")
        self.check([first, last], [whole])
        self.check([first, empty, empty, last], [whole])
        self.check([first, frame(PING, b"ping"), last], [(PONG, b"ping"), whole])
        self.check([first, frame(PONG, b"unasked"), last], [whole])
        self.check([frame(BINARY, final=False), empty, frame(CONTINUATION)], [(BINARY, b"")])
        self.check(
            [frame(BINARY, b"\xff", final=False), frame(CONTINUATION, b"\xfe")], [(BINARY, b"\xff\xfe")]
        )

    def test_many_messages(self) -> None:
        """5.19: one message after another, each answered once and in order."""
        sent, wanted = [], []
        for number in range(200):
            text = str(number).encode()
            half = len(text) // 2
            sent += [
                frame(TEXT, text[:half], final=False),
                frame(PING, text),
                frame(CONTINUATION, text[half:]),
            ]
            sent.append(frame(BINARY, text))
            wanted += [(PONG, text), (TEXT, text), (BINARY, text)]
        # more than so many pings and pongs a second are refused
        sent, wanted = sent[: 4 * 60], wanted[: 3 * 60]
        self.assertEqual(self.answers(*sent), wanted)
        self.assertEqual(self.answers(*sent, step=5), wanted)

    def test_wrong_fragments(self) -> None:
        """5.1, 5.2, 5.9 to 5.18: control frames in pieces, continuations of nothing, nesting."""
        first = frame(TEXT, b"first", final=False)
        for wrong in (
            [frame(PING, b"x", final=False), frame(CONTINUATION, b"y")],
            [frame(PONG, b"x", final=False), frame(CONTINUATION, b"y")],
            [frame(CLOSE, b"\x03\xe8", final=False)],
            [frame(CONTINUATION, b"nothing")],
            [frame(CONTINUATION, b"nothing", final=False), frame(TEXT, b"x")],
            [first, frame(TEXT, b"second")],
            [first, frame(BINARY, b"second", final=False)],
        ):
            self.check_fails(wrong, 1002)
        self.check_fails(
            [first, frame(CONTINUATION, b" last"), frame(CONTINUATION, b"more")],
            1002,
            [(TEXT, b"first last")],
        )


class ControlTests(SuiteCase):
    """2: pings and pongs."""

    def test_pings(self) -> None:
        """2.1 to 2.4, 2.6: a ping's payload comes back, whatever it is."""
        for payload in (b"", b"Hello", b"\x00\xff\xfe\xfd", b"\xfe" * 125):
            self.check([frame(PING, payload)], [(PONG, payload)])

    def test_pongs(self) -> None:
        """2.7 to 2.9: pongs that nobody asked for are not answered."""
        self.check([frame(PONG), frame(PONG, b"unasked"), frame(PING, b"x")], [(PONG, b"x")])

    def test_many(self) -> None:
        """2.10, 2.11: each ping in its turn."""
        payloads = [str(number).encode() for number in range(10)]
        self.check(map(ping, payloads), [(PONG, payload) for payload in payloads])

    def test_too_long(self) -> None:
        """2.5: a control frame carries 125 bytes at most."""
        for opcode in (PING, PONG, CLOSE):
            self.check_fails([frame(opcode, b"x" * 126)], 1002)


class ReservedTests(SuiteCase):
    """3 and 4: bits and opcodes that mean nothing; frames that RFC 6455 section 5.2 forbids."""

    def test_bits(self) -> None:
        """3: no extension was agreed on."""
        good = frame(TEXT, b"good")
        for bits in range(0x10, 0x80, 0x10):
            for opcode in (TEXT, BINARY, PING, PONG, CLOSE):
                self.check_fails([good, frame(opcode | bits, b"x")], 1002, [(TEXT, b"good")])

    def test_opcodes(self) -> None:
        """4: 3 to 7 and 11 to 15."""
        for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
            for payload in (b"", b"payload"):
                self.check_fails([frame(TEXT, b"good"), frame(opcode, payload)], 1002, [(TEXT, b"good")])

    def test_not_masked(self) -> None:
        """A client masks its frames (section 5.1)."""
        for opcode in (TEXT, BINARY, PING, CLOSE):
            self.check_fails([bytes((0x80 | opcode, 2)) + b"hi"], 1002)

    def test_lengths(self) -> None:
        """A length is written as short as can be, and is no negative number."""
        for head in (
            b"\x81\xfe\x00\x05",
            b"\x81\xfe\x00\x7d",
            b"\x81\xff" + (5).to_bytes(8, "big"),
            b"\x81\xff" + (65535).to_bytes(8, "big"),
            b"\x81\xff" + (1 << 63).to_bytes(8, "big"),
        ):
            self.check_fails([head, b"abcd" + bytes(5)], 1002)

    def test_too_big(self) -> None:
        """10, in part: what is larger than is taken is refused by its head alone."""
        head = b"\x82\xff" + (MAX_MESSAGE + 1).to_bytes(8, "big")
        self.check_fails([head, b"abcd"], 1009)
        self.check_fails(
            [frame(BINARY, b"x", final=False), b"\x80\xff" + MAX_MESSAGE.to_bytes(8, "big")], 1009
        )


class TextTests(SuiteCase):
    """6: texts are UTF-8."""

    def test_valid(self) -> None:
        """6.1, 6.2, 6.5 to 6.23: in one frame, and cut anywhere, within a character too."""
        for text in UTF8:
            data = text.encode()
            self.check([frame(TEXT, data)], [(TEXT, data)])
            for place in range(len(data) + 1):
                first, last = frame(TEXT, data[:place], final=False), frame(CONTINUATION, data[place:])
                self.assertEqual(self.answers(first, last), [(TEXT, data)])

    def test_invalid(self) -> None:
        """6.3, 6.8 to 6.22: in one frame, in a later one, and over the border of two."""
        for name, wrong in NO_UTF8.items():
            with self.subTest(name):
                self.check_fails(
                    [frame(TEXT, b"good"), frame(TEXT, b"bad" + wrong)], 1007, [(TEXT, b"good")]
                )
                halves = [frame(TEXT, b"bad", final=False), frame(CONTINUATION, wrong)]
                self.check_fails(halves, 1007)

    def test_at_once(self) -> None:
        """6.4: it does not take the end of the message to see it."""
        self.check_fails([frame(TEXT, "κόσμε".encode() + b"\xf4\x90", final=False)], 1007)
        self.check_fails(
            [frame(TEXT, b"good", final=False), frame(CONTINUATION, b"\xff", final=False)], 1007
        )

    def test_binary(self) -> None:
        """Of binary messages nobody asks it."""
        for wrong in NO_UTF8.values():
            self.check([frame(BINARY, wrong)], [(BINARY, wrong)])


class CloseTests(SuiteCase):
    """7: the close handshake."""

    def test_close(self) -> None:
        """7.1, 7.3: it is answered with a close; what comes after is not listened to."""
        for sent in (closing(1000), closing(1000, b"x" * 123), closing(1000, "κόσμε".encode())):
            (only,) = self.answers(sent, frame(TEXT, b"after"), frame(PING), sent)
            self.assertEqual((only[0], only[1][:2]), (CLOSE, (1000).to_bytes(2, "big")))
        (only,) = self.answers(frame(CLOSE))
        self.assertEqual((only[0], only[1][:2]), (CLOSE, (1000).to_bytes(2, "big")))

    def test_in_a_message(self) -> None:
        """7.1.4: a message that was begun is not answered."""
        found = self.answers(frame(TEXT, b"be", final=False), closing(1000), frame(CONTINUATION, b"gun"))
        self.assertEqual([opcode for opcode, _ in found], [CLOSE])

    def test_before_it(self) -> None:
        """7.1.6: what came before it is answered whole."""
        big = b"x" * 200_000
        found = self.answers(frame(TEXT, big), frame(PING, b"p"), closing(1000))
        self.assertEqual(found[:2], [(TEXT, big), (PONG, b"p")])
        self.assertEqual([opcode for opcode, _ in found[2:]], [CLOSE])

    def test_codes(self) -> None:
        """7.7: codes that may be sent are answered with the normal one or the same."""
        for code in CODES:
            (opcode, payload), *more = self.answers(closing(code))
            self.assertIn(int.from_bytes(payload[:2], "big"), (1000, code))
            self.assertEqual((opcode, more), (CLOSE, []))

    def test_no_codes(self) -> None:
        """7.9, 7.13: codes that must not be sent."""
        for code in NO_CODES:
            self.check_fails([closing(code)], 1002)

    def test_wrong_payload(self) -> None:
        """7.3.2, 7.3.6, 7.5: half a code, more than there may be, a reason that is no text."""
        self.check_fails([frame(CLOSE, b"\x03")], 1002)
        self.check_fails([closing(1000, b"x" * 124)], 1002)
        for wrong in NO_UTF8.values():
            self.check_fails([closing(1000, wrong)], 1007)


class ServerTests(SynchronousTestCase):
    """The echo as a process, by which public suites are run."""

    def test_echo(self) -> None:
        """Texts and binaries of many megabytes, in thousands of frames."""
        socket = WebSocket()
        self.addCleanup(socket.close)
        socket.settimeout(PATIENCE)
        socket.connect(f"ws://127.0.0.1:{port_of('websocket')}/")
        socket.send("κόσμε")
        self.assertEqual(socket.recv(), "κόσμε")
        whole = bytes(range(256)) * 4096 * 4
        socket.send_binary(whole)
        self.assertEqual(socket.recv(), whole)
        for number in range(5000):
            socket.send_frame(
                ABNF.create_frame(b"x" * 64, ABNF.OPCODE_CONT if number else ABNF.OPCODE_BINARY, 0)
            )
        socket.send_frame(ABNF.create_frame(b"", ABNF.OPCODE_CONT))
        self.assertEqual(socket.recv(), b"x" * 320_000)


def ping(payload: bytes) -> bytes:
    return frame(PING, payload)
