"""An Engine.IO echo for the public protocol suite: ``python -m tests.conformance.engineio PORT``."""

from __future__ import annotations

import sys

from zope.interface import implementer

from realtime.connections import IReceiver
from realtime.transport.engine import EngineSocket
from realtime.wire.session import Frame

from .serve import serve


@implementer(IReceiver)
class Echo:
    """Sends every message back."""

    def __init__(self, socket: EngineSocket) -> None:
        self._socket = socket

    def received(self, data: str | bytes) -> None:
        if isinstance(data, bytes):
            self._socket.write(Frame(b"", (data,)))
        else:
            self._socket.write(Frame(b"4" + data.encode()))

    def closed(self, reason: str) -> None:
        """Nothing is kept."""


if __name__ == "__main__":
    serve(int(sys.argv[1]), "/engine.io", Echo)
