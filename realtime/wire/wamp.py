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

from ..errors import Close, InvalidMessage, ProtocolError, RealtimeError, RoomForbidden, TooManyRooms
from ..events import CLIENT_EVENTS, SERVICE_EVENT
from ..ids import session_number
from ..messages import (
    Ack,
    Command,
    Connect,
    Disconnect,
    Event,
    Own,
    Placed,
    Publication,
    Selection,
    Sequence,
)
from ..payload import spliced
from . import wamp_errors as uris
from . import wamp_history, wamp_topics
from .session import NOTHING, Control, Frame, IDirectSession, Send, Several
from .wamp_codecs import Unfit
from .wamp_messages import (
    ABORT,
    AUTHENTICATE,
    CALL,
    CANCEL,
    CHALLENGE,
    ERROR,
    GET_EVENTS,
    GOODBYE,
    HELLO,
    PUBLISH,
    PUBLISHED,
    REGISTER,
    REQUESTS,
    RESULT,
    SHAPES,
    SUBSCRIBE,
    SUBSCRIBED,
    UNREGISTER,
    UNSUBSCRIBE,
    UNSUBSCRIBED,
    WELCOME,
    WITH_ARGUMENTS,
    Asked,
    payload_of,
    selection_of,
    valid_id,
    welcome,
    with_fields,
)
from .wamp_realm import Encoder, publication_number
from .wamp_subscriber import Subscriber
from .wamp_topics import Subscription

