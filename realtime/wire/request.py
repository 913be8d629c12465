"""An HTTP/1.1 request, read strictly: the head, and the body's chunks.

Whatever two readers could understand differently is refused (RFC 9112 sections 2.2, 3, 5, 6, 7.1):
so nothing that stands before or behind this service can be made to see another request.
"""

from __future__ import annotations

import re
from typing import Final

#: Bytes of a request line and its header fields together.
MAX_HEAD: Final = 16384

#: Header fields of one request.
MAX_FIELDS: Final = 100

END: Final = b"\r\n\r\n"

# control characters, and 0x85, at which some readers end a line
_HOSTILE: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f\x85]")
_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TARGET: Final = re.compile(rb"/[!-\"$-~]*|\*")
_HOST: Final = re.compile(rb"[0-9A-Za-z._~!$&'()*+,;=%-]*(:[0-9]{0,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{0,5})?")
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(;[\t\x20-\x7e\x80-\xff]*)?")

#: Fields that may stand once only: readers differ over which of two they believe.
_ONCE: Final = frozenset(
    b"host content-length transfer-encoding upgrade origin authorization content-type expect te"
    b" sec-websocket-key sec-websocket-version".split()
)

#: Bytes of a chunk's size line, and of all trailer fields.
_MAX_LINE: Final = 256
_MAX_TRAILER: Final = 4096


