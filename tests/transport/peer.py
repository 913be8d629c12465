"""A client of the client port in memory: HTTP requests, WebSocket frames, on a clock."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from realtime.connections import IReceiver
from realtime.transport.door import Door, DoorFactory
from realtime.transport.engine import EngineServer, EngineSocket
from realtime.transport.flusher import Flusher
from realtime.transport.origins import Origins
from realtime.transport.polling import PollingResource
from realtime.transport.site import Site
from realtime.transport.websocket import WebSockets

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="


@implementer(ITCPTransport)
class Wire:
    """The server's transport: what is written waits here until the peer reads.

    :ivar mark: bytes that wait before the producer is paused.
    :ivar stalled: the peer reads nothing, so that nothing drains.
    """

    mark = 65536

    def __init__(self, clock: Clock, address: str) -> None:
        self.clock = clock
        self.address = IPv4Address("TCP", address, 40000)
        self.lost: Callable[[Failure], None] = lambda reason: None
        self.connected = True
        self.disconnecting = False
        self.half_closed = False
        self.aborted = False
        self.reading = True
        self.stalled = False
        self.options: dict[str, bool] = {}
        self.output = bytearray()
        self.producer: Any = None
        self.producer_paused = False

    def write(self, data: bytes) -> None:
        if self.connected and not self.disconnecting:
            self.output += data
            if self.stalled and len(self.output) > self.mark and not self.producer_paused:
                self.producer_paused = True
                if self.producer is not None:
                    self.producer.pauseProducing()

    def writeSequence(self, data: list[bytes]) -> None:
        self.write(b"".join(data))

    def drain(self) -> bytes:
        """The peer reads all that waits."""
        taken = bytes(self.output)
        self.output.clear()
        if self.producer_paused and self.producer is not None:
            self.producer_paused = False
            self.producer.resumeProducing()
        elif self.disconnecting:
            self._lose(ConnectionDone())
        return taken

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self.producer is not None:
            raise RuntimeError("there is a producer already")
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None
        self.producer_paused = False

    def loseConnection(self) -> None:
        if self.connected and not self.disconnecting:
            if self.producer is not None and self.producer_paused:
                raise RuntimeError("a paused producer keeps Twisted from closing")
            self.disconnecting = True
            if not (self.stalled and self.output):
                self.clock.callLater(0, self._lose, ConnectionDone())

    def loseWriteConnection(self) -> None:
        self.half_closed = True

    def abortConnection(self) -> None:
        self.aborted = True
        self.clock.callLater(0, self._lose, ConnectionAborted())

    def _lose(self, reason: Exception) -> None:
        if self.connected:
            self.connected = False
            self.lost(Failure(reason))

    def hang_up(self) -> None:
        """The peer closes."""
        self._lose(ConnectionDone())

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True

    def getPeer(self) -> IPv4Address:
        return self.address

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 3003)

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.options["nodelay"] = enabled

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self.options["keepalive"] = enabled


class Answer:
    """One HTTP answer."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def frame(opcode: int, payload: bytes = b"", *, final: bool = True, mask: bytes = b"abcd") -> bytes:
    """One WebSocket frame of a client."""
    size = len(payload)
    if size < 126:
        head = bytes((opcode | (0x80 if final else 0), 0x80 | size))
    elif size < 65536:
        head = bytes((opcode | (0x80 if final else 0), 0x80 | 126)) + struct.pack("!H", size)
    else:
        head = bytes((opcode | (0x80 if final else 0), 0x80 | 127)) + struct.pack("!Q", size)
    masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
    return head + mask + masked


class Peer:
    """One TCP connection of a client."""

    def __init__(self, factory: DoorFactory, clock: Clock, address: str = "192.0.2.1") -> None:
        self.clock = clock
        self.wire = Wire(clock, address)
        door = factory.buildProtocol(self.wire.address)
        self.refused = door is None
        if door is not None:
            self.door: Door = door
            # looked up when it happens: a WebSocket may have taken over by then
            self.wire.lost = lambda reason: door.connectionLost(reason)  # noqa: PLW0108
            door.makeConnection(self.wire)

    def send(self, data: bytes) -> None:
        """Bytes arrive at the server."""
        if self.wire.connected:
            self.door.dataReceived(data)

    def read(self) -> bytes:
        """All that the server has sent, at the end of the reactor's turn."""
        self.clock.advance(0)
        return self.wire.drain()

    def request(self, method: str, target: str, body: bytes = b"", **headers: str) -> None:
        """Send a request; names of header fields with underscores for dashes."""
        fields = {"Host": "localhost", **{name.replace("_", "-"): text for name, text in headers.items()}}
        if body:
            fields["Content-Length"] = str(len(body))
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {text}" for name, text in fields.items())]
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    def answer(self) -> Answer | None:
        """The next answer; None if there is none."""
        data = self.wire.output
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return None
        status, *lines = bytes(data[:end]).decode("latin-1").split("\r\n")
        headers = {name.lower(): text.strip() for name, _, text in (line.partition(":") for line in lines)}
        size = int(headers.get("content-length", "0"))
        body = bytes(data[end + 4 : end + 4 + size])
        rest = bytes(data[end + 4 + size :])
        self.wire.drain()
        self.wire.output += rest
        return Answer(int(status.split(" ")[1]), headers, body)

    def ask(self, method: str, target: str, body: bytes = b"", **headers: str) -> Answer:
        """Send a request whose answer comes at once."""
        self.request(method, target, body, **headers)
        answer = self.answer()
        assert answer is not None, "no answer"
        return answer

    def upgrade(self, target: str, **headers: str) -> Answer:
        """Ask for a WebSocket."""
        fields = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec_WebSocket_Version": "13",
            "Sec_WebSocket_Key": KEY.decode(),
        }
        return self.ask("GET", target, **{**fields, **headers})

    def say(self, payload: str | bytes) -> None:
        """Send one WebSocket message."""
        if isinstance(payload, str):
            self.send(frame(TEXT, payload.encode()))
        else:
            self.send(frame(BINARY, payload))

    def frames(self) -> list[tuple[int, bytes]]:
        """The WebSocket frames that the server has sent."""
        data, found = self.read(), []
        while data:
            opcode, size, start = data[0] & 15, data[1] & 127, 2
            if size == 126:
                size, start = int.from_bytes(data[2:4], "big"), 4
            elif size == 127:
                size, start = int.from_bytes(data[2:10], "big"), 10
            found.append((opcode, data[start : start + size]))
            data = data[start + size :]
        return found

    def said(self) -> list[str | bytes]:
        """The messages among the frames that the server has sent."""
        return [
            payload.decode() if opcode == TEXT else payload
            for opcode, payload in self.frames()
            if opcode in (TEXT, BINARY)
        ]

    @property
    def gone(self) -> bool:
        """Whether the connection is closed, or the server has said all it will."""
        return not self.wire.connected or self.wire.half_closed or self.wire.disconnecting


