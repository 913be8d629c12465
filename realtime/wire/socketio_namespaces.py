"""The namespaces of one Socket.IO client: which are connected, and what may arrive in them.

Knows nothing of the application. What the reference server answers by closing the transport is a
`ProtocolError` here.
"""

from __future__ import annotations

import enum
from collections.abc import Collection
from typing import Final

import msgspec

from ..errors import ProtocolError
from .session import Frame
from .socketio_packets import (
    ACK,
    CONNECT,
    CONNECT_ERROR,
    DISCONNECT,
    EVENT,
    Packet,
    PacketReader,
    encode,
)

#: How many namespaces a client may have, those it asked for in vain counted too.
MAX_NAMESPACES: Final = 8


class Asked(msgspec.Struct, frozen=True, gc=False):
    """The client asks to connect to a namespace; answer with `accept` or `remove`.

    :ivar auth: a raw JSON object; ``{}`` where the client sent none.
    """

    namespace: str
    auth: bytes


class Unknown(msgspec.Struct, frozen=True, gc=False):
    """The client asked for a namespace that does not exist.

    :ivar answer: the refusal to send.
    """

    namespace: str
    answer: Frame


class Emitted(msgspec.Struct, frozen=True, gc=False):
    """The client sent an event.

    :ivar arguments: raw JSON values, with placeholders where binary belongs.
    :ivar ack: what the acknowledgement has to carry; None if the client wants none.
    """

    namespace: str
    name: str
    arguments: list[msgspec.Raw]
    ack: int | None
    attachments: tuple[bytes, ...]
    fault: str = ""


class Acknowledged(msgspec.Struct, frozen=True, gc=False):
    """The client acknowledged an event."""

    namespace: str
    ack: int
    arguments: list[msgspec.Raw]
    attachments: tuple[bytes, ...]


class Left(msgspec.Struct, frozen=True, gc=False):
    """The client disconnected from a namespace, which it may connect to again."""

    namespace: str


Arrival = Asked | Unknown | Emitted | Acknowledged | Left


class _State(enum.Enum):
    ASKED = enum.auto()
    CONNECTED = enum.auto()


class Namespaces:
    """The server's side of one client.

    :param known: the namespaces that exist.
    :param max_bytes: what one packet may have in all, with its attachments.
    """

    def __init__(self, known: Collection[str], max_bytes: int) -> None:
        self._known = known
        self._reader = PacketReader(max_bytes)
        self._states: dict[str, _State] = {}
        self._refused = 0

    @property
    def connected(self) -> frozenset[str]:
        """The namespaces that the client is connected to."""
        return frozenset(name for name, state in self._states.items() if state is _State.CONNECTED)

    @property
    def incomplete(self) -> bool:
        """Whether attachments are awaited."""
        return self._reader.incomplete

    def accept(self, namespace: str) -> None:
        """The namespace that the client asked for is connected now."""
        self._states[namespace] = _State.CONNECTED

    def remove(self, namespace: str) -> None:
        """The namespace is refused, or disconnected by the server."""
        self._states.pop(namespace, None)

    def receive(self, frame: str | bytes) -> Arrival | None:
        """Take the next frame; None while attachments are still to come.

        :raises ProtocolError: the frame can't be understood, or is not legal now.
        """
        packet = self._reader.receive(frame)
        if packet is None:
            return None
        namespace = packet.namespace
        state = self._states.get(namespace)
        if packet.type == CONNECT:
            if state is not None:
                raise ProtocolError("the namespace is connected already")
            return self._connect(packet)
        if state is not _State.CONNECTED:
            raise ProtocolError("connect to the namespace first")
        if packet.type == EVENT:
            return Emitted(
                namespace,
                packet.name,
                packet.arguments,
                packet.ack,
                packet.attachments,
                packet.fault,
            )
        if packet.type == ACK and packet.ack is not None:
            return Acknowledged(namespace, packet.ack, packet.arguments, packet.attachments)
        if packet.type == DISCONNECT:
            del self._states[namespace]
            return Left(namespace)
        raise ProtocolError("only servers send this packet")

    def _connect(self, packet: Packet) -> Asked | Unknown:
        if len(self._states) + self._refused >= MAX_NAMESPACES:
            raise ProtocolError(f"at most {MAX_NAMESPACES} namespaces")
        namespace = packet.namespace
        if namespace not in self._known:
            self._refused += 1
            answer = encode(CONNECT_ERROR, namespace, b'{"message":"Invalid namespace"}')
            return Unknown(namespace, answer)
        self._states[namespace] = _State.ASKED
        return Asked(namespace, packet.payload.encode() or b"{}")
