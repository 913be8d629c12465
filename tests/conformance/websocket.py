"""A WebSocket echo for the public protocol suites: ``python -m tests.conformance.websocket PORT``.

It is the service's own WebSocket behind the service's own door, and nothing else.

Its limits are out of the way of what such a suite sends: 32 MB in a million frames.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import reactor
from zope.interface import implementer

from realtime.transport import websocket
from realtime.transport.door import DoorFactory, IUpgrade
from realtime.transport.site import Site
from realtime.transport.websocket import IWebSocketHandler, WebSocket, WebSockets
from realtime.wire.request import Head
from realtime.wire.session import BINARY, TEXT, websocket_frame

from .serve import listen

MAX_MESSAGE = 32 << 20
MAX_FRAMES = 1 << 20


@implementer(IWebSocketHandler)
class Echo:
    """Sends every message back; takes nothing more while the peer does not read."""

    def opened(self, websocket: WebSocket) -> None:
        self._websocket = websocket

    def received(self, data: str | bytes) -> None:
        if isinstance(data, str):
            self._websocket.send(websocket_frame(TEXT, data.encode()))
        else:
            self._websocket.send(websocket_frame(BINARY, data))

    def ponged(self) -> None:
        """Pongs that nobody asked for are allowed."""

    def full(self) -> None:
        self._websocket.hold()

    def drained(self) -> None:
        self._websocket.release()

    def lost(self, reason: str) -> None:
        """Nothing is kept."""


@implementer(IUpgrade)
class Echoes:
    """Takes every request."""

    def upgrade(self, head: Head, address: str) -> tuple[Any, str | None]:
        return Echo(), None


def echo_port(clock: Any) -> DoorFactory:
    """The echo under ``/``."""
    return DoorFactory(
        clock=clock,
        site=Site({}),
        upgrades={"/": Echoes()},
        websockets=WebSockets(clock, max_message=MAX_MESSAGE, message_timeout=60.0),
        head_timeout=5.0,
        body_timeout=10.0,
    )


if __name__ == "__main__":
    websocket.MAX_FRAMES = MAX_FRAMES  # type: ignore[misc]
    listen(int(sys.argv[1]), "/", echo_port(reactor))
