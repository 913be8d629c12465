"""Packets of Socket.IO 5: text with its attachments to values and back.

A packet is the body of an Engine.IO message::

    <type>[<attachments>-][<namespace>,][<acknowledgement id>][<JSON>]

followed by as many binary messages as it says. `PacketReader` puts them together. See "Packet
encoding" in the protocol's document.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from ..errors import ProtocolError
from . import rawjson
from .attachments import MAX_ATTACHMENTS, check_placeholders
from .session import Frame

CONNECT: Final = 0
DISCONNECT: Final = 1
EVENT: Final = 2
ACK: Final = 3
CONNECT_ERROR: Final = 4
BINARY_EVENT: Final = 5
BINARY_ACK: Final = 6

MAX_ACK: Final = 2**53 - 1
MAX_NAME: Final = 256

#: Names that the client libraries use for their own events.
RESERVED_EVENTS: Final = frozenset(
    {"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"}
)

# A namespace is said back: a control character could break out of a polling payload, a lone
# surrogate could not be encoded.
_HEADER: Final = re.compile(
    r"([0-6])(?:([0-9]{1,4})-)?(?:(/[^,\x00-\x1f\x7f\ud800-\udfff]{0,127})(?:,|\Z))?([0-9]{1,16})?",
    re.ASCII,
)
_NAME: Final = msgspec.json.Decoder(str)
_BINARY_TYPES: Final = {BINARY_EVENT: EVENT, BINARY_ACK: ACK}


class Packet(msgspec.Struct, frozen=True, gc=False):
    """One packet; binary ones have the type of their plain kin, and attachments.

    :ivar payload: the JSON as it came; empty if there was none. Placeholders are still in it.
    :ivar name: an event's name.
    :ivar arguments: the raw values that follow an event's name, or those of an acknowledgement.
    :ivar fault: why an event's arguments can't be used, where they can't.
    """

    type: int
    namespace: str
    ack: int | None
    payload: str
    name: str
    arguments: list[msgspec.Raw]
    attachments: tuple[bytes, ...] = ()
    fault: str = ""


class PacketReader:
    """Makes packets of the frames of one client.

    :param max_bytes: what one packet may have in all, its text and its attachments together.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._waiting: Packet | None = None
        self._missing = 0
        self._room = 0
        self._attachments: list[bytes] = []

    @property
    def incomplete(self) -> bool:
        """Whether attachments are awaited."""
        return self._waiting is not None

    def receive(self, frame: str | bytes) -> Packet | None:
        """Take the next frame; a packet, if it is complete with it.

        :raises ProtocolError: the frame can't be understood, or is not what had to follow.
        """
        if isinstance(frame, bytes):
            return self._attachment(frame)
        if self._waiting is not None:
            raise ProtocolError("text came where an attachment was announced")
        packet, missing = decode(frame)
        if not missing:
            return packet
        self._waiting = packet
        self._missing = missing
        self._room = self._max_bytes - len(frame.encode(errors="surrogatepass"))
        return None

    def _attachment(self, data: bytes) -> Packet | None:
        packet = self._waiting
        if packet is None:
            raise ProtocolError("binary came that no packet announced")
        self._room -= len(data)
        if self._room < 0:
            raise ProtocolError("the attachments of a packet are too large")
        self._attachments.append(data)
        if len(self._attachments) < self._missing:
            return None
        attachments = tuple(self._attachments)
        self._waiting = None
        self._attachments = []
        return msgspec.structs.replace(packet, attachments=attachments)


def decode(text: str) -> tuple[Packet, int]:
    """Decode the text of one packet.

    :returns: the packet, and how many attachments have to follow.
    :raises ProtocolError: it is no packet of the protocol.
    """
    header = _HEADER.match(text)
    if header is None:
        raise ProtocolError("unknown packet type")
    kind, count, namespace, number = header.groups()
    wire_type = int(kind)
    attachments = _attachment_count(wire_type, count)
    type_ = _BINARY_TYPES.get(wire_type, wire_type)
    ack = _ack(type_, number)
    payload = text[header.end() :]
    name = fault = ""
    arguments: list[msgspec.Raw] = []
    if type_ == EVENT:
        name, arguments, fault = _event(payload)
    elif type_ == ACK:
        arguments = rawjson.split(payload)
    elif type_ == DISCONNECT:
        if payload:
            raise ProtocolError("a disconnection carries no payload")
    elif payload or type_ == CONNECT_ERROR:
        _check_object(payload)
    if attachments and not fault:
        check_placeholders(payload, attachments)
    packet = Packet(type_, namespace or "/", ack, payload, name, arguments, fault=fault)
    return packet, attachments


def _attachment_count(wire_type: int, count: str | None) -> int:
    if (count is not None) != (wire_type in _BINARY_TYPES):
        raise ProtocolError("only binary packets, and all of them, say how many attachments follow")
    if count is None:
        return 0
    if not 1 <= int(count) <= MAX_ATTACHMENTS:
        raise ProtocolError(f"a binary packet has from 1 to {MAX_ATTACHMENTS} attachments")
    return int(count)


def _ack(type_: int, number: str | None) -> int | None:
    if number is None:
        if type_ == ACK:
            raise ProtocolError("an acknowledgement says which event it is for")
        return None
    if type_ not in (EVENT, ACK) or int(number) > MAX_ACK:
        raise ProtocolError("the acknowledgement id is not valid here")
    return int(number)


def _event(payload: str) -> tuple[str, list[msgspec.Raw], str]:
    """An event's name, its arguments, and why they can't be used, where they can't."""
    try:
        arguments = rawjson.split(payload)
    except ProtocolError:
        return _allowed(rawjson.unfit_name(payload)), [], rawjson.UNFIT
    name = _name(arguments)
    del arguments[0]
    return name, arguments, ""


def _name(values: list[msgspec.Raw]) -> str:
    """The name of an event, its first value: text, or a number as the reference allows."""
    try:
        name = _NAME.decode(values[0])
    except IndexError:
        raise ProtocolError("an event has a name") from None
    except msgspec.MsgspecError:
        name = bytes(values[0]).decode()
        if name[0] not in "-0123456789":
            raise ProtocolError("the name of an event is text") from None
    return _allowed(name)


def _allowed(name: str) -> str:
    if name in RESERVED_EVENTS or len(name) > MAX_NAME:
        raise ProtocolError("the name of the event is reserved or too long")
    return name


def _check_object(payload: str) -> None:
    if not isinstance(rawjson.load(payload), dict):
        raise ProtocolError("the payload of a connection packet is an object")


def encode(
    type_: int, namespace: str, payload: bytes, ack: int | None = None, attachments: Sequence[bytes] = ()
) -> Frame:
    """A packet as a frame, the Engine.IO message type in front of its text.

    :param type_: of the plain kin, also where there are attachments.
    :param payload: raw JSON, with a placeholder for each attachment; empty for none.
    """
    if attachments:
        head = b"4%d%d-" % (BINARY_EVENT if type_ == EVENT else BINARY_ACK, len(attachments))
    else:
        head = b"4%d" % type_
    if namespace != "/":
        head += b"%b," % namespace.encode()
    if ack is not None:
        head += b"%d" % ack
    return Frame(head + payload, tuple(attachments))
