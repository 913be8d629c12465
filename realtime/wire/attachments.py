"""Binary inside JSON: Socket.IO's placeholders with attachments, and ``{"$binary": base64}``.

On the wire of Socket.IO a binary value travels apart and ``{"_placeholder":true,"num":N}`` stands in
its place. In the log and in other protocols it is ``{"$binary": base64}``.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from ..errors import ProtocolError
from . import rawjson

#: The reference takes no more in one packet.
MAX_ATTACHMENTS: Final = 10

_PLACEHOLDER: Final = "_placeholder"


def check_placeholders(payload: str, count: int) -> None:
    """See that a payload has exactly one placeholder for each of `count` attachments.

    :raises ProtocolError: it is malformed or too deep, or a placeholder is not as it should be.
    """
    found: list[int] = []
    _collect(rawjson.load(payload), found)
    if sorted(found) != list(range(count)):
        raise ProtocolError("the placeholders do not match the attachments")


def _collect(value: Any, found: list[int]) -> None:
    if isinstance(value, dict):
        if value.get(_PLACEHOLDER) is True:
            number = value.get("num")
            if type(number) is not int or len(value) != 2:
                raise ProtocolError("a placeholder is not valid")
            found.append(number)
            return
        for item in value.values():
            _collect(item, found)
    elif isinstance(value, list):
        for item in value:
            _collect(item, found)


def fold(raw: bytes, attachments: Sequence[bytes]) -> tuple[bytes, bool]:
    """Put attachments back into a JSON value, as ``{"$binary": base64}``.

    :param raw: a value of a payload that has passed `check_placeholders`.
    :returns: the value, and whether it had any placeholder.
    """
    if not attachments:
        return raw, False
    value = rawjson.load(raw)
    folded = _fold(value, attachments)
    return (msgspec.json.encode(folded), True) if folded is not value else (raw, False)


def _fold(value: Any, attachments: Sequence[bytes]) -> Any:
    """The value with its placeholders replaced; the very same object if it has none."""
    if isinstance(value, dict):
        if value.get(_PLACEHOLDER) is True:
            return {"$binary": b64encode(attachments[value["num"]]).decode()}
        folded = {key: _fold(item, attachments) for key, item in value.items()}
        return folded if any(folded[key] is not item for key, item in value.items()) else value
    if isinstance(value, list):
        items = [_fold(item, attachments) for item in value]
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    return value


def unfold(raw: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """Take binary out of a JSON value: every ``{"$binary": base64}`` becomes a placeholder.

    At most `MAX_ATTACHMENTS`; what is over, or no valid base64, stays as it is.

    :returns: the value, and its attachments in the order of their numbers.
    """
    attachments: list[bytes] = []
    try:
        value = _unfold(msgspec.json.decode(raw), attachments)
        return (msgspec.json.encode(value), tuple(attachments)) if attachments else (raw, ())
    except rawjson.MALFORMED:
        return raw, ()


def _unfold(value: Any, attachments: list[bytes]) -> Any:
    if isinstance(value, dict):
        binary = _binary(value) if len(attachments) < MAX_ATTACHMENTS else None
        if binary is not None:
            attachments.append(binary)
            return {_PLACEHOLDER: True, "num": len(attachments) - 1}
        # Data that looks like a placeholder would make clients close the connection.
        return {key: _unfold(item, attachments) for key, item in value.items() if key != _PLACEHOLDER}
    if isinstance(value, list):
        return [_unfold(item, attachments) for item in value]
    return value


def _binary(value: dict[str, Any]) -> bytes | None:
    text = value.get("$binary")
    if len(value) != 1 or not isinstance(text, str):
        return None
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
