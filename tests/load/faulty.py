"""A small Socket.IO server that can be told to lose, repeat or reorder what it delivers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable

from twisted.internet.protocol import Factory, Protocol

from realtime.wire.session import TEXT, websocket_frame

ANSWER = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
ACKNOWLEDGED = {"ok": True}

#: Given the receiver's place among all and all messages that it was sent so far, with the newest
#: at the end: which of them to send it now.
Deliver = Callable[[int, list[bytes]], Iterable[bytes]]


def faithful(receiver: int, messages: list[bytes]) -> Iterable[bytes]:
    """Each message once, in order."""
    return messages[-1:]


class FaultyServer(Factory):
    """Serves one room, to which all belong who connect.

    :param deliver: decides what receivers get.
    :param answer: decides what the acknowledgement of the n-th message of all says, from 0 on.
    """

    def __init__(
        self,
        deliver: Deliver = faithful,
        answer: Callable[[int], dict[str, object]] = lambda number: ACKNOWLEDGED,
    ) -> None:
        self.protocol = _Connection
        self.deliver = deliver
        self.answer = answer
        self.members: list[_Connection] = []
        self.pongs = 0
        self.tokens: list[str] = []
        self._messages = 0

    def publish(self, body: bytes) -> dict[str, object]:
        """Deliver a message; what to acknowledge it with."""
        for place, member in enumerate(self.members):
            member.messages.append(body)
            for message in self.deliver(place, member.messages):
                member.say(b"42" + message)
        self._messages += 1
        return self.answer(self._messages - 1)


class _Connection(Protocol):
    factory: FaultyServer

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self.port = self.transport.getHost().port
        self.messages: list[bytes] = []
        self._rest = b""
        self._upgraded = False

    def say(self, packet: bytes) -> None:
        """Send a packet."""
        self.transport.write(websocket_frame(TEXT, packet))

    def dataReceived(self, data: bytes) -> None:
        self._rest += data
        if not self._upgraded:
            head, end, self._rest = self._rest.partition(b"\r\n\r\n")
            assert end and head.startswith(b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n"), head
            self._upgraded = True
            self.transport.write(ANSWER)
            self.say(b'0{"sid":"s","upgrades":[],"pingInterval":25000,"pingTimeout":20000}')
            self.say(b"2")
        while (packet := self._take()) is not None:
            self._handle(packet)

    def _take(self) -> bytes | None:
        """The next packet that is there whole, its mask taken off."""
        if len(self._rest) < 6:
            return None
        size, start = self._rest[1] & 127, 6
        if size == 126:
            size, start = int.from_bytes(self._rest[2:4], "big"), 8
        if len(self._rest) < start + size:
            return None
        assert self._rest[0] == 0x81 and self._rest[1] & 0x80, "one whole masked text frame"
        mask, masked = self._rest[start - 4 : start], self._rest[start : start + size]
        self._rest = self._rest[start + size :]
        return bytes(byte ^ mask[place % 4] for place, byte in enumerate(masked))

    def _handle(self, packet: bytes) -> None:
        if packet == b"3":
            self.factory.pongs += 1
        elif packet.startswith(b"40"):
            self.factory.tokens.append(json.loads(packet[2:])["token"])
            self.say(b'40{"sid":"s"}')
            self.say(b'42["system:connected",{}]')
        else:
            event = re.fullmatch(rb"42(\d+)(.*)", packet, re.DOTALL)
            assert event is not None, packet
            self._event(event[1], event[2])

    def _event(self, ack: bytes, body: bytes) -> None:
        name, _ = json.loads(body)
        told: dict[str, object] = ACKNOWLEDGED
        if name == "room:join":
            self.factory.members.append(self)
            for member in self.factory.members:
                member.say(b'42["room:user_joined",{"text":"not a message"}]')
        else:
            told = self.factory.publish(body)
        self.say(b"43" + ack + json.dumps([told], separators=(",", ":")).encode())
