"""The PROXY protocol: literal headers of both versions, in one piece and byte by byte, and rubbish."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from realtime.wire.proxy_header import MAX_LINE, ProxyHeader, read
from realtime.wire.request import BadRequest

from ..generated import unhurried

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def version_2(client: str, command: int = 0x21, family: int | None = None, more: bytes = b"") -> bytes:
    address = ipaddress.ip_address(client).packed
    kind = (0x11 if len(address) == 4 else 0x21) if family is None else family
    body = address + address + b"\x10\x00\x20\x00" + more
    return SIGNATURE + bytes((command, kind)) + len(body).to_bytes(2, "big") + body


GOOD = (
    (b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\r\n", "192.0.2.1"),
    (b"PROXY TCP6 2001:db8::5 2001:db8::1 56324 443\r\n", "2001:db8::5"),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN ffff:f::f ffff::1 65535 65535\r\n", None),
    (version_2("192.0.2.1"), "192.0.2.1"),
    (version_2("2001:db8::5"), "2001:db8::5"),
    (version_2("192.0.2.1", more=b"\x04\x00\x02xx"), "192.0.2.1"),
    (version_2("192.0.2.1", 0x20), None),
    (version_2("192.0.2.1", family=0x31), None),
    (SIGNATURE + b"\x20\x00\x00\x00", None),
)
BAD = (
    b"GET / HTTP/1.1\r\n",
    b"PROXY TCP4 192.0.2.1 10.0.0.1 56324\r\n",
    b"PROXY TCP4 2001:db8::5 10.0.0.1 1 2\r\n",
    b"PROXY TCP6 192.0.2.1 10.0.0.1 1 2\r\n",
    b"PROXY TCP4 999.0.2.1 10.0.0.1 1 2\r\n",
    b"PROXY TCP5 192.0.2.1 10.0.0.1 1 2\r\n",
    b"PROXY  TCP4 192.0.2.1 10.0.0.1 1 2\r\n",
    b"PROXY TCP4 192.0.2.1 10.0.0.1 1 2\n" + b" " * MAX_LINE,
    b"PROXY " + b"x" * MAX_LINE,
    b"PROXX",
    b"\x16\x03\x01",
    SIGNATURE + b"\x11\x11\x00\x0c" + b"x" * 12,
    SIGNATURE + b"\x22\x11\x00\x0c" + b"x" * 12,
    SIGNATURE + b"\x21\x11\x00\x04" + b"x" * 4,
    SIGNATURE + b"\x21\x11\xff\xff",
)


class ReadTests(SynchronousTestCase):
    def test_good(self) -> None:
        for data, address in GOOD:
            self.assertEqual(read(data), ProxyHeader(len(data), address), data)
            self.assertEqual(read(data + b"GET / HTTP/1.1\r\n"), ProxyHeader(len(data), address), data)

    def test_in_pieces(self) -> None:
        for data, _ in GOOD:
            for size in range(1, len(data)):
                self.assertIsNone(read(data[:size]), data[:size])

    def test_bad(self) -> None:
        for data in BAD:
            self.assertRaises(BadRequest, read, data)

    @unhurried
    @given(st.binary(max_size=300), st.sampled_from([b"", b"PROXY ", SIGNATURE, SIGNATURE + b"\x21\x11"]))
    def test_anything(self, data: bytes, start: bytes) -> None:
        try:
            header = read(start + data)
        except BadRequest:
            return
        if header is not None:
            self.assertLessEqual(header.size, len(start + data))
