"""The serializers of WAMP: frames to message lists, and messages with a raw JSON payload to frames.

Payloads are raw JSON everywhere else. The JSON serializer hands their bytes through; the two binary
ones decode and encode them, once for each publication. Binary values are ``{"$binary": base64}``.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
from base64 import b64encode
from collections.abc import Sequence
from typing import Any, Final, Protocol

import cbor2
import msgpack
import msgspec

from ..errors import ProtocolError
from ..payload import MAX_DEPTH, is_utf8
from . import cbor, rawjson
from .session import Frame

#: Bytes of one MessagePack message of a client.
MAX_MSGPACK: Final = 65_536

#: Values in one payload of a binary serializer: each is looked at.
MAX_VALUES: Final = 4096

#: Bytes that hold the type and the request of any message.
_HEAD: Final = 32

#: Digits, with the sign, of any integer of 64 bits.
_DIGITS: Final = 20

_LARGEST: Final = 2**64 - 1
_LEAST: Final = -(2**63)


class Payload(msgspec.Struct, frozen=True, gc=False):
    """An argument of a client as raw JSON.

    :ivar binary: whether it holds binary values.
    """

    data: bytes
    binary: bool = False


class Unfit(Exception):
    """A message whose grammar is right and whose payload can't be used.

    :ivar head: its type and its request.
    """

    def __init__(self, head: list[Any], why: str) -> None:
        self.head = head
        super().__init__(why)


class Codec(Protocol):
    """One serializer."""

    #: The name of its subprotocol.
    subprotocol: str

    def parse(self, frame: str | bytes) -> list[Any]:
        """A message: its first four elements as values, those after for `payload`.

        :raises ProtocolError: it is no message at all.
        :raises Unfit: its payload can't be used.
        """

    def payload(self, argument: Any) -> Payload:
        """An element after the fourth: raw JSON without what must not travel on.

        :raises ProtocolError: it can't travel on; says why.
        """

    def frame(self, message: Sequence[Any], payload: bytes | None = None) -> Frame:
        """A message of plain values, and a raw JSON value as its last element."""

    def body(self, payload: bytes) -> bytes:
        """A raw JSON object in this serializer's own encoding."""

    def event(self, subscription: int, publication: int, details: dict[str, Any], body: bytes) -> Frame:
        """An EVENT whose keyword arguments are what `body` made."""


class JsonCodec:
    """``wamp.2.json``"""

    subprotocol = "wamp.2.json"

    def parse(self, frame: str | bytes) -> list[Any]:
        """See `Codec`."""
        if isinstance(frame, bytes):
            raise ProtocolError("this serializer takes text, not binary messages")
        try:
            elements: list[Any] = list(rawjson.split(frame))
        except ProtocolError:
            raise Unfit(_loosely(frame), rawjson.UNFIT) from None
        if not elements:
            raise ProtocolError("a message is a list that begins with its type")
        return [rawjson.load(bytes(element)) for element in elements[:4]] + elements[4:]

    def payload(self, argument: Any) -> Payload:
        """See `Codec`."""
        data = bytes(argument)
        if not is_utf8(data):
            raise ProtocolError(rawjson.UNFIT)
        data = rawjson.screen(data)
        return Payload(data, b'"$binary"' in data)

    def frame(self, message: Sequence[Any], payload: bytes | None = None) -> Frame:
        """See `Codec`."""
        text = msgspec.json.encode(message)
        return Frame(text if payload is None else b"%b,%b]" % (text[:-1], payload))

    def body(self, payload: bytes) -> bytes:
        """See `Codec`."""
        return payload

    def event(self, subscription: int, publication: int, details: dict[str, Any], body: bytes) -> Frame:
        """See `Codec`."""
        told = msgspec.json.encode(details) if details else b"{}"
        return Frame(b"[36,%d,%d,%b,[],%b]" % (subscription, publication, told, body))


