"""The PROXY protocol, versions 1 and 2: what a proxy says of a connection before anything else."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

import msgspec

from .request import BadRequest

#: Bytes of a version 1 line, and of a version 2 header: both as the protocol's text has them.
MAX_LINE: Final = 107
MAX_HEADER: Final = 16 + 2048

_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_LINE: Final = re.compile(
    rb"PROXY (?:UNKNOWN[ -~]*|TCP(4|6) ([0-9A-Fa-f.:]{2,45}) ([0-9A-Fa-f.:]{2,45}) (\d{1,5}) (\d{1,5}))\r\n"
)


class ProxyHeader(msgspec.Struct, frozen=True):
    """What a header said.

    :ivar size: its bytes.
    :ivar address: the client's; None where the proxy speaks for itself, or does not know.
    """

    size: int
    address: str | None


def read(data: bytes | bytearray) -> ProxyHeader | None:
    """The header that a connection begins with; None while it is not there whole.

    :raises BadRequest: it begins with something else.
    """
    if data.startswith(_SIGNATURE[: len(data)]):
        return _version_2(bytes(data[:MAX_HEADER]))
    if data.startswith(b"PROXY "[: len(data)]):
        return _version_1(bytes(data[:MAX_LINE]))
    raise _wrong()


def _wrong() -> BadRequest:
    return BadRequest(400, "request.proxy_header", "the PROXY header is missing or wrong")


def _version_1(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\r\n")
    if end < 0:
        if len(data) >= MAX_LINE:
            raise _wrong()
        return None
    found = _LINE.fullmatch(data[: end + 2])
    if found is None:
        raise _wrong()
    if found[1] is None:
        return ProxyHeader(end + 2, None)
    addresses = [_parsed(found[index].decode()) for index in (2, 3)]
    if any(address.version != int(found[1]) for address in addresses):
        raise _wrong()
    return ProxyHeader(end + 2, str(addresses[0]))


def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise _wrong() from None


def _version_2(data: bytes) -> ProxyHeader | None:
    if len(data) < 16:
        return None
    version, command, family = data[12] >> 4, data[12] & 15, data[13]
    size = 16 + int.from_bytes(data[14:16], "big")
    if version != 2 or command > 1 or size > MAX_HEADER:
        raise _wrong()
    if len(data) < size:
        return None
    # TCP over IPv4, TCP over IPv6; of others the protocol says to take the connection as it is
    length = {0x11: 4, 0x21: 16}.get(family)
    if command == 0 or length is None:
        return ProxyHeader(size, None)
    if size < 16 + 2 * length + 4:
        raise _wrong()
    return ProxyHeader(size, str(ipaddress.ip_address(data[16 : 16 + length])))
