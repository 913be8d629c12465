"""Tests for realtime.wire.session: frames as a WebSocket and as long-polling carry them."""

from __future__ import annotations

import io
from base64 import b64encode

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from websocket import ABNF
from websocket._abnf import frame_buffer

from realtime.wire.session import BINARY, TEXT, Frame, websocket_frame

from ..generated import unhurried


def parsed(stream: bytes) -> list[tuple[int, bytes]]:
    """The frames in a server's bytes, as websocket-client reads them."""
    source = io.BytesIO(stream)
    reader = frame_buffer(source.read, skip_utf8_validation=False)
    found = []
    while source.tell() < len(stream):
        frame = reader.recv_frame()
        if not frame.fin or frame.mask_value or frame.rsv1 or frame.rsv2 or frame.rsv3:
            raise AssertionError("a server sends whole, unmasked, uncompressed frames")
        found.append((frame.opcode, frame.data))
    return found


class WebSocketFrameTests(SynchronousTestCase):
    def test_headers(self) -> None:
        """RFC 6455 section 5.2: the length takes the fewest bytes that it fits in."""
        for size, header in [
            (0, "8100"),
            (1, "8101"),
            (125, "817d"),
            (126, "817e007e"),
            (127, "817e007f"),
            (65535, "817effff"),
            (65536, "817f0000000000010000"),
            (1_000_000, "817f00000000000f4240"),
        ]:
            payload = b"x" * size
            self.assertEqual(websocket_frame(TEXT, payload), bytes.fromhex(header) + payload)
            self.assertEqual(parsed(websocket_frame(TEXT, payload)), [(ABNF.OPCODE_TEXT, payload)])

    def test_binary(self) -> None:
        self.assertEqual(websocket_frame(BINARY, b"\xff"), b"\x82\x01\xff")

    @unhurried
    @given(st.lists(st.tuples(st.sampled_from([TEXT, BINARY]), st.text(max_size=200)), max_size=5))
    def test_another_library_reads_them(self, messages: list[tuple[int, str]]) -> None:
        frames = [(opcode, text.encode(errors="replace")) for opcode, text in messages]
        stream = b"".join(websocket_frame(opcode, payload) for opcode, payload in frames)
        self.assertEqual(parsed(stream), frames)


class FrameTests(SynchronousTestCase):
    def test_text(self) -> None:
        frame = Frame('42["ж"]'.encode())
        self.assertEqual(frame.websocket, websocket_frame(TEXT, frame.text))
        self.assertEqual(frame.polling, frame.text)

    def test_attachments_follow_the_text(self) -> None:
        big = bytes(range(256)) * 300
        frame = Frame(b"452-[]", (b"\x00\xff", big))
        self.assertEqual(parsed(frame.websocket), [(TEXT, b"452-[]"), (BINARY, b"\x00\xff"), (BINARY, big)])
        self.assertEqual(frame.polling.split(b"\x1e"), [b"452-[]", b"bAP8=", b"b" + b64encode(big)])

    def test_an_empty_attachment_is_sent(self) -> None:
        frame = Frame(b"451-[]", (b"",))
        self.assertEqual(parsed(frame.websocket), [(TEXT, b"451-[]"), (BINARY, b"")])
        self.assertEqual(frame.polling, b"451-[]\x1eb")

    def test_binary_alone(self) -> None:
        frame = Frame(b"", (b"a", b"b"))
        self.assertEqual(parsed(frame.websocket), [(BINARY, b"a"), (BINARY, b"b")])
        self.assertEqual(frame.polling, b"bYQ==\x1ebYg==")

    def test_bytes_are_made_once(self) -> None:
        frame = Frame(b"x", (b"y",))
        self.assertIs(frame.websocket, frame.websocket)
        self.assertIs(frame.polling, frame.polling)
