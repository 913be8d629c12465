"""ISession: one client protocol, frames to commands and publications to frames; and `Frame`."""

from __future__ import annotations

import zlib
from base64 import b64encode
from collections.abc import Hashable, Iterable
from typing import Final, Protocol

import msgspec
from zope.interface import Attribute, Interface

from ..errors import Close, RealtimeError
from ..messages import Ack, Command, Placed, Publication, Sequence

TEXT = 1
BINARY = 2
PING = 9

#: The window of compressed messages: 2 to this power, in bytes; and how much memory the making takes, of 9.
#: Small, since every message is compressed by itself, and most peers' windows are at least as large.
WINDOW: Final = 12
_EFFORT: Final = 5


def websocket_frame(opcode: int, payload: bytes) -> bytes:
    """One whole unmasked WebSocket frame, as a server sends it (RFC 6455 section 5.2)."""
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, size)) + payload
    if size < 65536:
        return bytes((0x80 | opcode, 126)) + size.to_bytes(2, "big") + payload
    return bytes((0x80 | opcode, 127)) + size.to_bytes(8, "big") + payload


def deflated_frame(opcode: int, payload: bytes) -> bytes:
    """One whole message, compressed by itself (RFC 7692 section 7.2.1); as it is where that is shorter."""
    deflate = zlib.compressobj(zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, -WINDOW, _EFFORT)
    made = deflate.compress(payload) + deflate.flush(zlib.Z_SYNC_FLUSH)
    # what every message would end in, the peer adds
    if len(made) - 4 >= len(payload):
        return websocket_frame(opcode, payload)
    return websocket_frame(0x40 | opcode, made[:-4])


class INewest(Protocol):
    """What a frame tells the value of."""

    event: str

    @property
    def key(self) -> Hashable:
        """Equal for two frames of which the later makes the earlier one worthless."""


class Frame:
    """One encoded message, shared by all receivers of one encoding.

    :ivar text: the text part, UTF-8.
    :ivar attachments: binary parts that follow it.
    :ivar newest: while it waits it gives way to a newer frame that tells the value of the same; None for
        one that does not (loss class ``latest``, DESIGN.md section 5).
    """

    __slots__ = ("_deflated", "_polling", "_websocket", "attachments", "newest", "text")

    def __init__(self, text: bytes, attachments: tuple[bytes, ...] = ()) -> None:
        self.text = text
        self.attachments = attachments
        self.newest: INewest | None = None
        self._deflated: bytes | None = None
        self._websocket: bytes | None = None
        self._polling: bytes | None = None

    @property
    def websocket(self) -> bytes:
        """The bytes for a WebSocket, framed; made once."""
        made = self._websocket
        if made is None:
            made = websocket_frame(TEXT, self.text) if self.text else b""
            for attachment in self.attachments:
                made += websocket_frame(BINARY, attachment)
            self._websocket = made
        return made

    def deflated(self, threshold: int) -> bytes:
        """The bytes for a WebSocket on which permessage-deflate was negotiated; made once.

        :param threshold: bytes from which a message is compressed; the same whenever it is asked for.
        """
        made = self._deflated
        if made is None:
            made = self._deflated = self._deflate(threshold)
        return made

    def _deflate(self, threshold: int) -> bytes:
        parts = [(TEXT, self.text)] if self.text else []
        parts += [(BINARY, attachment) for attachment in self.attachments]
        if all(len(part) < threshold for _, part in parts):
            return self.websocket
        return b"".join(
            websocket_frame(opcode, part) if len(part) < threshold else deflated_frame(opcode, part)
            for opcode, part in parts
        )

    @property
    def polling(self) -> bytes:
        """The bytes inside an Engine.IO polling payload; made once."""
        made = self._polling
        if made is None:
            parts = [self.text] if self.text else []
            parts += [b"b" + b64encode(attachment) for attachment in self.attachments]
            made = self._polling = b"\x1e".join(parts)
        return made


class Several(Frame):
    """Some frames as one: several messages that leave together."""

    __slots__ = ("_frames",)

    def __init__(self, frames: Iterable[Frame]) -> None:
        self._frames = frames = tuple(frames)
        super().__init__(b"".join(frame.text for frame in frames))
        self._frames = frames
        self.attachments = tuple(part for frame in frames for part in frame.attachments)
        self._websocket = b"".join(frame.websocket for frame in frames)

    @property
    def polling(self) -> bytes:
        """See `Frame`."""
        if self._polling is None:
            self._polling = b"\x1e".join(frame.polling for frame in self._frames)
        return self._polling

    def _deflate(self, threshold: int) -> bytes:
        return b"".join(frame.deflated(threshold) for frame in self._frames)


class Control(Frame):
    """A WebSocket ping."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(b"")
        self._websocket = self._deflated = websocket_frame(PING, b"")


#: Stands for a publication that does not concern those who share an encoding: nothing is written.
NOTHING: Final = Frame(b"")


class Send(msgspec.Struct, frozen=True):
    """What `ISession.receive` answers by itself: write the frame, then take the next command."""

    frame: Frame


class ISession(Interface):
    """The protocol side of one connection. Pure: no clock, no socket."""

    encoding = Attribute("Hashable. Sessions with equal `encoding` share the frames of `encode`.")

    protocol = Attribute("str. What the client speaks, for metrics: 'socketio', 'wamp' or 'plain'.")

    incomplete = Attribute("bool. Whether a message has begun of which more frames must come.")

    def opening(token: bool) -> list[Command | Send]:
        """The transport is open: what is to be done before the client has said anything.

        :param token: whether the request that opened it brought a token.
        """

    def receive(frame: str | bytes) -> list[Command | Send]:
        """Take one frame (text or binary) and say what it asks for, in order.

        Among the commands may be answers of the protocol itself, to be written in their place.

        :raises ProtocolError: the frame can't be understood; the connection must be closed.
        """

    def connected(connection: str, session: str) -> Frame | None:
        """Tell the client that it is connected, its public id and its session's secret id.

        None where ``system:connected``, which follows, says it all.
        """

    def refused(error: RealtimeError) -> Frame:
        """Tell the client that it is not let in, so that it does not come back by itself."""

    def disconnected() -> Frame | None:
        """Tell the client that its session has ended, so that it does not come back by itself.

        None where `farewell` says so.
        """

    def encode(publication: Publication) -> Frame:
        """A publication, with its place in the sequence where it has one; or `NOTHING`.

        One with a receipt asks the client to acknowledge it, by its number in the sequence.
        """

    def replay(publications: Iterable[Publication]) -> Iterable[Frame]:
        """What the session missed, in order. Drawn frame by frame, as the transport takes them."""

    def settle() -> None:
        """What a session that was taken up still keeps for its client, it need not keep any longer."""

    def event(name: str, data: bytes, sequence: Sequence | None) -> Frame:
        """An event for this client alone, or `NOTHING`; `data` is a raw JSON object.

        A sequence moves the place from which the client later recovers. Written at once, when what
        it tells of has just become so: after ``room:joined`` the room's publications follow.
        """

    def reply(ack: Ack, data: bytes, binary: bool, placed: Placed = ()) -> Frame:
        """The acknowledgement `ack` of an event of the client, or `NOTHING`.

        :param data: a raw JSON object.
        :param placed: the publications that it speaks of.
        """

    def answer(ack: Ack) -> Frame:
        """What a client gets for a `Own`; `NOTHING` for none."""


class IDirectSession(ISession):
    """A session that a WebSocket carries as it is."""

    def ping() -> Frame:
        """What asks the client for a pong."""

    def farewell(close: Close) -> Frame | None:
        """The last words before the service closes the WebSocket."""
