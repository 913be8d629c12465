"""Local HTTP: one request over a Unix socket to another process of this node, and its answer whole."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

#: Bytes of an answer's head, and of an answer.
MAX_HEAD: Final = 65536
MAX_ANSWER: Final = 64 * 1024 * 1024


class NoAnswer(Exception):
    """The other process is not there, has gone, or says what is no answer."""


class Answer:
    """An answer: its status, its header fields in order, its body."""

    def __init__(self, status: int, fields: list[tuple[bytes, bytes]], body: bytes) -> None:
        self.status = status
        self.fields = fields
        self.body = body

    def get(self, name: bytes) -> bytes | None:
        """The first field of this name (in lower case)."""
        return next((value for field, value in self.fields if field.lower() == name), None)


class _Made(Factory):
    noisy = False

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol

    def buildProtocol(self, addr: Any) -> Protocol:
        return self._protocol


def reach(reactor: Any, path: str, protocol: Protocol) -> bool:
    """Connect a protocol to a Unix socket, at once; False if nobody listens there."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as way:
            way.setblocking(False)
            way.connect(path)
            reactor.adoptStreamConnection(way.fileno(), socket.AF_UNIX, _Made(protocol))
    except OSError:
        return False
    return True


class _Exchange(Protocol):
    """Sends a request, and collects what comes."""

    def __init__(self, sent: bytes) -> None:
        self._sent = sent
        self._data = bytearray()
        self._status = 0
        self._fields: list[tuple[bytes, bytes]] = []
        self._length: int | None = None
        self._over = False
        self.done: Deferred[Answer] = Deferred(lambda _: self._give_up())

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.write(self._sent)
        self._sent = b""

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        if not self._status and not self._head():
            return
        if self._length is not None and len(self._data) >= self._length:
            self._answer()
        elif len(self._data) > MAX_ANSWER:
            self._fail("an answer that is too large")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._status and self._length is None:
            self._answer()
        else:
            self._fail("gone before the answer")

    def _head(self) -> bool:
        end = self._data.find(b"\r\n\r\n")
        if end < 0:
            if len(self._data) > MAX_HEAD:
                self._fail("a head that is too large")
            return False
        first, *lines = bytes(self._data[:end]).split(b"\r\n")
        del self._data[: end + 4]
        try:
            self._status = int(first.split(b" ")[1])
            self._fields = [
                (name, value.strip()) for name, _, value in (ln.partition(b":") for ln in lines)
            ]
            length = Answer(0, self._fields, b"").get(b"content-length")
            self._length = 0 if self._status == 204 else None if length is None else int(length)
        except (ValueError, IndexError):
            self._status = 0
            self._fail("no answer of HTTP")
            return False
        return True

    def _answer(self) -> None:
        if not self._over:
            self._over = True
            self._drop()
            self.done.callback(Answer(self._status, self._fields, bytes(self._data)))

    def _fail(self, why: str) -> None:
        if not self._over:
            self._over = True
            self._drop()
            self.done.errback(NoAnswer(why))

    def _give_up(self) -> None:
        # cancelled: nobody waits for the answer any more, and its sender is to know
        self._over = True
        self._drop()

    def _drop(self) -> None:
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()


def exchange(reactor: Any, path: str, sent: bytes) -> Deferred[Answer]:
    """Send a request, as bytes; the answer. To cancel it closes the connection.

    The Deferred fails with `NoAnswer`.
    """
    exchange = _Exchange(sent)
    if not reach(reactor, path, exchange):
        exchange._fail("nobody listens")
    return exchange.done


def request(method: bytes, target: bytes, fields: Iterable[tuple[bytes, bytes]], body: bytes) -> bytes:
    """A request, as bytes."""
    lines = [b"%b %b HTTP/1.1" % (method, target)]
    lines += [b"%b: %b" % field for field in fields]
    if body or method == b"POST":
        lines.append(b"Content-Length: %d" % len(body))
    lines += [b"Connection: close", b"", body]
    return b"\r\n".join(lines)
