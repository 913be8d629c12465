from __future__ import annotations

from hypothesis import given, strategies
from twisted.trial.unittest import SynchronousTestCase

from realtime.wire.request import BadRequest, Chunked, Head, parse

from ..generated import unhurried


def head(*lines: bytes, first: bytes = b"GET /a?b=c HTTP/1.1", host: bytes = b"Host: x") -> bytes:
    return b"\r\n".join([first, *([host] if host else []), *lines, b"", b""])


class HeadTests(SynchronousTestCase):
    """A request's head is read in one way, or not at all."""

    def test_parts(self) -> None:
        read = parse(head(b"X-Thing:  a b\t", b"Accept: */*"))
        self.assertEqual((read.method, read.path, read.query), (b"GET", b"/a", b"b=c"))
        self.assertEqual((read.minor, read.length), (1, 0))
        self.assertEqual(read.fields, [(b"host", b"x"), (b"x-thing", b"a b"), (b"accept", b"*/*")])
        self.assertEqual((read.get(b"x-thing"), read.get(b"none")), (b"a b", None))

    def refused(self, raw: bytes, status: int = 400) -> None:
        with self.assertRaises(BadRequest, msg=raw) as caught:
            parse(raw)
        self.assertEqual(caught.exception.status, status, raw)

    def test_request_lines(self) -> None:
        for first in (
            b"",
            b"GET",
            b"GET /",
            b"GET  / HTTP/1.1",
            b" GET / HTTP/1.1",
            b"GET / HTTP/1.1 ",
            b"GET\t/ HTTP/1.1",
            b"G(T / HTTP/1.1",
            b"GET x HTTP/1.1",
            b"GET http://x/ HTTP/1.1",
            b"GET /#fragment HTTP/1.1",
            b"GET /\xc3\xa4 HTTP/1.1",
            b"GET / / HTTP/1.1",
        ):
            self.refused(head(first=first))
        for first in (b"GET / HTTP/2.0", b"GET / HTTP/0.9", b"GET / http/1.1", b"GET / HTTP/1.10"):
            self.refused(head(first=first), 505)
        self.assertEqual(parse(head(first=b"OPTIONS * HTTP/1.1")).path, b"*")
        self.assertEqual(parse(head(first=b"GET / HTTP/1.0", host=b"")).minor, 0)

    def test_hostile_bytes(self) -> None:
        """Bytes at which some readers of heads end a line, or a string (RELIABILITY.md row 8)."""
        for byte in (*range(0x20), 0x7F, 0x85):
            if byte != 0x09:
                self.refused(head(b"X-A: a%bX-B: b" % bytes([byte])))
                self.refused(head(first=b"GET /a%b HTTP/1.1" % bytes([byte])))
        self.refused(head(b"X-A: a\rX-B: b"))
        self.refused(head(b"X-A: a\nX-B: b"))

    def test_other_bytes(self) -> None:
        self.assertEqual(parse(head(b"X-A: a\tb\xe4\xff")).get(b"x-a"), b"a\tb\xe4\xff")

    def test_fields(self) -> None:
        for line in (b"X-A", b"X-A : b", b": b", b"X A: b", b" folded", b"\tfolded", b"X\xe4: b", b"X(: b"):
            self.refused(head(b"X: y", line))

    def test_host(self) -> None:
        self.refused(head(host=b""))
        for host in (b"a b", b"a/b", b"a@b:80:80", b"a:port", b"[::1", b"a:123456", b"a\xe4"):
            self.refused(head(host=b"Host: " + host))
        for host in (b"example.com", b"example.com:80", b"[::1]:3003", b"127.0.0.1", b"", b"a_b"):
            self.assertEqual(parse(head(host=b"Host: " + host)).get(b"host"), host)

    def test_doubled(self) -> None:
        for name, text in (
            (b"Host", b"x"),
            (b"Content-Length", b"0"),
            (b"Transfer-Encoding", b"chunked"),
            (b"Upgrade", b"websocket"),
            (b"Origin", b"https://a"),
            (b"Authorization", b"Bearer a"),
            (b"Content-Type", b"text/plain"),
            (b"Sec-WebSocket-Key", b"a"),
            (b"Sec-WebSocket-Version", b"13"),
        ):
            line = name + b": " + text
            self.refused(head(line, line.lower()) if name != b"Host" else head(line))
        self.assertEqual(len(parse(head(b"Accept: a", b"Accept: b")).fields), 3)

    def test_length(self) -> None:
        self.assertEqual(parse(head(b"Content-Length: 007")).length, 7)
        self.assertIsNone(parse(head(b"Transfer-Encoding: Chunked")).length)
        for text in (b"", b"-1", b"+1", b"1 1", b"1,1", b"0x1", b"1_0", b"\xb2", b"1" * 16):
            self.refused(head(b"Content-Length: " + text))
        for text in (b"identity", b"gzip", b"chunked, identity", b"gzip, chunked", b"xchunked", b""):
            self.refused(head(b"Transfer-Encoding: " + text))
        self.refused(head(b"Transfer-Encoding: chunked", b"Content-Length: 1"))
        self.refused(head(b"Transfer-Encoding: chunked", first=b"POST / HTTP/1.0"))

    def test_upgrade(self) -> None:
        asks = head(b"Upgrade: h2c, WebSocket", b"Connection: keep-alive, upgrade")
        self.assertTrue(parse(asks).websocket)
        self.assertFalse(parse(head(b"Upgrade: websocket")).websocket)
        self.assertFalse(parse(head(b"Upgrade: h2c", b"Connection: Upgrade")).websocket)
        self.assertFalse(parse(head(b"Connection: Upgrade")).websocket)

    def test_no_body_with_an_upgrade(self) -> None:
        self.refused(head(b"Upgrade: websocket", b"Content-Length: 5"))
        self.refused(head(b"Upgrade: h2c", b"Transfer-Encoding: chunked"))
        self.assertTrue(parse(head(b"Upgrade: websocket", b"Connection: upgrade", b"Content-Length: 0")))

    def test_persistence(self) -> None:
        self.assertTrue(parse(head()).persistent)
        self.assertTrue(parse(head(b"Connection: closet")).persistent)
        self.assertFalse(parse(head(b"Connection: TE, Close")).persistent)
        self.assertFalse(parse(head(first=b"GET / HTTP/1.0")).persistent)

    def test_very_many_fields(self) -> None:
        parse(head(*[b"X: y"] * 99))
        self.refused(head(*[b"X: y"] * 100), 431)

    def test_no_refusal_quotes_the_request(self) -> None:
        for raw in (head(b"Secret"), head(first=b"Secret"), head(b"Content-Length: Secret")):
            with self.assertRaises(BadRequest) as caught:
                parse(raw)
            self.assertNotIn("Secret", str(caught.exception) + caught.exception.code)

    @unhurried
    @given(strategies.binary(max_size=200))
    def test_any_bytes(self, raw: bytes) -> None:
        try:
            self.assertIsInstance(parse(raw + b"\r\n\r\n"), Head)
        except BadRequest as refused:
            self.assertIn(refused.status, (400, 431, 505))


