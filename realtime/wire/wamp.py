"""WampSession: WAMP v2, a broker of the rooms' topics and a dealer of the service's procedures.

HELLO asks for the realm and brings the token by ``ticket`` authentication, unless the request that
opened the WebSocket brought one. ``details.authextra {session, position}`` takes an earlier session
up. Subscribing to a topic of one room joins the room, unsubscribing leaves it; a call is an event of
the client, its result the acknowledgement. What the service refuses is an ERROR with the Refusal as
its keyword arguments (`wamp_errors`).

A publication comes once for each subscription that matches it, always with the same publication id.
That of a logged one is its number in the sequence, and the position to recover from is the line of
``WELCOME.Details.authextra.position`` with that number behind the colon. Others have ids from
`UNLOGGED` on. Where ``Details.receipt`` is true the publisher wants to know that it was got: a call of
``ack`` with the publication id as ``id`` says so.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Any, Final

import msgspec
from autobahn.wamp.exception import InvalidUriError
from zope.interface import implementer

from ..errors import Close, InvalidMessage, ProtocolError, RealtimeError
from ..ids import session_number
from ..messages import Ack, Command, Connect, Disconnect, Own, Placed, Publication, Sequence
from ..payload import spliced
from . import wamp_errors as uris
from .session import NOTHING, Control, Frame, IDirectSession, Send, Several
from .wamp_broker import Broker
from .wamp_codecs import Unfit
from .wamp_dealer import Dealer
from .wamp_messages import (
    ABORT,
    AUTHENTICATE,
    CALL,
    CANCEL,
    CHALLENGE,
    ERROR,
    GOODBYE,
    HELLO,
    PUBLISH,
    REGISTER,
    REQUESTS,
    SHAPES,
    SUBSCRIBE,
    UNREGISTER,
    UNSUBSCRIBE,
    WELCOME,
    WITH_ARGUMENTS,
    Asked,
    valid_id,
    welcome,
)
from .wamp_realm import Encoder

#: HELLOs of one connection that may be turned away.
MAX_HELLOS: Final = 8

_MAX_RECOVERY_TEXT: Final = 128
_PING: Final = Control()


class _State(enum.Enum):
    START = enum.auto()  # HELLO may come
    CHALLENGED = enum.auto()  # AUTHENTICATE must come
    JOINING = enum.auto()  # we have all that we need; WELCOME or ABORT follows
    JOINED = enum.auto()
    OVER = enum.auto()  # nothing means anything any more


@implementer(IDirectSession)
class WampSession:
    """One client that speaks WAMP, by one serializer."""

    incomplete = False
    protocol = "wamp"

    __slots__ = (
        *("_broker", "_codec", "_dealer", "_encoder", "_fault", "_method", "_realm", "_resuming"),
        *("_secret", "_state", "_token", "_turned_away"),
    )

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._codec = encoder.codec
        self._realm = encoder.realm
        self._token = False
        self._reset()
        self._state = _State.START
        self._turned_away = 0
        self._fault = ""

    def _reset(self) -> None:
        self._secret = ""
        self._method = ""
        self._broker = Broker(self._encoder)
        self._dealer = Dealer(self._codec, self._broker.subscriber)
        self._resuming: dict[str, Any] = {}

    @property
    def encoding(self) -> Any:
        """See `ISession`."""
        return self._broker.encoding

    # -- from the client

    def opening(self, token: bool) -> list[Command | Send]:
        """See `ISession`."""
        self._token = token
        return []

    def receive(self, frame: str | bytes) -> list[Command | Send]:
        """See `ISession`."""
        if self._state is _State.OVER:
            return []
        try:
            return self._receive(frame)
        except ProtocolError as error:
            self._fault = error.message
            raise

    def _receive(self, frame: str | bytes) -> list[Command | Send]:
        try:
            elements = self._codec.parse(frame)
        except Unfit as unfit:
            return [self._unfit(unfit)]
        kind = elements[0]
        shape = SHAPES.get(kind) if type(kind) is int else None
        if shape is None:
            raise ProtocolError("clients don't send messages of this type")
        if self._state is not _State.JOINED and kind in REQUESTS | {CANCEL}:
            raise ProtocolError("join the realm first, by HELLO")
        if len(elements) > 6:
            raise ProtocolError("the message is too long")
        try:
            parsed = shape.parse(elements[:4] if kind in WITH_ARGUMENTS else elements)
        except InvalidUriError:
            return [self._invalid_uri(kind, elements)]
        except Exception:
            # Autobahn's errors repeat what was sent, and are of many kinds where that is odd.
            raise ProtocolError("the message has not the shape of its type") from None
        taken: list[Command | Send] = self._TAKE[kind](self, parsed, elements)
        return taken

    def _unfit(self, unfit: Unfit) -> Command:
        kind, request = (*unfit.head, None, None)[:2]
        known = type(kind) is int and kind in REQUESTS and valid_id(request)
        if self._state is not _State.JOINED or not known:
            raise ProtocolError(str(unfit))
        return Own(Asked(kind, request), InvalidMessage(str(unfit)))

    def _invalid_uri(self, kind: int, elements: list[Any]) -> Command:
        if kind not in REQUESTS or not valid_id(elements[1]):
            raise ProtocolError("the message has an invalid URI")
        asked = Asked(kind, elements[1], error=uris.INVALID_URI)
        return Own(asked, InvalidMessage("that is no URI that can be used here"))

    def _hello(self, hello: Any, _: list[Any]) -> list[Command | Send]:
        if self._state is not _State.START:
            raise ProtocolError("HELLO comes first, and once")
        self._reset()
        if hello.realm != self._realm.name:
            return self._turn_away(uris.NO_SUCH_REALM, f"the realm here is {self._realm.name}")
        extra = hello.authextra or {}
        self._resuming = {
            name: value
            for name in ("session", "position")
            if isinstance(value := extra.get(name), str) and 0 < len(value) <= _MAX_RECOVERY_TEXT
        }
        if "ticket" in (hello.authmethods or ()):
            self._state = _State.CHALLENGED
            return [Send(self._codec.frame((CHALLENGE, "ticket", {})))]
        if self._token:
            return self._connect(None)
        return self._turn_away(uris.NO_AUTH_METHOD, "log in by ticket, or by a token in the request")

    def _turn_away(self, uri: str, why: str) -> list[Command | Send]:
        self._turned_away += 1
        if self._turned_away > MAX_HELLOS:
            raise ProtocolError("too many HELLOs")
        return [Send(self._codec.frame((ABORT, {"message": why}, uri)))]

    def _authenticate(self, authenticate: Any, _: list[Any]) -> list[Command | Send]:
        if self._state is not _State.CHALLENGED:
            raise ProtocolError("AUTHENTICATE answers a CHALLENGE")
        return self._connect(authenticate.signature)

    def _connect(self, token: str | None) -> list[Command | Send]:
        self._method = "http-header" if token is None else "ticket"
        self._state = _State.JOINING
        return [Connect(token, self._resuming.get("session"), self._resuming.get("position"))]

    def _goodbye(self, goodbye: Any, _: list[Any]) -> list[Command | Send]:
        if self._state is not _State.JOINED:
            raise ProtocolError("GOODBYE ends a session, and there is none")
        self._leave()
        return [Send(self._codec.frame((GOODBYE, {}, uris.GOODBYE_AND_OUT))), Disconnect()]

    def _abort(self, abort: Any, _: list[Any]) -> list[Command | Send]:
        self._leave()
        self._state = _State.OVER
        return [Disconnect()]

    def _leave(self) -> None:
        self._state = _State.START
        self._reset()

    def _subscribe(self, subscribe: Any, _: list[Any]) -> list[Command | Send]:
        return [self._broker.subscribe(subscribe)]

    def _unsubscribe(self, unsubscribe: Any, _: list[Any]) -> list[Command | Send]:
        return [self._broker.unsubscribe(unsubscribe)]

    def _publish(self, publish: Any, elements: list[Any]) -> list[Command | Send]:
        return [self._broker.publish(publish, elements)]

    def _call(self, call: Any, elements: list[Any]) -> list[Command | Send]:
        return [self._dealer.call(call, elements)]

    def _cancel(self, cancel: Any, _: list[Any]) -> list[Command | Send]:
        # Every call has been answered, or will be: there is nothing that could be stopped.
        return [Own(None)]

    def _register(self, register: Any, _: list[Any]) -> list[Command | Send]:
        return [self._dealer.register(register)]

    def _unregister(self, unregister: Any, _: list[Any]) -> list[Command | Send]:
        return [self._dealer.unregister(unregister)]

    _TAKE: Final[dict[int, Any]] = {
        HELLO: _hello,
        ABORT: _abort,
        AUTHENTICATE: _authenticate,
        GOODBYE: _goodbye,
        PUBLISH: _publish,
        SUBSCRIBE: _subscribe,
        UNSUBSCRIBE: _unsubscribe,
        CALL: _call,
        CANCEL: _cancel,
        REGISTER: _register,
        UNREGISTER: _unregister,
    }

    # -- to the client: answers

    def answer(self, ack: Ack) -> Frame:
        """See `ISession`."""
        if ack is None or self._state is not _State.JOINED:
            return NOTHING
        return self._dealer.nothing(ack) if ack.kind == CALL else self._broker.answer(ack, ())

    def reply(self, ack: Ack, data: bytes, binary: bool, placed: Placed = ()) -> Frame:
        """See `ISession`. What was asked before GOODBYE is not answered after it."""
        if ack is None or self._state is not _State.JOINED:
            return NOTHING
        frame = self._reply(ack, data, placed)
        self._broker.subscriber.answered()
        return frame

    def _reply(self, ack: Asked, data: bytes, placed: Placed) -> Frame:
        if ack.told:
            return NOTHING
        ack.told = True
        if not data.startswith(b'{"ok":true'):
            return self._error(ack, msgspec.json.decode(data)["error"])
        if ack.kind == CALL:
            return self._dealer.result(ack, data, placed)
        return self._broker.answer(ack, placed)

    def _error(self, ack: Asked, refusal: dict[str, Any]) -> Frame:
        if ack.kind == UNSUBSCRIBE and refusal["code"] == "room.not_joined":
            return self._broker.answer(ack, ())
        uri = ack.error or uris.error_uri(refusal["code"])
        told: tuple[Any, ...] = (ERROR, ack.kind, ack.request, {}, uri, [refusal["message"]])
        return self._codec.frame(told, msgspec.json.encode(refusal))

    # -- to the client: what happens

    def connected(self, connection: str, session: str) -> None:
        """See `ISession`: WELCOME comes of ``system:connected``."""
        self._secret = session
        self._broker.connection = connection

    def refused(self, error: RealtimeError) -> Frame:
        """See `ISession`: ABORT."""
        self._state = _State.OVER
        return self._codec.frame((ABORT, error.refusal(), uris.error_uri(error.code)))

    def disconnected(self) -> None:
        """See `ISession`: `farewell` says it."""

    def farewell(self, close: Close) -> Frame | None:
        """See `IDirectSession`: GOODBYE, or ABORT where there is no session or the protocol was broken.

        Nothing where the client is to come back: after either, Autobahn|JS never does.
        """
        state, self._state = self._state, _State.OVER
        broken = close is Close.PROTOCOL_ERROR
        if state is _State.OVER or (close.comes_back and not broken):
            return None
        told: dict[str, str] = {"message": self._fault} if broken and self._fault else {}
        kind = GOODBYE if state is _State.JOINED and not broken else ABORT
        return self._codec.frame((kind, told, uris.close_uri(close)))

    def ping(self) -> Frame:
        """See `IDirectSession`."""
        return _PING

    def encode(self, publication: Publication) -> Frame:
        """See `ISession`."""
        return self._broker.encode(publication)

    def replay(self, publications: Iterable[Publication]) -> Iterable[Frame]:
        """See `ISession`."""
        return self._broker.replay(publications)

    def settle(self) -> None:
        """See `ISession`."""
        self._broker.settle()

    def event(self, name: str, data: bytes, sequence: Sequence | None) -> Frame:
        """See `ISession`."""
        frames: list[Frame] = []
        room = None
        if self._state is not _State.JOINED and name != "system:connected":
            return NOTHING
        if name == "system:connected":
            frames += self._welcome(data, sequence)
        elif name in ("room:joined", "room:left"):
            room = msgspec.json.decode(data)["roomId"]
            if name == "room:joined":
                frames += self._broker.entered(room)
        elif name == "system:position":
            data = spliced(data, [b'"position":"%b"' % str(sequence).encode()])
        frames.append(self._broker.event(name, room, data))
        if name == "room:left":
            frames += self._broker.left(room or "")
        frames = [frame for frame in frames if frame is not NOTHING]
        if not frames:
            return NOTHING
        return frames[0] if len(frames) == 1 else Several(frames)

    def _welcome(self, data: bytes, sequence: Sequence | None) -> list[Frame]:
        told = msgspec.json.decode(data)
        if self._state is _State.JOINED:
            # auth:login as somebody else, over a session that goes on.
            return self._broker.become(told["userId"])
        self._state = _State.JOINED
        self._broker.subscriber.user = told["userId"]
        extra = {**told, "session": self._secret, "position": "" if sequence is None else str(sequence)}
        details = welcome(self._realm.name, told["userId"], self._method, extra)
        return [self._codec.frame((WELCOME, session_number(told["connectionId"]), details))]
