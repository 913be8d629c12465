"""SocketIOSession: Socket.IO 5 as the application speaks it, in the namespace ``/``.

A client's CONNECT carries ``{token?, pid?, offset?, recovery?}``. Events to a client end in their
payload and, where they are logged, in their place in the sequence as one more text: the reference
client keeps the last text argument it saw as its offset, and sends it with the pid when it comes back
(connection state recovery). A client that says ``recovery: false`` gets no such text.

A publication whose publisher wants a receipt asks for an acknowledgement, whose id is its number in the
sequence: the same bytes for all. The client takes no offset from such an event; ``system:position``
follows it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

import msgspec
from zope.interface import implementer

from ..errors import InvalidToken, ProtocolError, RealtimeError
from ..messages import (
    Ack,
    Acknowledged,
    Command,
    Connect,
    Disconnect,
    Event,
    Placed,
    Publication,
    Sequence,
    number_of,
)
from . import rawjson, socketio_namespaces
from .attachments import fold, unfold
from .session import NOTHING, Frame, ISession, Send, Several
from .socketio_namespaces import Asked, Emitted, Left, Namespaces, Unknown
from .socketio_packets import ACK, EVENT, encode

WITH_OFFSETS: Final = "socketio.offsets"
WITHOUT_OFFSETS: Final = "socketio.plain"

# Longer than any pid or offset that this service gives out.
_MAX_RECOVERY_TEXT: Final = 128
_ROOT: Final = frozenset({"/"})


class _Auth(msgspec.Struct):
    token: Any = None
    pid: Any = None
    offset: Any = None
    recovery: Any = True


_AUTH: Final = msgspec.json.Decoder(_Auth)


@lru_cache(maxsize=1024)
def _opening(name: str) -> bytes:
    """The start of an event's JSON, up to its payload."""
    return b"[%b," % msgspec.json.encode(name)


@implementer(ISession)
class SocketIOSession:
    """One client that speaks Socket.IO.

    After DISCONNECT, or after it was refused, a client may connect again on the same transport:
    `receive` then gives a second `Connect`.

    :param max_bytes: what one packet may have in all, with its attachments.
    """

    protocol = "socketio"

    def __init__(self, max_bytes: int) -> None:
        self.encoding = WITH_OFFSETS
        self._wanted = WITH_OFFSETS
        self._namespaces = Namespaces(_ROOT, max_bytes)

    @property
    def incomplete(self) -> bool:
        """See `ISession`: attachments are awaited."""
        return self._namespaces.incomplete

    def opening(self, token: bool) -> list[Command | Send]:
        """See `ISession`: the client speaks first."""
        return []

    def receive(self, frame: str | bytes) -> list[Command | Send]:
        """See `ISession`. Text comes without the type of the Engine.IO message."""
        arrival = self._namespaces.receive(frame)
        if isinstance(arrival, Emitted):
            return [_event(arrival)]
        if isinstance(arrival, Asked):
            return [self._connect(arrival.auth)]
        if isinstance(arrival, Left):
            return [Disconnect()]
        if isinstance(arrival, Unknown):
            return [Send(arrival.answer)]
        if isinstance(arrival, socketio_namespaces.Acknowledged):
            return [Acknowledged(arrival.ack)]
        # An attachment is awaited.
        return []

    def _connect(self, raw: bytes) -> Connect | Send:
        try:
            auth = _AUTH.decode(raw)
        except msgspec.MsgspecError:
            raise ProtocolError("the payload of CONNECT is not valid") from None
        # From `connected` on: until then what is sent may still be an earlier connection's, which
        # shares its frames with others of its encoding.
        self._wanted = WITHOUT_OFFSETS if auth.recovery is False else WITH_OFFSETS
        if auth.token is not None and not isinstance(auth.token, str):
            return Send(self.refused(InvalidToken("the token is text")))
        if auth.recovery is False:
            # Without offsets a client can't say what it has; taking the session up would repeat all.
            return Connect(auth.token)
        return Connect(auth.token, _recovery_text(auth.pid), _recovery_text(auth.offset))

    def connected(self, connection: str, session: str) -> Frame:
        """See `ISession`: CONNECT, with the public id, and with the pid where the client recovers."""
        self._namespaces.accept("/")
        self.encoding = self._wanted
        told = {"sid": connection}
        if self.encoding is WITH_OFFSETS:
            told["pid"] = session
        return Frame(b"40" + msgspec.json.encode(told))

    def refused(self, error: RealtimeError) -> Frame:
        """See `ISession`: CONNECT_ERROR, with the refusal as its data."""
        self._namespaces.remove("/")
        return Frame(b"44" + msgspec.json.encode({"message": error.message, "data": error.refusal()}))

    def disconnected(self) -> Frame:
        """See `ISession`: DISCONNECT."""
        self._namespaces.remove("/")
        return Frame(b"41")

    def encode(self, publication: Publication) -> Frame:
        """See `ISession`."""
        payload = publication.payload()
        attachments: tuple[bytes, ...] = ()
        if publication.binary:
            payload, attachments = unfold(payload)
        if publication.receipt and publication.sequence is not None:
            return self._ask(publication, payload, attachments)
        return self._emit(publication.event, payload, publication.sequence, attachments)

    def _ask(self, publication: Publication, payload: bytes, attachments: tuple[bytes, ...]) -> Frame:
        text = b"%b%b]" % (_opening(publication.event), payload)
        asking = encode(EVENT, "/", text, number_of(publication), attachments)
        if self.encoding is not WITH_OFFSETS:
            return asking
        return Several((asking, self._emit("system:position", b"{}", publication.sequence, ())))

    def replay(self, publications: Iterable[Publication]) -> Iterable[Frame]:
        """See `ISession`."""
        return map(self.encode, publications)

    def settle(self) -> None:
        """See `ISession`: nothing is kept."""

    def event(self, name: str, data: bytes, sequence: Sequence | None) -> Frame:
        """See `ISession`."""
        return self._emit(name, data, sequence, ())

    def answer(self, ack: Ack) -> Frame:
        """See `ISession`: there is nothing of the kind."""
        return NOTHING

    def reply(self, ack: Ack, data: bytes, binary: bool, placed: Placed = ()) -> Frame:
        """See `ISession`."""
        if not binary:
            return Frame(b"43%d[%b]" % (ack, data))
        payload, attachments = unfold(data)
        return encode(ACK, "/", b"[%b]" % payload, ack, attachments)

    def _emit(
        self, name: str, payload: bytes, sequence: Sequence | None, attachments: tuple[bytes, ...]
    ) -> Frame:
        if sequence is not None and self.encoding is WITH_OFFSETS:
            text = b'%b%b,"%b"]' % (_opening(name), payload, str(sequence).encode())
        else:
            text = b"%b%b]" % (_opening(name), payload)
        if attachments:
            return encode(EVENT, "/", text, None, attachments)
        return Frame(b"42" + text)


def _event(emitted: Emitted) -> Event:
    """What the application sees of an event: its first argument."""
    if not emitted.arguments:
        return Event(emitted.name, b"{}", emitted.ack, fault=emitted.fault)
    data, binary = fold(bytes(emitted.arguments[0]), emitted.attachments)
    try:
        data = rawjson.screen(data)
    except ProtocolError as error:
        return Event(emitted.name, b"{}", emitted.ack, fault=error.message)
    return Event(emitted.name, data, emitted.ack, binary)


def _recovery_text(value: Any) -> str | None:
    """A pid or offset; what can't be one is as good as none, and the client gets a fresh session."""
    return value if isinstance(value, str) and 0 < len(value) <= _MAX_RECOVERY_TEXT else None