class BadRequest(Exception):
    """The request is refused.

    :ivar status: the HTTP status to answer with.
    :ivar code: a stable word for it.
    :ivar message: a fixed text; nothing of the request is in it.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        self.status = status
        self.code = code
        self.message = message
        super().__init__(message)


def _refuse(message: str, status: int = 400, code: str = "request.malformed") -> BadRequest:
    return BadRequest(status, code, message)


def head_too_large() -> BadRequest:
    """The head is over `MAX_HEAD` or `MAX_FIELDS`."""
    return _refuse("the request head is too large", 431, "request.head_too_large")


def body_too_large() -> BadRequest:
    """The body is over what its path takes."""
    return _refuse("the request body is too large", 413, "request.too_large")


def too_slow() -> BadRequest:
    """The request did not arrive whole in time."""
    return _refuse("the request took too long", 408, "request.timeout")


def bad_expectation() -> BadRequest:
    """The client expects something other than ``100-continue``."""
    return _refuse("only 100-continue can be expected", 417, "request.expectation")


class Head:
    """The request line and the header fields of one request.

    :ivar target: path and query, as sent.
    :ivar minor: the minor version: 0 or 1.
    :ivar fields: (name, value) in order; names in lower case.
    :ivar length: bytes of the body that follows; None if it comes in chunks.
    """

    __slots__ = ("fields", "length", "method", "minor", "path", "query", "target")

    def __init__(self, method: bytes, target: bytes, minor: int, fields: list[tuple[bytes, bytes]]) -> None:
        self.method = method
        self.target = target
        self.minor = minor
        self.fields = fields
        self.path, _, self.query = target.partition(b"?")
        self.length = self._length()

    def get(self, name: bytes) -> bytes | None:
        """The value of a field; the first if there are several."""
        for field, value in self.fields:
            if field == name:
                return value
        return None

    def lists(self, name: bytes, word: bytes) -> bool:
        """Whether a field that is a list of words holds this one (lower case)."""
        return any(
            word in [part.strip(b" \t") for part in value.lower().split(b",")]
            for field, value in self.fields
            if field == name
        )

    @property
    def websocket(self) -> bool:
        """Whether it asks for a WebSocket on this connection."""
        return self.lists(b"upgrade", b"websocket") and self.lists(b"connection", b"upgrade")

    @property
    def persistent(self) -> bool:
        """Whether another request may follow on this connection."""
        return self.minor == 1 and not self.lists(b"connection", b"close")

    def _length(self) -> int | None:
        length, coding = self.get(b"content-length"), self.get(b"transfer-encoding")
        if coding is not None:
            if length is not None or self.minor == 0 or coding.lower() != b"chunked":
                raise _refuse("the body's length is not clear")
            return None
        if length is None:
            return 0
        if not (length.isdigit() and len(length) <= 15):
            raise _refuse("the body's length is not clear")
        return int(length)


def parse(raw: bytes) -> Head:
    """Read a head: everything up to and with the empty line.

    :raises BadRequest: it is not well-formed, or could be read in two ways.
    """
    lines = raw[: -len(END)].split(b"\r\n")
    if any(_HOSTILE.search(line) for line in lines):
        raise _refuse("the request head holds control characters")
    method, target, minor = _request_line(lines[0])
    if len(lines) - 1 > MAX_FIELDS:
        raise head_too_large()
    fields = [_field(line) for line in lines[1:]]
    names = [name for name, _ in fields]
    if len(set(names)) != len(names) and any(names.count(name) > 1 for name in _ONCE):
        raise _refuse("a header field stands twice")
    head = Head(method, target, minor, fields)
    host = head.get(b"host")
    if (host is None and minor == 1) or (host is not None and _HOST.fullmatch(host) is None):
        raise _refuse("the Host field is missing or wrong")
    if head.get(b"upgrade") is not None and head.length != 0:
        raise _refuse("an upgrade has no body")
    return head


def _request_line(line: bytes) -> tuple[bytes, bytes, int]:
    parts = line.split(b" ")
    if len(parts) != 3 or _TOKEN.fullmatch(parts[0]) is None or _TARGET.fullmatch(parts[1]) is None:
        raise _refuse("the request line is wrong")
    if parts[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise _refuse("only HTTP/1.1 is spoken here", 505, "request.version")
    return parts[0], parts[1], parts[2][-1] - 48


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    if not colon or _TOKEN.fullmatch(name) is None:
        raise _refuse("a header field is wrong")
    return name.lower(), value.strip(b" \t")


class Chunked:
    """A body in chunks (RFC 9112 section 7.1), taken apart as it arrives.

    :param limit: bytes of the body at most.
    :ivar rest: what came after the body; None until its end.
    """

    def __init__(self, limit: int) -> None:
        self.rest: bytes | None = None
        self._limit = limit
        self._data = bytearray()
        self._left = 0
        self._trailer = 0
        self._state = self._size

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes and give those of the body.

        :raises BadRequest: the chunks are not well-formed, or hold more than the limit.
        """
        self._data += data
        body: list[bytes] = []
        while self.rest is None and self._state(body):
            pass
        return body

    def _line(self, limit: int) -> bytes | None:
        end = self._data.find(END[:2], 0, limit + 2)
        if end < 0:
            if len(self._data) > limit:
                raise _refuse("a chunk is wrong")
            return None
        line = bytes(self._data[:end])
        del self._data[: end + 2]
        return line

    def _size(self, body: list[bytes]) -> bool:
        line = self._line(_MAX_LINE)
        if line is None:
            return False
        size = _CHUNK.fullmatch(line)
        if size is None:
            raise _refuse("a chunk is wrong")
        self._left = int(size[1], 16)
        self._limit -= self._left
        if self._limit < 0:
            raise body_too_large()
        self._state = self._bytes if self._left else self._trailers
        return True

    def _bytes(self, body: list[bytes]) -> bool:
        taken = bytes(self._data[: self._left])
        del self._data[: self._left]
        self._left -= len(taken)
        if taken:
            body.append(taken)
        if self._left == 0:
            self._state = self._end
        return self._left == 0

    def _end(self, body: list[bytes]) -> bool:
        if len(self._data) < 2:
            return False
        if self._data[:2] != b"\r\n":
            raise _refuse("a chunk is wrong")
        del self._data[:2]
        self._state = self._size
        return True

    def _trailers(self, body: list[bytes]) -> bool:
        line = self._line(_MAX_TRAILER)
        if line is None:
            return False
        self._trailer += len(line)
        if _HOSTILE.search(line) or self._trailer > _MAX_TRAILER:
            raise _refuse("a chunk is wrong")
        if not line:
            self.rest = bytes(self._data)
            return False
        return True