class _BinaryCodec:
    """What the binary serializers share."""

    subprotocol = ""
    #: The head of an array, less its length; that of short ones is one byte in both encodings.
    _array = 0
    #: Bytes of one message of a client.
    _most = 0

    def parse(self, frame: str | bytes) -> list[Any]:
        """See `Codec`."""
        if isinstance(frame, str):
            raise ProtocolError("this serializer takes binary messages, not text")
        if len(frame) > self._most:
            raise Unfit(
                self._head(frame[:_HEAD]), f"a message of this serializer has at most {self._most} bytes"
            )
        message = self._loads(frame)
        if not isinstance(message, list) or not message:
            raise ProtocolError("a message is a list")
        return message

    def payload(self, argument: Any) -> Payload:
        """See `Codec`."""
        plain = _Plain()
        value = plain.of(argument, 1)
        try:
            return Payload(rawjson.screen(msgspec.json.encode(value)), plain.binary)
        except (*rawjson.MALFORMED, TypeError, ValueError):
            raise ProtocolError(rawjson.UNFIT) from None

    def frame(self, message: Sequence[Any], payload: bytes | None = None) -> Frame:
        """See `Codec`."""
        parts = [self._dumps(value) for value in message]
        if payload is not None:
            parts.append(self.body(payload))
        return Frame(b"", (bytes((self._array + len(parts),)) + b"".join(parts),))

    def body(self, payload: bytes) -> bytes:
        """See `Codec`."""
        try:
            return self._dumps(msgspec.json.decode(payload))
        except (*rawjson.MALFORMED, OverflowError, ValueError):
            # A service's own: its payload travels raw, and may hold what only JSON can say.
            return self._dumps(_narrowed(json.loads(payload, parse_int=_integer)))

    def event(self, subscription: int, publication: int, details: dict[str, Any], body: bytes) -> Frame:
        """See `Codec`."""
        # An array of five, of which the head is made that of six.
        told = self._dumps((36, subscription, publication, details, ()))
        return Frame(b"", (b"%c%b%b" % (self._array + 6, told[1:], body),))

    def _head(self, data: bytes) -> list[Any]:
        """Type and request of a message of which this is the beginning.

        :raises ProtocolError: they can't be read.
        """
        values: list[Any] = []
        if data[:1] and self._array < data[0] < self._array + 8:
            with contextlib.suppress(Exception):
                values.extend(self._first(data[1:]))
        if not values or not all(type(value) is int for value in values):
            raise ProtocolError("the message is too large")
        return values

    def _first(self, data: bytes) -> list[Any]:
        """The first two values in some bytes."""
        raise NotImplementedError

    def _loads(self, data: bytes) -> Any:
        raise NotImplementedError

    def _dumps(self, value: Any) -> bytes:
        raise NotImplementedError


class CborCodec(_BinaryCodec):
    """``wamp.2.cbor``"""

    subprotocol = "wamp.2.cbor"
    _array = 0x80
    _most = cbor.MAX_BYTES

    def _first(self, data: bytes) -> list[Any]:
        reader = cbor2.CBORDecoder(io.BytesIO(data))
        return [reader.decode(), reader.decode()]

    def _loads(self, data: bytes) -> Any:
        return cbor.loads(data)

    def _dumps(self, value: Any) -> bytes:
        return cbor2.dumps(value)


class MsgPackCodec(_BinaryCodec):
    """``wamp.2.msgpack``"""

    subprotocol = "wamp.2.msgpack"
    _array = 0x90
    _most = MAX_MSGPACK

    def _first(self, data: bytes) -> list[Any]:
        reader = msgpack.Unpacker(io.BytesIO(data))
        return [reader.unpack(), reader.unpack()]

    def _loads(self, data: bytes) -> Any:
        try:
            return msgpack.unpackb(data, raw=False, strict_map_key=True, use_list=True)
        except (ValueError, TypeError, OverflowError, RecursionError, MemoryError, msgpack.UnpackException):
            raise ProtocolError("the message is no well-formed MessagePack") from None

    def _dumps(self, value: Any) -> bytes:
        made: bytes = msgpack.packb(value)
        return made


def _loosely(text: str) -> list[Any]:
    """Type and request of a message whose grammar is right, though it holds what can't be used.

    :raises ProtocolError: it is no message.
    """
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, list) or not message:
        raise ProtocolError("a message is a well-formed JSON array")
    return message[:2]


class _Plain:
    """Makes of a decoded value one that JSON can hold.

    :ivar binary: whether it had binary values.
    """

    def __init__(self) -> None:
        self.binary = False
        self._left = MAX_VALUES

    def of(self, value: Any, depth: int) -> Any:
        """The value.

        :raises ProtocolError: it can't travel on; says why.
        """
        self._left -= 1
        if self._left < 0:
            raise ProtocolError(f"a payload of this serializer has at most {MAX_VALUES} values")
        kind = type(value)
        if kind is str or kind is bool or value is None:
            return value
        if kind is int and _LEAST <= value <= _LARGEST:
            return value
        if kind is float and math.isfinite(value):
            return value
        if kind is bytes:
            self.binary = True
            return {"$binary": b64encode(value).decode()}
        if kind is dict or kind is list:
            return self._within(value, depth)
        if value is cbor2.undefined:
            return None
        raise ProtocolError(rawjson.UNFIT)

    def _within(self, value: Any, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise ProtocolError(f"the payload is deeper than {MAX_DEPTH} levels")
        if type(value) is list:
            return [self.of(item, depth + 1) for item in value]
        if not all(type(key) is str for key in value):
            raise ProtocolError("the keys of a payload are text")
        return {key: self.of(item, depth + 1) for key, item in value.items()}


def _narrowed(value: Any) -> Any:
    """A decoded JSON value without halves of surrogate pairs, which other encodings lack."""
    if isinstance(value, dict):
        return {_narrowed(key): _narrowed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_narrowed(item) for item in value]
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    return value


def _integer(text: str) -> float:
    """A JSON integer; those beyond 64 bits become floats, as in JavaScript."""
    value = int(text) if len(text) <= _DIGITS else float(text)
    return value if _LEAST <= value <= _LARGEST else float(value)


#: In the order in which they are named where a client offers none of them.
CODECS: Final[tuple[Codec, ...]] = (JsonCodec(), CborCodec(), MsgPackCodec())
