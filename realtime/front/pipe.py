"""Pipe: what the gRPC front, a process of its own, and the node say to each other.

Messages are msgpack arrays, each behind its length in four bytes; both sides collect what they have to
say in one turn of their loop into one write.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

#: File descriptors of the front: from the node, and to it.
FROM_NODE: Final = 3
TO_NODE: Final = 4

#: Bytes of one message, at most: an answer is far below.
MAX_MESSAGE: Final = 64 * 1024 * 1024


class Listening(msgspec.Struct, frozen=True, tag="listening", array_like=True, gc=False):
    """The front is up."""

    port: int


class Failed(msgspec.Struct, frozen=True, tag="failed", array_like=True, gc=False):
    """The front can't begin."""

    why: str


class Ask(msgspec.Struct, frozen=True, tag="ask", array_like=True, gc=False):
    """Somebody asks.

    :ivar id: by which it is answered.
    :ivar key: what was sent as API key.
    :ivar request: JSON, as the verb takes it.
    :ivar deadline: seconds on the monotonic clock after which nobody waits for the answer; 0 for never.
    """

    id: int
    verb: str
    key: bytes
    peer: str
    request: bytes
    deadline: float = 0.0


class Watch(msgspec.Struct, frozen=True, tag="watch", array_like=True, gc=False):
    """Somebody wants to hear of what happens.

    :ivar users: whose presence; none for all.
    :ivar kinds: of what: ``presence``, ``queue``, ``receipts``; nothing stands for the first two.
    :ivar receipts: of these receipts; none for all.
    """

    id: int
    key: bytes
    peer: str
    users: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    receipts: tuple[str, ...] = ()


class Unwatch(msgspec.Struct, frozen=True, tag="unwatch", array_like=True, gc=False):
    """They do not any more."""

    id: int


class Open(msgspec.Struct, frozen=True, tag="open", array_like=True, gc=False):
    """Somebody wants to work through booking queues, and be told what happens in them."""

    id: int
    key: bytes
    peer: str
    worker: str
    replay: bool


class Acknowledge(msgspec.Struct, frozen=True, tag="acknowledge", array_like=True, gc=False):
    """They have dealt with these."""

    id: int
    changes: tuple[int, ...]


class Close(msgspec.Struct, frozen=True, tag="close", array_like=True, gc=False):
    """They do not any more."""

    id: int


class Done(msgspec.Struct, frozen=True, tag="done", array_like=True, gc=False):
    """The answer, as JSON."""

    id: int
    answer: bytes


class Refused(msgspec.Struct, frozen=True, tag="refused", array_like=True, gc=False):
    """Why not. `retry_after` is seconds; `status` is HTTP's."""

    id: int
    code: str
    message: str
    status: int
    retry_after: float | None = None


class Happened(msgspec.Struct, frozen=True, tag="happened", array_like=True, gc=False):
    """Something that was waited for, as JSON."""

    id: int
    kind: str
    data: bytes


class Ready(msgspec.Struct, frozen=True, tag="ready", array_like=True, gc=False):
    """Whether the node wants traffic."""

    ready: bool


class Stop(msgspec.Struct, frozen=True, tag="stop", array_like=True, gc=False):
    """The front is to end, within so many seconds."""

    grace: float


FromFront = Listening | Failed | Ask | Watch | Unwatch | Open | Acknowledge | Close
FromNode = Done | Refused | Happened | Ready | Stop

_encode: Final = msgspec.msgpack.Encoder().encode
DECODE_FROM_FRONT: Final = msgspec.msgpack.Decoder(FromFront).decode
DECODE_FROM_NODE: Final = msgspec.msgpack.Decoder(FromNode).decode


def framed(message: FromFront | FromNode) -> bytes:
    """A message as it is written."""
    body = _encode(message)
    return len(body).to_bytes(4, "big") + body


class Unframer:
    """Takes what was read apart."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Any]:
        """The bodies of the messages that are whole now.

        :raises ValueError: the other side does not follow the protocol.
        """
        data = self._rest + data if self._rest else data
        found = []
        at, end = 0, len(data)
        while end - at >= 4:
            length = int.from_bytes(data[at : at + 4], "big")
            if length > MAX_MESSAGE:
                raise ValueError("a message that is too large")
            if end - at - 4 < length:
                break
            found.append(data[at + 4 : at + 4 + length])
            at += 4 + length
        self._rest = data[at:]
        return found


class Options(msgspec.Struct, frozen=True):
    """What the front is started with: where it listens, and with which files."""

    address: str
    port: int
    certificate: str = ""
    key: str = ""
    client_ca: str = ""
    max_message: int = 1_048_576
    max_waiting: int = 4096
