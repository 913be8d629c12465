"""Clients of a conformance server over real sockets: plain HTTP requests, and a WebSocket."""

from __future__ import annotations

import json
from http.client import HTTPConnection

from websocket import ABNF, WebSocket, WebSocketConnectionClosedException

POLLING = "EIO=4&transport=polling"
WEBSOCKET = "EIO=4&transport=websocket"

#: Seconds that no answer takes, however busy the machine.
PATIENCE = 30


class Requests:
    """Engine.IO by HTTP requests, each on a connection of its own."""

    def __init__(self, port: int, path: str) -> None:
        self.port = port
        self.path = path

    def begin(self, query: str, method: str = "GET", body: bytes | None = None) -> HTTPConnection:
        """Send a request, and do not wait for its answer."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        connection.request(method, f"{self.path}/?{query}", body)
        return connection

    def ask(self, query: str, method: str = "GET", body: bytes | None = None) -> tuple[int, str]:
        """Send a request; status and text of its answer."""
        return finish(self.begin(query, method, body))

    def open(self) -> str:
        """Open a session by long-polling; the query of its further requests."""
        status, text = self.ask(POLLING)
        assert status == 200, text
        return f"{POLLING}&sid={json.loads(text[1:])['sid']}"


def finish(connection: HTTPConnection) -> tuple[int, str]:
    """Wait for the answer; its status and text."""
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, text


class Socket:
    """Engine.IO by WebSocket."""

    def __init__(self, port: int, path: str, query: str = WEBSOCKET) -> None:
        self._socket = WebSocket()
        self._socket.settimeout(PATIENCE)
        self._socket.connect(f"ws://127.0.0.1:{port}{path}/?{query}")

    def send(self, *messages: str | bytes) -> None:
        """Send messages, text or binary."""
        for message in messages:
            opcode = ABNF.OPCODE_BINARY if isinstance(message, bytes) else ABNF.OPCODE_TEXT
            self._socket.send(message, opcode)

    def receive(self) -> str | bytes | None:
        """The next message; None if the server has closed."""
        try:
            opcode, data = self._socket.recv_data()
        except (WebSocketConnectionClosedException, ConnectionResetError):
            return None
        if opcode == ABNF.OPCODE_CLOSE:
            return None
        return data.decode() if opcode == ABNF.OPCODE_TEXT else bytes(data)

    def close(self) -> None:
        """Drop the connection."""
        self._socket.shutdown()
