"""Raw JSON from clients: what is let through, mostly without decoding it.

What a client sends travels on to other clients, and to other protocols, as the bytes it wrote. So
what would break a reader there is refused or taken out here, once. Doubled keys are left as they
are: every reader of the service, and JavaScript, takes the last.
"""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec

from ..errors import ProtocolError
from ..payload import MAX_DEPTH, too_deep

#: Keys that mean something else than data to careless JavaScript.
FORBIDDEN_KEYS: Final = frozenset({"__proto__", "constructor", "prototype"})

#: Why what `split` refuses can't be used although its grammar is right.
UNFIT: Final = "the payload holds text that is not valid Unicode, or a number that is too large"

#: What msgspec raises for text that is no JSON.
MALFORMED: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)
_SPLIT: Final = msgspec.json.Decoder(list[msgspec.Raw])
_LOAD: Final = msgspec.json.Decoder()


def _shape_table() -> bytes:
    table = bytearray(range(256))
    table[ord("{")] = ord("[")
    table[ord("E")] = ord("e")
    for byte in b"123456789+-":
        table[byte] = ord("0")
    return bytes(table)


# One pass makes all brackets, digits and signs alike, so that plain searches find what may be too
# deep or too large. They also find much that is harmless; that is then looked at closely.
_SHAPE: Final = _shape_table()
_EXPONENT: Final = b"0e00"
_LONG_NUMBER: Final = b"0" * 20


def split(text: str) -> list[msgspec.Raw]:
    """The elements of a JSON array, each still raw; the grammar of the whole is checked.

    :raises ProtocolError: it is no well-formed array, or far too deep.
    """
    try:
        return _SPLIT.decode(text)
    except MALFORMED:
        raise ProtocolError("the payload is no well-formed JSON array") from None


def unfit_name(text: str) -> str:
    """The first element, a text, of an array that `split` refused though its grammar is right.

    A lone surrogate (half an emoji, cut by careless JavaScript) is such a case: one message is bad,
    not the connection.

    :raises ProtocolError: it is no such array.
    """
    try:
        values = json.loads(text)
        if isinstance(values, list) and values and isinstance(values[0], str):
            values[0].encode()
            return values[0]
    except (ValueError, RecursionError):
        pass
    raise ProtocolError("the payload is no well-formed JSON array")


def load(raw: str | bytes) -> Any:
    """Decode one JSON value.

    :raises ProtocolError: it is malformed, deeper than `MAX_DEPTH`, or holds a number beyond float.
    """
    try:
        value = _LOAD.decode(raw)
        data = raw.encode() if isinstance(raw, str) else raw
    except MALFORMED:
        raise ProtocolError("the payload is no well-formed JSON") from None
    _check_depth(data)
    return value


def screen(raw: bytes) -> bytes:
    """One well-formed JSON value as it may travel on: itself, or without its `FORBIDDEN_KEYS`.

    :raises ProtocolError: it is deeper than `MAX_DEPTH`, or holds an integer beyond 64 bits or a
        number beyond float, which other encodings can't say.
    """
    shape = raw.translate(_SHAPE)
    if shape.count(b"[") > MAX_DEPTH:
        _check_depth(raw)
    if shape.find(_EXPONENT) >= 0 or shape.find(_LONG_NUMBER) >= 0:
        _check_numbers(raw)
    text = raw.decode()
    if "proto" in text or "construct" in text or "\\u00" in text:
        return _without_forbidden_keys(raw)
    return raw


def _check_depth(raw: bytes) -> None:
    if too_deep(raw):
        raise ProtocolError(f"the payload is deeper than {MAX_DEPTH} levels")


def _check_numbers(raw: bytes) -> None:
    try:
        msgspec.msgpack.encode(_LOAD.decode(raw))
    except (*MALFORMED, OverflowError):
        raise ProtocolError("the payload holds a number that is too large") from None


def _without_forbidden_keys(raw: bytes) -> bytes:
    value = load(raw)
    return msgspec.json.encode(value) if _drop_forbidden_keys(value) else raw


def _drop_forbidden_keys(value: Any) -> bool:
    """Take them out of a decoded value; True if there were any."""
    dropped = False
    unseen = [value]
    while unseen:
        item = unseen.pop()
        if isinstance(item, dict):
            if not FORBIDDEN_KEYS.isdisjoint(item):
                dropped = True
                for key in FORBIDDEN_KEYS:
                    item.pop(key, None)
            unseen.extend(item.values())
        elif isinstance(item, list):
            unseen.extend(item)
    return dropped
