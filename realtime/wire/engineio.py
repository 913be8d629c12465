"""Engine.IO 4: packets, payloads, the open packet, and which requests are refused, with what.

Pure. The transports that carry these are in `realtime.transport`. The rules are those of the
protocol's document and of its reference server.
"""

from __future__ import annotations

import binascii
import enum
from collections.abc import Iterator
from typing import Final
from urllib.parse import parse_qsl

import msgspec

from ..errors import ProtocolError
from .session import Frame

#: Between two packets of a polling payload.
SEPARATOR: Final = "\x1e"

#: The protocol's version, as the query names it.
VERSION: Final = "4"

TRANSPORTS: Final = ("polling", "websocket")

#: Query fields that are read; whatever comes after is not looked at.
_MAX_FIELDS: Final = 32


class Type(enum.Enum):
    """The type of a packet, by its first character."""

    OPEN = "0"
    CLOSE = "1"
    PING = "2"
    PONG = "3"
    MESSAGE = "4"
    UPGRADE = "5"
    NOOP = "6"


_TYPES: Final = {kind.value: kind for kind in Type}

CLOSE: Final = Frame(b"1")
PING: Final = Frame(b"2")
NOOP: Final = Frame(b"6")
PROBE_PONG: Final = Frame(b"3probe")

#: What the data of a ping and its pong say while an upgrade is tried.
PROBE: Final = "probe"


class Packet(msgspec.Struct, frozen=True):
    """One packet. The data of a message is text, or bytes if it was binary."""

    type: Type
    data: str | bytes = ""


def decode(text: str) -> Packet:
    """A text packet, as a WebSocket carries it.

    :raises ProtocolError: there is no such packet type.
    """
    kind = _TYPES.get(text[:1])
    if kind is None:
        raise ProtocolError("no such packet type")
    return Packet(kind, text[1:])


def parts(body: bytes) -> Iterator[str]:
    """The encoded packets of a polling payload, cut off one by one, each for `decode_part`.

    :raises ProtocolError: the payload is not UTF-8.
    """
    try:
        return _cut(body.decode())
    except UnicodeDecodeError:
        raise ProtocolError("a payload is UTF-8") from None


def _cut(text: str) -> Iterator[str]:
    start = 0
    while (end := text.find(SEPARATOR, start)) >= 0:
        yield text[start:end]
        start = end + 1
    yield text[start:]


def decode_part(part: str) -> Packet:
    """One packet of a polling payload; binary data is base64 after a ``b``.

    :raises ProtocolError: there is no such packet type, or the base64 is wrong.
    """
    if part[:1] != "b":
        return decode(part)
    try:
        return Packet(Type.MESSAGE, binascii.a2b_base64(part[1:], strict_mode=True))
    except ValueError:
        raise ProtocolError("a binary packet is base64") from None


def open_packet(
    sid: str, upgrades: tuple[str, ...], ping_interval: float, ping_timeout: float, max_payload: int
) -> Frame:
    """What a session begins with; the times are seconds here, milliseconds on the wire."""
    handshake = {
        "sid": sid,
        "upgrades": upgrades,
        "pingInterval": round(ping_interval * 1000),
        "pingTimeout": round(ping_timeout * 1000),
        "maxPayload": max_payload,
    }
    return Frame(b"0" + msgspec.json.encode(handshake))


class Fault(enum.Enum):
    """Why a request is refused: the protocol's code, the HTTP status, the text."""

    UNKNOWN_TRANSPORT = 0, 400, "Transport unknown"
    UNKNOWN_SID = 1, 400, "Session ID unknown"
    BAD_HANDSHAKE_METHOD = 2, 400, "Bad handshake method"
    BAD_REQUEST = 3, 400, "Bad request"
    FORBIDDEN = 4, 403, "Forbidden"
    UNSUPPORTED_VERSION = 5, 400, "Unsupported protocol version"

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.value[1]

    @property
    def body(self) -> bytes:
        """The JSON that the client gets."""
        code, _, message = self.value
        return msgspec.json.encode({"code": code, "message": message})


class Query(msgspec.Struct, frozen=True):
    """The fields of a request's query that the protocol knows; empty where there is none."""

    transport: str = ""
    version: str = ""
    sid: str = ""
    token: str = ""

    @classmethod
    def parse(cls, query: str) -> Query:
        """Read a query string. Of a repeated field the last counts."""
        fields = dict(parse_qsl("&".join(query.split("&")[:_MAX_FIELDS]), keep_blank_values=True))
        return cls(
            fields.get("transport", ""),
            fields.get("EIO", ""),
            fields.get("sid", ""),
            fields.get("token", ""),
        )


def verify(query: Query, *, method: str, upgrade: bool, session: str | None, allowed: bool) -> Fault | None:
    """Why a request must be refused, if it must; looked at in the order of the reference server.

    An origin that is not allowed is refused before anything is said of a session.

    :param upgrade: whether the request asks for a WebSocket.
    :param session: the present transport of the session named by the query; None if there is none.
    :param allowed: whether the request's origin may connect.
    """
    if query.transport not in TRANSPORTS:
        return Fault.UNKNOWN_TRANSPORT
    if not allowed:
        return Fault.FORBIDDEN
    if query.sid:
        return _verify_known(query, method, upgrade, session)
    if method != "GET":
        return Fault.BAD_HANDSHAKE_METHOD
    if upgrade != (query.transport == "websocket"):
        return Fault.BAD_REQUEST
    if query.version != VERSION:
        return Fault.UNSUPPORTED_VERSION
    return None


def _verify_known(query: Query, method: str, upgrade: bool, session: str | None) -> Fault | None:
    if session is None:
        return Fault.UNKNOWN_SID
    if not upgrade and session != query.transport:
        return Fault.BAD_REQUEST
    if upgrade and query.transport != "websocket":
        return Fault.BAD_REQUEST
    if query.version != VERSION or method not in ("GET", "POST"):
        return Fault.BAD_REQUEST
    return None
