"""`Raw`: a bare TCP client, for what no well-behaved client would send."""

from __future__ import annotations

import base64
import json
import os
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure

from .children import DEADLINE, Late, within

POLLING = "/socket.io/?EIO=4&transport=polling"
WEBSOCKET = "/socket.io/?EIO=4&transport=websocket"


def request(method: str, path: str, body: bytes | None = None, **headers: str) -> bytes:
    """A well-formed HTTP request. In names of headers ``_`` stands for ``-``."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def upgrade(path: str = WEBSOCKET, **headers: str) -> bytes:
    """A WebSocket handshake."""
    key = base64.b64encode(os.urandom(16)).decode()
    given = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13"}
    return request("GET", path, Sec_WebSocket_Key=key, **given, **headers)


def frame(payload: bytes, opcode: int = 1, *, final: bool = True, mask: bytes | None = b"\x01\x02\x03\x04",
          reserved: int = 0, size: int | None = None) -> bytes:  # fmt: skip
    """One WebSocket frame of a client (RFC 6455 section 5.2), right or wrong.

    :param size: the length to claim, if not the real one.
    """
    claimed = len(payload) if size is None else size
    head = bytes([(0x80 if final else 0) | reserved << 4 | opcode])
    masked = 0x80 if mask is not None else 0
    if claimed < 126:
        head += bytes([masked | claimed])
    elif claimed < 65536:
        head += bytes([masked | 126]) + claimed.to_bytes(2, "big")
    else:
        head += bytes([masked | 127]) + claimed.to_bytes(8, "big")
    if mask is None:
        return head + payload
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


class Raw(Protocol):
    """One connection.

    :ivar data: all that was received and not taken.
    :ivar closed: whether the connection is gone.
    """

    transport: ITCPTransport

    def __init__(self) -> None:
        self.data = b""
        self.closed = False
        self._waiting: list[Deferred[None]] = []

    @classmethod
    async def open(
        cls, port: int, data: bytes = b"", address: str = "127.0.0.1", own: str | None = None
    ) -> Raw:
        """Connect, perhaps from an address of one's own, and send something."""
        raw = await connectProtocol(
            TCP4ClientEndpoint(reactor, address, port, bindAddress=own and (own, 0)), cls()
        )
        raw.send(data)
        return raw

    def send(self, data: bytes) -> None:
        """Send, at once."""
        if data and not self.closed:
            self.transport.write(data)

    def drop(self) -> None:
        """Reset the connection."""
        if not self.closed:
            self.transport.abortConnection()

    async def until(self, text: bytes, seconds: float = DEADLINE) -> bytes:
        """Wait for bytes; what was received up to their end.

        :raises Late: they did not come in time, or the connection is gone without them.
        """
        ends = reactor.seconds() + seconds
        while text not in self.data:
            if self.closed:
                raise Late(f"closed before {text!r}; got {self.data[:500]!r}")
            await self._change(ends - reactor.seconds(), f"{text!r}")
        before, found, self.data = self.data.partition(text)
        return before + found

    async def until_closed(self, seconds: float = DEADLINE) -> bytes:
        """Wait until the service has closed the connection; all that was received.

        :raises Late: it has not, in time.
        """
        ends = reactor.seconds() + seconds
        while not self.closed:
            await self._change(ends - reactor.seconds(), "to be closed")
        return self.data

    async def answer(self, seconds: float = DEADLINE) -> tuple[int, dict[str, str], bytes]:
        """Wait for an HTTP answer with a Content-Length: its status, headers and body."""
        head = (await self.until(b"\r\n\r\n", seconds)).decode("latin-1").split("\r\n")
        headers = {}
        for line in head[1:]:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        size = int(headers.get("content-length", "0"))
        ends = reactor.seconds() + seconds
        while len(self.data) < size:
            if self.closed:
                raise Late(f"closed inside a body of {size} bytes")
            await self._change(ends - reactor.seconds(), "a body")
        body, self.data = self.data[:size], self.data[size:]
        return int(head[0].split(" ")[1]), headers, body

    async def _change(self, seconds: float, what: str) -> None:
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        await within(max(seconds, 0), waiting, lambda: f"{what}; got {self.data[-500:]!r}")

    def _changed(self) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not one.called:
                one.callback(None)

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        self._changed()

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.closed = True
        self._changed()


def opened(body: bytes) -> dict[str, Any]:
    """The handshake that an Engine.IO open packet carries."""
    handshake = json.loads(body[body.index(b"{") : body.index(b"}") + 1])
    assert isinstance(handshake, dict)
    return handshake