@implementer(IReceiver)
class Recorder:
    """Keeps what one session brought; may fail on purpose."""

    def __init__(self, socket: EngineSocket) -> None:
        self.socket = socket
        self.messages: list[str | bytes] = []
        self.ends: list[str] = []
        self.on_message: Callable[[str | bytes], None] = lambda data: None

    def received(self, data: str | bytes) -> None:
        self.messages.append(data)
        self.on_message(data)

    def closed(self, reason: str) -> None:
        self.ends.append(reason)


class Counters:
    """What an `EngineServer` counted."""

    def __init__(self) -> None:
        self.refused: list[str] = []
        self.slow = 0
        self.given_way: list[str] = []
        self.paused = 0

    def handshake_refused(self, code: str) -> None:
        self.refused.append(code)

    def slow_consumer(self) -> None:
        self.slow += 1

    def conflated(self, event: str) -> None:
        self.given_way.append(event)

    def unread(self) -> None:
        self.paused += 1


class World:
    """A client port with Engine.IO under ``/engine.io``, on a clock."""

    def __init__(self, compress_from: int | None = None, **options: Any) -> None:
        self.clock = Clock()
        self.recorders: list[Recorder] = []
        self.counters = Counters()
        engine: dict[str, Any] = {
            "ping_interval": 25.0,
            "ping_timeout": 20.0,
            "max_payload": 100_000,
            "max_queue_bytes": 50_000,
            "origins": Origins(["https://app.example.com"]),
            "accept": self.accept,
            "counters": self.counters,
            "batch_interval": 0.0,
        }
        door: dict[str, Any] = {"head_timeout": 5.0, "body_timeout": 10.0}
        for name, value in options.items():
            (engine if name in engine or name in ("admit", "query_token", "origin_refused") else door)[
                name
            ] = value
        engine["flusher"] = flusher = Flusher(self.clock, engine.pop("batch_interval"))
        sending = {"flusher": flusher, "compress_from": compress_from}
        self.engine = EngineServer(clock=self.clock, **engine)
        self.websockets = WebSockets(self.clock, max_message=100_000, message_timeout=10.0, **sending)
        self.factory = DoorFactory(
            clock=self.clock,
            site=Site({"/engine.io": PollingResource(self.engine)}),
            upgrades={"/engine.io": self.engine},
            websockets=self.websockets,
            **door,
        )

    def accept(self, socket: EngineSocket) -> Recorder:
        recorder = Recorder(socket)
        self.recorders.append(recorder)
        return recorder

    def peer(self, address: str = "192.0.2.1") -> Peer:
        """A new connection."""
        return Peer(self.factory, self.clock, address)

    def turn(self) -> None:
        """Let the reactor go round."""
        self.clock.advance(0)

    def poller(self) -> Poller:
        """A session by long-polling."""
        return Poller(self)

    def websocket(self) -> tuple[Peer, Recorder]:
        """A session by WebSocket, its open packet read."""
        peer = self.peer()
        answer = peer.upgrade("/engine.io/?EIO=4&transport=websocket")
        assert answer.status == 101, answer.status
        assert peer.said()
        return peer, self.recorders[-1]


class Poller:
    """A client by long-polling: one connection to fetch, one to bring."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.fetching = world.peer()
        self.bringing = world.peer()
        opened = self.fetching.ask("GET", "/engine.io/?EIO=4&transport=polling")
        assert opened.status == 200, opened.body
        self.sid: str = json.loads(opened.body[1:])["sid"]
        self.recorder = world.recorders[-1]
        self.socket = self.recorder.socket

    @property
    def target(self) -> str:
        return f"/engine.io/?EIO=4&transport=polling&sid={self.sid}"

    def poll(self) -> Answer | None:
        """Send a poll; its answer, if it came at once."""
        self.fetching.request("GET", self.target)
        return self.fetching.answer()

    def fetched(self) -> Answer | None:
        """The answer to the poll that waits."""
        self.world.turn()
        return self.fetching.answer()

    def bring(self, body: bytes, **headers: str) -> Answer | None:
        """Send packets; the answer, if it came at once."""
        self.bringing.request("POST", self.target, body, **headers)
        return self.bringing.answer()

    def probe(self) -> Peer:
        """Open a WebSocket that is to take over."""
        peer = self.world.peer()
        answer = peer.upgrade(f"/engine.io/?EIO=4&transport=websocket&sid={self.sid}")
        assert answer.status == 101, answer.body
        return peer
