"""PlainSession: ``realtime.v1.json``, JSON objects over a WebSocket, for any client and by hand.

::

    -> {"event": name, "data"?: object, "id"?: number or text}
    <- {"id": id, "ok": true, …}     the acknowledgement, where there was an id; an ``id`` among the
                                     event's own fields is called ``messageId`` here
    <- {"id": id, "ok": false, "error": Refusal}
    <- {"event": name, "data": object, "offset"?: text, "receipt"?: number}

``offset`` is the place in the sequence, where the event has one: what `Connect.offset` takes. The last
one seen, with the ``session`` of ``system:connected``, takes the session up again. Where there is a
``receipt``, the publisher wants to know that the event was got: ``ack`` with the number as ``id`` says
so. ``ping`` is answered by ``pong``; a client that has sent one is pinged in the same way as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

import msgspec
from zope.interface import implementer

from ..errors import Close, ProtocolError, RealtimeError
from ..messages import Ack, Command, Connect, Event, Own, Placed, Publication, Sequence
from ..payload import is_utf8, spliced
from . import rawjson
from .session import NOTHING, Control, Frame, IDirectSession, Send, Several

#: The name of the subprotocol.
NAME: Final = "realtime.v1.json"

#: The most characters of an event's name, and of an id that is text.
MAX_NAME: Final = 256
MAX_ID: Final = 64

#: The largest id that is a number: all of JavaScript's safe integers.
_MAX_NUMBER: Final = 2**53 - 1

_PING: Final = Control()
_PINGS: Final = Several((_PING, Frame(b'{"event":"ping"}')))
#: How an answer begins that has an ``id`` of its own, the new message's: here it is ``messageId``.
_WITH_ID: Final = b'{"ok":true,"id":'

_BAD_ID: Final = f"an id is a number from 0 to {_MAX_NUMBER}, or a text of 1 to {MAX_ID} characters"
_EXPECTED: Final = 'expected a JSON object {"event": text, "data": object, "id": number or text}'


class _Message(msgspec.Struct):
    event: Any = None
    data: msgspec.Raw = msgspec.Raw(b"{}")
    id: Any = None


_MESSAGE: Final = msgspec.json.Decoder(_Message)


@lru_cache(maxsize=1024)
def _opening(name: str) -> bytes:
    """The start of an event's JSON, up to its payload."""
    return b'{"event":%b,"data":' % msgspec.json.encode(name)


@implementer(IDirectSession)
class PlainSession:
    """One client that speaks plain JSON. What it does not understand is refused, and goes no further."""

    encoding = NAME
    protocol = "plain"
    incomplete = False

    __slots__ = ("_pings", "_secret")

    def __init__(self) -> None:
        self._secret = ""
        self._pings = False

    def opening(self, token: bool) -> list[Command | Send]:
        """See `ISession`: with a token in the request the session begins by itself."""
        return [Connect()] if token else []

    def receive(self, frame: str | bytes) -> list[Command | Send]:
        """See `ISession`."""
        if isinstance(frame, bytes):
            return [_bad("this protocol takes text, not binary messages")]
        try:
            message = _MESSAGE.decode(frame)
        except rawjson.MALFORMED:
            return [_bad(_EXPECTED)]
        ack, name = message.id, message.event
        if not _valid_id(ack):
            return [_bad(_BAD_ID)]
        if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
            return [_bad(_EXPECTED, ack)]
        if name == "ping":
            self._pings = True
            return [Own(("pong", ack))]
        if name == "pong":
            return [Own(None)]
        return [_event(name, bytes(message.data), ack)]

    def answer(self, ack: Ack) -> Frame:
        """See `ISession`: ``pong``."""
        if ack is None:
            return NOTHING
        _, number = ack
        told = {"event": "pong"} if number is None else {"event": "pong", "id": number, "ok": True}
        return Frame(msgspec.json.encode(told))

    def connected(self, connection: str, session: str) -> None:
        """See `ISession`: ``system:connected`` will say it."""
        self._secret = session

    def refused(self, error: RealtimeError) -> Frame:
        """See `ISession`."""
        return self.event("system:error", msgspec.json.encode(error.refusal()), None)

    def disconnected(self) -> None:
        """See `ISession`: the close code says it."""

    def encode(self, publication: Publication) -> Frame:
        """See `ISession`."""
        frame = _emit(publication.event, publication.payload(), publication.sequence)
        if not publication.receipt or publication.sequence is None:
            return frame
        return Frame(b'%b,"receipt":%d}' % (frame.text[:-1], publication.sequence.number))

    def replay(self, publications: Iterable[Publication]) -> Iterable[Frame]:
        """See `ISession`."""
        return map(self.encode, publications)

    def settle(self) -> None:
        """See `ISession`: nothing is kept."""

    def event(self, name: str, data: bytes, sequence: Sequence | None) -> Frame:
        """See `ISession`. ``system:connected`` carries what the session is taken up by."""
        if name == "system:connected":
            position = "" if sequence is None else str(sequence)
            told = msgspec.json.encode({"session": self._secret, "position": position})
            data = spliced(data, [told[1:-1]])
        return _emit(name, data, sequence)

    def reply(self, ack: Ack, data: bytes, binary: bool, placed: Placed = ()) -> Frame:
        """See `ISession`."""
        if isinstance(ack, tuple):
            ack = ack[1]
        if ack is None:
            return NOTHING
        if data.startswith(_WITH_ID):
            data = data.replace(b'"id":', b'"messageId":', 1)
        return Frame(b'{"id":%b,%b' % (msgspec.json.encode(ack), data[1:]))

    def ping(self) -> Frame:
        """See `IDirectSession`."""
        return _PINGS if self._pings else _PING

    def farewell(self, close: Close) -> None:
        """See `IDirectSession`: the close code says it."""


def _valid_id(value: Any) -> bool:
    if isinstance(value, str):
        return 0 < len(value) <= MAX_ID
    return value is None or (type(value) is int and 0 <= value <= _MAX_NUMBER)


def _bad(why: str, ack: Ack = None) -> Event:
    return Event("", b"{}", ack, fault=why)


def _event(name: str, data: bytes, ack: Ack) -> Event:
    # msgspec does not look into the texts that it hands over raw.
    if not is_utf8(data):
        return Event(name, b"{}", ack, fault=rawjson.UNFIT)
    try:
        data = rawjson.screen(data)
    except ProtocolError as error:
        return Event(name, b"{}", ack, fault=error.message)
    return Event(name, data, ack, binary=b'"$binary"' in data)


def _emit(name: str, data: bytes, sequence: Sequence | None) -> Frame:
    if sequence is None:
        return Frame(b"%b%b}" % (_opening(name), data))
    return Frame(b'%b%b,"offset":"%b"}' % (_opening(name), data, str(sequence).encode()))