#: Subscriptions of one connection.
MAX_SUBSCRIPTIONS: Final = 200

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
        *("_codec", "_encoder", "_fault", "_held", "_held_bytes", "_method", "_realm", "_resuming"),
        *("_secret", "_state", "_subscriber", "_token", "_turned_away"),
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
        self._subscriber = Subscriber(self._encoder.interests)
        # What came since a session was taken up, for subscriptions that are yet to be made again.
        self._held: list[Publication] | None = None
        self._held_bytes = 0
        self._resuming: dict[str, Any] = {}

    @property
    def encoding(self) -> Any:
        """See `ISession`: who has the same interest has the same frames. What is held is its own affair."""
        return self._subscriber.interest if self._held is None else self

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
        match, uri = subscribe.match or wamp_topics.EXACT, subscribe.topic
        asked = Asked(SUBSCRIBE, subscribe.request)
        try:
            wamp_topics.check(match, uri, self._subscriber.user)
        except RealtimeError as error:
            return [Own(asked, error)]
        asked.subscription = one = self._realm.subscriptions.get(match, uri)
        known = self._subscriber.lasts(one)
        if not known and len(self._subscriber) >= MAX_SUBSCRIPTIONS:
            return [Own(asked, TooManyRooms(f"a connection has at most {MAX_SUBSCRIPTIONS} subscriptions"))]
        if one.room is None or known:
            return [Own(asked)]
        self._subscriber.wait(one.room, asked)
        return [Event("room:join", msgspec.json.encode({"roomId": one.room}), asked)]

    def _unsubscribe(self, unsubscribe: Any, _: list[Any]) -> list[Command | Send]:
        one = self._subscriber.get(unsubscribe.subscription)
        asked = Asked(UNSUBSCRIBE, unsubscribe.request, one)
        if one is None:
            asked.error = uris.NO_SUCH_SUBSCRIPTION
            return [Own(asked, InvalidMessage("there is no such subscription"))]
        room = self._subscriber.end(one)
        if room is None:
            return [Own(asked)]
        return [Event("room:leave", msgspec.json.encode({"roomId": room}), asked)]

    def _publish(self, publish: Any, elements: list[Any]) -> list[Command | Send]:
        ack = Asked(PUBLISH, publish.request) if publish.acknowledge else None
        try:
            place = wamp_topics.place_of(publish.topic)
            selection = selection_of(publish, elements[2].get("disclose_me", False))
        except ProtocolError:
            raise
        except RealtimeError as error:
            return [Own(ack, error)]
        if place.event != "room:message" and selection.lists:
            return [Own(ack, InvalidMessage("only messages can leave out receivers, or choose them"))]
        return [self._event(place.event, elements[4:], ack, {"roomId": place.room}, selection)]

    def _call(self, call: Any, elements: list[Any]) -> list[Command | Send]:
        asked = Asked(CALL, call.request)
        if call.procedure == GET_EVENTS:
            return [self._get_events(asked, elements[4:])]
        name = call.procedure.replace(".", ":", 1)
        if name not in CLIENT_EVENTS and not name.startswith(SERVICE_EVENT):
            # As it was called, so that the refusal names what the client knows.
            name = call.procedure
        return [self._event(name, elements[4:], asked)]

    def _event(
        self,
        name: str,
        arguments: list[Any],
        ack: Asked | None,
        fields: dict[str, str] | None = None,
        selection: Selection | None = None,
    ) -> Event:
        """A client's event: its payload is the keyword arguments, or else the one argument, an object."""
        try:
            payload = payload_of(self._codec, arguments)
            data = payload.data
            if fields:
                data = with_fields(data, fields)
        except ProtocolError as error:
            return Event(name, b"{}", ack, fault=error.message)
        return Event(name, data, ack, payload.binary, selection=selection)

    def _get_events(self, asked: Asked, arguments: list[Any]) -> Command:
        try:
            given = [self._codec.payload(argument).data for argument in arguments]
            page = wamp_history.read(*given)
        except (ProtocolError, InvalidMessage) as error:
            return Own(asked, InvalidMessage(error.message))
        one = self._subscriber.get(page.subscription)
        if one is None:
            asked.error = uris.NO_SUCH_SUBSCRIPTION
            return Own(asked, InvalidMessage("there is no such subscription"))
        asked.subscription, asked.page = one, page
        if one.room is None:
            return Own(asked)
        return Event("room:history", msgspec.json.encode({"roomId": one.room, "limit": 1000}), asked)

    def _cancel(self, cancel: Any, _: list[Any]) -> list[Command | Send]:
        # Every call has been answered, or will be: there is nothing that could be stopped.
        return [Own(None)]

    def _register(self, register: Any, _: list[Any]) -> list[Command | Send]:
        return [
            Own(Asked(REGISTER, register.request), RoomForbidden("the procedures are the service's own"))
        ]

    def _unregister(self, unregister: Any, _: list[Any]) -> list[Command | Send]:
        asked = Asked(UNREGISTER, unregister.request, error=uris.NO_SUCH_REGISTRATION)
        return [Own(asked, InvalidMessage("there is no such registration"))]

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
        if ack.kind == SUBSCRIBE:
            return self._subscribed(ack)
        if ack.kind == UNSUBSCRIBE:
            return self._unsubscribed(ack)
        return self._codec.frame((RESULT, ack.request, {}, [[]]))

    def reply(self, ack: Ack, data: bytes, binary: bool, placed: Placed = ()) -> Frame:
        """See `ISession`. What was asked before GOODBYE is not answered after it."""
        if ack is None or self._state is not _State.JOINED:
            return NOTHING
        self._subscriber.answered(ack)
        if ack.told:
            return NOTHING
        ack.told = True
        if not data.startswith(b'{"ok":true'):
            return self._error(ack, msgspec.json.decode(data)["error"])
        if ack.kind == SUBSCRIBE:
            return self._subscribed(ack)
        if ack.kind == UNSUBSCRIBE:
            return self._unsubscribed(ack)
        if ack.kind == PUBLISH:
            number = publication_number(placed[0]) if placed else next(self._realm.unlogged)
            return self._codec.frame((PUBLISHED, ack.request, number))
        if ack.page is not None:
            return self._events_of(ack, placed)
        return self._codec.frame((RESULT, ack.request, {}, ()), data)

    def _error(self, ack: Asked, refusal: dict[str, Any]) -> Frame:
        if ack.kind == UNSUBSCRIBE and refusal["code"] == "room.not_joined":
            return self._unsubscribed(ack)
        uri = ack.error or uris.error_uri(refusal["code"])
        told: tuple[Any, ...] = (ERROR, ack.kind, ack.request, {}, uri, [refusal["message"]])
        return self._codec.frame(told, msgspec.json.encode(refusal))

    def _subscribed(self, ack: Asked) -> Frame:
        one = ack.subscription
        assert one is not None
        frames = [self._codec.frame((SUBSCRIBED, ack.request, one.id))]
        if self._subscriber.add(one) and self._held:
            alone = self._encoder.interests.get(frozenset((one,)), self._subscriber.user)
            held = (self._encoder.frame(publication, alone) for publication in self._held)
            frames += [frame for frame in held if frame is not NOTHING]
        return frames[0] if len(frames) == 1 else Several(frames)

    def _unsubscribed(self, ack: Asked) -> Frame:
        one = ack.subscription
        assert one is not None
        self._subscriber.remove(one)
        return self._codec.frame((UNSUBSCRIBED, ack.request))

    def _events_of(self, ack: Asked, placed: Placed) -> Frame:
        one, page = ack.subscription, ack.page
        assert one is not None and page is not None
        events = wamp_history.events(placed, one)
        chosen = msgspec.json.encode([wamp_history.choose(events, page)])
        return self._codec.frame((RESULT, ack.request, {}), chosen)

    # -- to the client: what happens

    def connected(self, connection: str, session: str) -> None:
        """See `ISession`: WELCOME comes of ``system:connected``."""
        self._secret = session

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
        if self._held is not None:
            self._hold(publication)
        return self._encoder.frame(publication, self._subscriber.interest)

    def replay(self, publications: Iterable[Publication]) -> Iterable[Frame]:
        """See `ISession`: the client has yet to subscribe; each subscription begins with what it missed."""
        self._held = list(publications)
        return ()

    def settle(self) -> None:
        """See `ISession`."""
        self._held, self._held_bytes = None, 0

    def _hold(self, publication: Publication) -> None:
        assert self._held is not None
        self._held_bytes += len(publication.data)
        self._held.append(publication)
        if self._held_bytes > self._realm.max_held:
            self.settle()

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
                frames += self._joined(room)
        elif name == "system:position":
            data = spliced(data, [b'"position":"%b"' % str(sequence).encode()])
        frames.append(self._emit(name, room, data))
        if name == "room:left":
            frames += self._revoke(self._subscriber.left(room or ""))
        frames = [frame for frame in frames if frame is not NOTHING]
        if not frames:
            return NOTHING
        return frames[0] if len(frames) == 1 else Several(frames)

    def _emit(self, name: str, room: str | None, data: bytes) -> Frame:
        topic = wamp_topics.topic_of_event(name, room)
        matching = self._subscriber.interest.matching(topic, None)
        if not matching:
            return NOTHING
        return self._encoder.events(
            topic, None, next(self._realm.unlogged), matching, self._codec.body(data)
        )

    def _welcome(self, data: bytes, sequence: Sequence | None) -> list[Frame]:
        told = msgspec.json.decode(data)
        if self._state is _State.JOINED:
            # auth:login as somebody else, over a session that goes on.
            return self._become(told["userId"])
        self._state = _State.JOINED
        self._subscriber.user = told["userId"]
        extra = {**told, "session": self._secret, "position": "" if sequence is None else str(sequence)}
        details = welcome(self._realm.name, told["userId"], self._method, extra)
        return [self._codec.frame((WELCOME, session_number(told["connectionId"]), details))]

    def _become(self, user: str) -> list[Frame]:
        return [] if user == self._subscriber.user else self._revoke(self._subscriber.become(user))

    def _joined(self, room: str) -> list[Frame]:
        """The connection has entered a room: who waits for it is subscribed from here on."""
        asked = self._subscriber.entered(room)
        if asked is None:
            return []
        asked.told = True
        return [self._subscribed(asked)]

    def _revoke(self, subscriptions: list[Subscription]) -> list[Frame]:
        self._subscriber.remove(*subscriptions)
        return [
            self._codec.frame((UNSUBSCRIBED, 0, {"subscription": one.id, "reason": uris.REVOKED}))
            for one in subscriptions
        ]