class ChunkedTests(SynchronousTestCase):
    """A body in chunks is put together, whatever pieces it arrives in."""

    body = b"5\r\nhello\r\n1;name=value\r\n \r\nA \t\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\nnext"

    def test_whole(self) -> None:
        chunked = Chunked(100)
        self.assertEqual(b"".join(chunked.feed(self.body)), b"hello 0123456789")
        self.assertEqual(chunked.rest, b"next")

    def test_in_pieces(self) -> None:
        for size in range(1, len(self.body)):
            chunked = Chunked(16)
            taken, rest = b"", b""
            for start in range(0, len(self.body), size):
                piece = self.body[start : start + size]
                if chunked.rest is None:
                    taken += b"".join(chunked.feed(piece))
                    rest = chunked.rest or b""
                else:
                    rest += piece
            self.assertEqual((taken, rest), (b"hello 0123456789", b"next"))

    def refused(self, data: bytes, status: int = 400, limit: int = 100) -> None:
        for pieces in ([data], [data[place : place + 1] for place in range(len(data))]):
            chunked = Chunked(limit)
            with self.assertRaises(BadRequest, msg=data) as caught:
                for piece in pieces:
                    chunked.feed(piece)
            self.assertEqual(caught.exception.status, status, data)

    def test_wrong(self) -> None:
        for data in (
            b"\r\n",
            b"g\r\n",
            b"-1\r\n",
            b"+1\r\n",
            b"0x1\r\n",
            b"1_0\r\n",
            b" 1\r\n",
            b"123456789\r\n",
            b"1;a\nb\r\n",
            b"1\r\nab\r\n",
            b"1\r\na\n\n",
            b"0\r\nX: \x00\r\n",
            b"1" * 300,
            b"0\r\n" + b"a" * 5000,
            b"0\r\n" + b"X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n" * 200,
        ):
            self.refused(data)

    def test_too_much(self) -> None:
        self.refused(b"65\r\n", 413)
        self.refused(b"32\r\n" + b"x" * 50 + b"\r\n33\r\n", 413)
        self.refused(b"ffffffff\r\n", 413)

    @unhurried
    @given(strategies.binary(max_size=100))
    def test_any_bytes(self, data: bytes) -> None:
        chunked = Chunked(50)
        try:
            self.assertLessEqual(len(b"".join(chunked.feed(data))), 50)
        except BadRequest as refused:
            self.assertIn(refused.status, (400, 413))

    @unhurried
    @given(
        strategies.lists(strategies.binary(min_size=1, max_size=20), max_size=8), strategies.integers(1, 9)
    )
    def test_any_chunks(self, chunks: list[bytes], size: int) -> None:
        data = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
        chunked = Chunked(1000)
        taken = [chunked.feed(data[start : start + size]) for start in range(0, len(data), size)]
        self.assertEqual(b"".join(b"".join(part) for part in taken), b"".join(chunks))
        self.assertEqual(chunked.rest, b"")
