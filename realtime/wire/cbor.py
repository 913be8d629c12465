"""CBOR from clients, looked through before it is decoded (RFC 8949).

A decoder makes of a hundred kilobytes of colliding keys seconds of work, and of tags cycles and regular
expressions (RELIABILITY.md section 2, row 19). So what a client sends is small, has keys that are text
only, no tags, and nests no deeper than other payloads.
"""

from __future__ import annotations

from typing import Any, Final

import cbor2

from ..errors import ProtocolError
from ..payload import MAX_DEPTH

#: Bytes of one message of a client.
MAX_BYTES: Final = 16_384

#: Items of one message, keys and values: looking through them must not take long.
MAX_ITEMS: Final = 8192

#: A WAMP message is a list around its payload.
_DEPTH: Final = MAX_DEPTH + 1

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _OTHER = range(8)
#: Bytes after the first that say the argument, by the low five bits of the first.
_FOLLOWING: Final = {24: 1, 25: 2, 26: 4, 27: 8}
_INDEFINITE: Final = 31
#: false, true, null, undefined; and floats of 16, 32, 64 bits.
_VALUES: Final = frozenset((20, 21, 22, 23, 25, 26, 27))
_BREAK: Final = 0xFF


def loads(data: bytes) -> Any:
    """Decode what a client sent.

    :raises ProtocolError: it is malformed, or of a kind that is not taken.
    """
    scan(data)
    try:
        return cbor2.loads(data)
    except (cbor2.CBORDecodeError, ValueError, TypeError, OverflowError, RecursionError, MemoryError):
        raise ProtocolError("the message is no well-formed CBOR") from None


def scan(data: bytes) -> None:
    """Look through the heads of all items, each once.

    :raises ProtocolError: a tag, a key that is no text, too deep, cut off, or followed by more.
    """
    # For each open array or map: how many items it lacks (below 0: until a break), and whether it is a map.
    lacking, maps = [1], [False]
    place, size, left = 0, len(data), MAX_ITEMS
    while lacking:
        if lacking[-1] == 0:
            lacking.pop()
            maps.pop()
            continue
        if place >= size:
            raise ProtocolError("the CBOR message is cut off")
        first = data[place]
        if first == _BREAK and lacking[-1] < 0:
            if maps[-1] and lacking[-1] % 2 == 0:
                raise ProtocolError("a CBOR map has a key without a value")
            lacking.pop()
            maps.pop()
            place += 1
            continue
        key = maps[-1] and lacking[-1] % 2 == (0 if lacking[-1] > 0 else 1)
        kind, low = first >> 5, first & 31
        if key and kind != _TEXT:
            raise ProtocolError("the keys of a CBOR map are text")
        lacking[-1] -= 1
        left -= 1
        if left < 0:
            raise ProtocolError(f"a CBOR message has at most {MAX_ITEMS} items")
        place, argument = _argument(data, place + 1, kind, low)
        if kind in (_BYTES, _TEXT):
            place += argument
        elif kind in (_ARRAY, _MAP):
            if len(lacking) > _DEPTH:
                raise ProtocolError(f"the payload is deeper than {MAX_DEPTH} levels")
            if argument > size:
                raise ProtocolError("the CBOR message is cut off")
            lacking.append(-1 if argument < 0 else argument * (2 if kind == _MAP else 1))
            maps.append(kind == _MAP)
    if place != size:
        raise ProtocolError("something follows the CBOR message")


def _argument(data: bytes, place: int, kind: int, low: int) -> tuple[int, int]:
    """Where the head ends, and its argument; -1 for an indefinite length."""
    if kind == _TAG or (kind == _OTHER and low not in _VALUES):
        raise ProtocolError("CBOR tags and simple values are not taken")
    if low < 24:
        return place, low
    if low == _INDEFINITE and kind in (_ARRAY, _MAP):
        return place, -1
    following = _FOLLOWING.get(low)
    if following is None:
        raise ProtocolError("the message is no well-formed CBOR")
    end = place + following
    if end > len(data):
        raise ProtocolError("the CBOR message is cut off")
    return end, int.from_bytes(data[place:end], "big")
