"""Exchange: one connection to a listener, in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from twisted.internet.interfaces import IReactorTime
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.web.resource import IResource

from realtime.transport.door import DoorFactory
from realtime.transport.site import Site
from realtime.transport.websocket import WebSockets


class Answer(NamedTuple):
    """An HTTP answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Exchange:
    """A connection to a listener.

    :param mounts: what it serves; a resource is one at the root.
    :ivar transport: holds what was answered and not yet read.
    """

    def __init__(self, mounts: IResource | Mapping[str, IResource], clock: IReactorTime) -> None:
        self.transport = StringTransportWithDisconnection()
        listener = DoorFactory(
            clock=clock,
            site=Site(mounts if isinstance(mounts, Mapping) else {"/": mounts}),
            upgrades={},
            websockets=WebSockets(clock, max_message=1000, message_timeout=10),
            head_timeout=5,
            body_timeout=10,
        )
        self.door = listener.buildProtocol(self.transport.getPeer())
        assert self.door is not None
        self.transport.protocol = self.door
        self.door.makeConnection(self.transport)

    def send(self, data: bytes) -> None:
        self.door.dataReceived(data)

    def read(self, body: bool = True) -> Answer:
        """The next answer; one to HEAD has no body, whatever its length says."""
        head, _, rest = self.transport.value().partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        length = int(headers.get("content-length", 0)) if body else 0
        self.transport.clear()
        self.transport.write(rest[length:])
        return Answer(int(first.split(" ")[1]), headers, rest[:length])

    def ask(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> Answer:
        lines = [f"{method} {target} HTTP/1.1", "Host: service", *(f"{k}: {v}" for k, v in headers.items())]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b""))
        return self.read(body=method != "HEAD")
