"""Raw JSON objects: judged and extended without being taken apart."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

#: How deep arrays and objects of a payload may be nested (RELIABILITY.md section 2, row 19).
MAX_DEPTH: Final = 32

_string = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_square_to_curly = bytes.maketrans(b"[]", b"{}")
_all_but_brackets = bytes(set(range(256)) - set(b"[]{}"))


#: What lets somebody in.
_secrets: Final = re.compile(
    rb'"(token|refreshToken|ticket|session|pid|password)":\s*"(?:[^"\\]|\\.)*(?:"|\\?\Z)', re.DOTALL
)


def without_secrets(data: bytes) -> bytes:
    """JSON, or a frame that holds some, in which what lets somebody in is ``***``; half of it too."""
    return _secrets.sub(rb'"\1":"***"', data)


def too_deep(data: bytes, limit: int = MAX_DEPTH) -> bool:
    """Whether a valid JSON text nests deeper than `limit`; a scalar has depth 0."""
    if data.count(b"{") + data.count(b"[") <= limit:
        return False
    brackets = _string.sub(b"", data).translate(_square_to_curly, _all_but_brackets)
    return _nested(limit).fullmatch(brackets) is None


@lru_cache(maxsize=8)
def _nested(limit: int) -> re.Pattern[bytes]:
    """Pairs of brackets within each other, so deep at most. Each is looked at once, whatever they are."""
    level = b""
    for _ in range(limit):
        level = b"(?:\\{" + level + b"\\})*+"
    return re.compile(level)


def is_utf8(data: bytes) -> bool:
    """Whether bytes are valid UTF-8. (msgspec does not look into the strings that it skips.)"""
    try:
        data.isascii() or data.decode()
    except UnicodeDecodeError:
        return False
    return True


def spliced(data: bytes, fields: Iterable[bytes]) -> bytes:
    """A JSON object with more fields at its end.

    :param data: a valid object, without white space around it; ``{}`` if it is empty.
    :param fields: raw ones, such as ``b'"timestamp":1'``, under names that the object lacks.
    """
    added = b",".join(fields)
    if not added:
        return data
    return b"%b%b%b}" % (data[:-1], b"" if data == b"{}" else b",", added)
