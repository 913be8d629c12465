"""Router: what each command of a client does; the one place that orders limits, rights, validation, effect.

A handler answers with the fields of its acknowledgement, or with a Deferred of them where it has to
wait. The commands of one connection run in order: while one waits, those after it are parked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from . import events, history
from .auth import Authenticator
from .broker.interface import IBroker, IStateStore, Joined, Preferences
from .connections import Connection, IOutlet, IReceiver, State
from .deadlines import Deadlines
from .errors import (
    AuthRequired,
    Close,
    InternalError,
    InvalidMessage,
    NotJoined,
    ProtocolError,
    RateLimited,
    RealtimeError,
    UnknownEvent,
)
from .ids import unique_id
from .limits import RateLimit
from .messages import (
    Audience,
    Command,
    Connect,
    Event,
    Handshake,
    Publication,
    Published,
    user_room,
)
from .metrics import Metrics
from .notices import Notices
from .presence import PresenceService, member_payload
from .rooms import Rooms, Typing, check_entry, check_name, check_number
from .sessions import Sessions
from .wire.session import ISession, Send

_log = Logger()

Fields = dict[str, Any]


class Answer(msgspec.Struct, frozen=True):
    """An acknowledgement that needs more than its fields.

    :ivar binary: whether the fields hold ``{"$binary": base64}`` objects that were binary.
    :ivar then: what happens once it is written.
    """

    fields: Fields
    binary: bool = False
    then: Callable[[], object] | None = None


#: States in which a client's events mean nothing any more.
_OVER: Final = (State.LEFT, State.ENDED)

Outcome = Fields | Answer
Handler = Callable[[Connection, Any, Event], Outcome | Deferred[Outcome]]


class _RoomMessage(msgspec.Struct, omit_defaults=True):
    """The part of ``room:message`` that is known before the broker has placed it."""

    roomId: str
    userId: str
    text: str | None = None
    data: msgspec.Raw | None = None


class Router:
    """Runs the commands of all connections of this node.

    :param wall: seconds since the epoch.
    :param room_members: users per room.
    :param max_rooms: joined rooms per connection.
    :param max_history: messages of a room's history.
    :param max_history_bytes: payload bytes of history in one answer.
    :param max_parked: commands of one connection that may wait before it is read no further.
    :param message_timeout: seconds for a message of several frames to arrive whole.
    :param typing_timeout: seconds after which typing ends by itself.
    """

    def __init__(
        self,
        clock: IReactorTime,
        wall: Callable[[], float],
        *,
        authenticator: Authenticator,
        broker: IBroker,
        store: IStateStore,
        rooms: Rooms,
        sessions: Sessions,
        presence: PresenceService,
        limit: RateLimit,
        notices: Notices,
        metrics: Metrics,
        room_members: int,
        max_rooms: int,
        max_history: int,
        max_history_bytes: int,
        max_parked: int,
        message_timeout: float,
        typing_timeout: float,
    ) -> None:
        self._clock = clock
        self._wall = wall
        self._authenticator = authenticator
        self._broker = broker
        self._store = store
        self._rooms = rooms
        self._sessions = sessions
        self._presence = presence
        self._limit = limit
        self._notices = notices
        self._metrics = metrics
        self._room_members = room_members
        self._max_rooms = max_rooms
        self._max_history = max_history
        self._max_history_bytes = max_history_bytes
        self._max_parked = max_parked
        self._partial: Deadlines[Connection] = Deadlines(clock, message_timeout, self._too_slow)
        self._typing = Typing(clock, typing_timeout, self._stopped_typing)
        self._handlers: Final[dict[str, Handler]] = {
            "auth:login": _waiting(self._auth_login),
            "auth:logout": _waiting(self._auth_logout),
            "auth:token_refresh": _waiting(self._auth_token_refresh),
            "room:join": _waiting(self._room_join),
            "room:leave": _waiting(self._room_leave),
            "room:message": self._room_message,
            "room:history": _waiting(self._room_history),
            "user:typing": self._user_typing,
            "user:presence": _waiting(self._user_presence),
            "user:preferences": _waiting(self._user_preferences),
        }

    def accept(self, outlet: IOutlet, session: ISession, handshake: Handshake) -> IReceiver:
        """A transport has opened: what its messages are to be handed to."""
        return Receiver(self, outlet, session, handshake)

    def open(self, outlet: IOutlet, session: ISession, handshake: Handshake) -> Connection:
        """A new connection over an open transport."""
        connection = Connection(session, outlet, handshake, self._clock.seconds())
        self._sessions.opened(connection)
        return connection

    def closed(self, connection: Connection, reason: str) -> None:
        """The connection's transport is gone."""
        self._partial.cancel(connection)
        self._sessions.closed(connection, reason)

    def progress(self, connection: Connection) -> bool:
        """A frame came; True if its message is not whole, for which there is so much time."""
        if not connection.session.incomplete:
            self._partial.cancel(connection)
            return False
        if connection not in self._partial:
            self._partial.start(connection)
        return True

    def _too_slow(self, connection: Connection) -> None:
        self.broke_protocol(connection, ProtocolError("the attachments did not come in time"))

    def broke_protocol(self, connection: Connection, error: ProtocolError) -> None:
        """What the client sends can't be understood any more: it may come back and start anew."""
        self._metrics.refused(error.code)
        self._sessions.end(connection, Close.PROTOCOL_ERROR)

    # -- the order of things

    def handle(self, connection: Connection, command: Command) -> None:
        """Run a command, or park it behind one that waits. Never raises."""
        parked = connection.parked
        if parked is None:
            self._run(connection, command)
            return
        parked.append(command)
        if len(parked) >= self._max_parked:
            connection.outlet.pause_reading()

    def _run(self, connection: Connection, command: Command) -> None:
        if isinstance(command, Event):
            self._run_event(connection, command)
        elif isinstance(command, Connect):
            self._run_connect(connection, command)
        elif connection.state is not State.ENDED:
            self._sessions.left(connection)

    def _run_connect(self, connection: Connection, command: Connect) -> None:
        now = self._clock.seconds()
        if connection.state is State.LEFT:
            try:
                # A new transport has its price; to come and go over an old one costs only us.
                self._limit.take(connection, now)
            except RateLimited as error:
                self._metrics.refused(error.code)
                self._sessions.end(connection, Close.CONNECTION_LIMIT)
                return
            connection.begin(now)
        if connection.state is State.OPENING:
            done = Deferred.fromCoroutine(self._sessions.connect(connection, command))
            done.addErrback(self._broken, connection)
            self._park_until(connection, done)

    def _run_event(self, connection: Connection, event: Event) -> None:
        started = self._clock.seconds()
        self._metrics.received(event.name, len(event.data))
        try:
            self._limit.take(connection, started)
            outcome = self._perform(connection, event)
        except RealtimeError as error:
            self._refuse(connection, event, error)
            return
        except Exception:
            _log.failure("handling {event} failed", event=event.name)
            self._refuse(connection, event, InternalError())
            return
        if isinstance(outcome, Deferred):
            settled = _settled(outcome)
            if settled is not None:
                self._answer(settled, connection, event, started)
                return
            outcome.addCallbacks(
                self._answer,
                self._failed,
                callbackArgs=(connection, event, started),
                errbackArgs=(connection, event),
            )
            self._park_until(connection, outcome)
        else:
            self._answer(outcome, connection, event, started)

    def _perform(self, connection: Connection, event: Event) -> Outcome | Deferred[Outcome]:
        handler = self._handlers.get(event.name)
        if handler is None:
            raise UnknownEvent(f"accepted are {', '.join(self._handlers)}")
        if connection.state is not State.LIVE:
            if connection.state in _OVER:
                return {}
            if event.name != "auth:login":
                raise AuthRequired()
        if event.fault:
            raise InvalidMessage(event.fault)
        payload = events.decode(events.CLIENT_EVENTS[event.name], event.data)
        self._presence.active(connection)
        return handler(connection, payload, event)

    def _park_until(self, connection: Connection, done: Deferred[Any]) -> None:
        if done.called and not done.paused:
            return
        connection.parked = deque()
        done.addBoth(self._unpark, connection)

    def _unpark(self, result: Any, connection: Connection) -> Any:
        parked, connection.parked = connection.parked, None
        while parked:
            self._run(connection, parked.popleft())
            if connection.parked is not None:
                connection.parked.extend(parked)
                return result
        connection.outlet.resume_reading()
        return result

    def _answer(self, outcome: Outcome, connection: Connection, event: Event, started: float) -> None:
        answer = outcome if isinstance(outcome, Answer) else Answer(outcome)
        if event.ack is not None and connection.state is not State.ENDED:
            data = msgspec.json.encode({"ok": True, **answer.fields})
            connection.outlet.write(connection.session.reply(event.ack, data, answer.binary))
        self._metrics.processed(event.name, self._clock.seconds() - started)
        if answer.then is not None:
            answer.then()

    def _failed(self, failure: Any, connection: Connection, event: Event) -> None:
        if isinstance(failure.value, RealtimeError):
            self._refuse(connection, event, failure.value)
        else:
            _log.failure("handling {event} failed", failure, event=event.name)
            self._refuse(connection, event, InternalError())

    def _refuse(self, connection: Connection, event: Event, error: RealtimeError) -> None:
        """Say no: in the acknowledgement if the client asked for one, else as ``system:error``."""
        self._metrics.refused(error.code)
        if connection.state is State.ENDED:
            return
        if event.ack is not None:
            data = msgspec.json.encode({"ok": False, "error": error.refusal(event.name)})
            connection.outlet.write(connection.session.reply(event.ack, data, False))
        else:
            self._notices.error(connection, error, event.name)

    def _broken(self, failure: Any, connection: Connection) -> None:
        _log.failure("connecting failed", failure)
        self._sessions.end(connection, Close.INTERNAL)

    # -- auth

    async def _auth_login(self, connection: Connection, login: events.Login, _: Event) -> Outcome:
        await self._sessions.login(connection, login.token)
        return _identity_fields(connection)

    async def _auth_logout(self, connection: Connection, logout: events.Logout, _: Event) -> Outcome:
        if logout.everywhere:
            return Answer(
                {},
                then=lambda: self._sessions.disconnect_user(connection.user, Close.LOGOUT),
            )
        return Answer({}, then=lambda: self._sessions.terminate(connection, Close.LOGOUT))

    async def _auth_token_refresh(
        self, connection: Connection, refresh: events.TokenRefresh, _: Event
    ) -> Outcome:
        if refresh.token is not None:
            identity = self._authenticator.identify(refresh.token)
            await self._sessions.refresh(connection, identity)
            return _identity_fields(connection)
        assert refresh.refresh_token is not None
        refreshed = self._authenticator.refresh(refresh.refresh_token, connection.user)
        await self._sessions.refresh(connection, refreshed.identity)
        return {
            **_identity_fields(connection),
            "token": refreshed.token,
            "refreshToken": refreshed.refresh_token,
        }

    # -- rooms

    async def _room_join(self, connection: Connection, join: events.RoomJoin, _: Event) -> Outcome:
        room = join.room_id
        identity = connection.identity
        assert identity is not None
        check_entry(identity, room)
        entering = room not in connection.joined
        if entering:
            check_number(connection, self._max_rooms)
        joined = await self._store.join(
            connection.owner, connection.session_id, room, True, self._room_members
        )
        if entering and connection.state is State.LIVE:
            self._rooms.enter(connection, room, True)
            self._notices.joined(connection, room)
        return await self._join_answer(join, joined)

    async def _join_answer(self, join: events.RoomJoin, joined: Joined) -> Outcome:
        room = join.room_id
        members = await self._store.members(room)
        fields: Fields = {
            "roomId": room,
            "members": [member_payload(presence) for presence in members],
            "position": joined.position,
        }
        shown: Sequence[Publication] | None = None
        if join.position is not None:
            missed = await self._broker.missed(room, join.position)
            if missed is not None and len(self._fit(missed, newest=True)) == len(missed):
                shown = missed
            fields["recovered"] = shown is not None
        if shown is None:
            page = await self._broker.history(room, None, None, self._max_history)
            shown = self._fit(page.publications, newest=True)
        fields["history"] = history.messages(shown)
        return Answer(fields, binary=history.binary(shown))

    def _fit(self, publications: Sequence[Publication], *, newest: bool) -> Sequence[Publication]:
        return history.fit(publications, self._max_history_bytes, newest=newest)

    async def _room_leave(self, connection: Connection, leave: events.RoomLeave, _: Event) -> Outcome:
        room = leave.room_id
        check_name(room)
        if room not in connection.joined:
            raise NotJoined()
        if self._typing.stop(connection.user, room):
            self._publish_typing(connection.user, room, typing=False)
        await self._sessions.leave(connection, room)
        return {"roomId": room}

    def _room_message(
        self, connection: Connection, message: events.RoomMessage, event: Event
    ) -> Deferred[Outcome]:
        room = message.room_id
        self._require_joined(connection, room)
        user = connection.user
        now = int(self._wall() * 1000)
        body = _RoomMessage(room, user, message.text, message.data if message.text is None else None)
        publication = Publication(
            "room:message",
            msgspec.json.encode(body),
            Audience(rooms=frozenset((room,))),
            unique_id(now),
            now,
            history=True,
            binary=event.binary,
            splice=("id", "timestamp", "offset"),
        )
        key = None
        if message.client_message_id is not None:
            key = f"{room}\0{user}\0{message.client_message_id}"
        return self._broker.publish(publication, key).addCallback(_published_fields)

    async def _room_history(self, connection: Connection, asked: events.RoomHistory, _: Event) -> Outcome:
        self._require_joined(connection, asked.room_id)
        limit = self._max_history if asked.limit is None else min(asked.limit, self._max_history)
        page = await self._broker.history(asked.room_id, asked.after, asked.before, limit)
        shown = self._fit(page.publications, newest=asked.after is None)
        fields = {"messages": history.messages(shown), "position": page.position}
        return Answer(fields, binary=history.binary(shown))

    def _require_joined(self, connection: Connection, room: str) -> None:
        if room not in connection.joined:
            check_name(room)
            raise NotJoined()

    # -- users

    def _user_typing(self, connection: Connection, typing: events.Typing, _: Event) -> Outcome:
        room = typing.room_id
        self._require_joined(connection, room)
        change = self._typing.start if typing.typing else self._typing.stop
        if change(connection.user, room):
            self._publish_typing(connection.user, room, typing.typing)
        return {}

    def _stopped_typing(self, user: str, room: str) -> None:
        self._publish_typing(user, room, typing=False)

    def _publish_typing(self, user: str, room: str, typing: bool) -> None:
        now = int(self._wall() * 1000)
        data = msgspec.json.encode({"roomId": room, "userId": user, "typing": typing, "timestamp": now})
        audience = Audience(rooms=frozenset((room,)), except_users=frozenset((user,)))
        publication = Publication("room:typing", data, audience, unique_id(now), now, logged=False)
        # Typing is of loss class `drop`: with the bus away it is simply not said.
        self._broker.publish(publication).addErrback(lambda failure: None)

    async def _user_presence(
        self, connection: Connection, chosen: events.PresenceStatus, _: Event
    ) -> Outcome:
        await self._store.choose(connection.user, chosen.status, chosen.text or None)
        return {}

    async def _user_preferences(
        self, connection: Connection, change: events.PreferencesChange, _: Event
    ) -> Outcome:
        user = connection.user
        stored = await self._store.preferences(user)
        muted_events = stored.muted_events
        muted_rooms = stored.muted_rooms
        if change.muted_events is not None:
            muted_events = frozenset(change.muted_events)
        if change.muted_rooms is not None:
            muted_rooms = frozenset(change.muted_rooms) - {user_room(user)}
        preferences = Preferences(muted_events, muted_rooms)
        await self._store.prefer(user, preferences)
        self._sessions.mute(user, preferences)
        return {"mutedEvents": sorted(muted_events), "mutedRooms": sorted(muted_rooms)}


@implementer(IReceiver)
class Receiver:
    """Hands what one transport receives to its session, and the commands to the router."""

    __slots__ = ("_connection", "_outlet", "_partial", "_router", "_session")

    def __init__(self, router: Router, outlet: IOutlet, session: ISession, handshake: Handshake) -> None:
        self._router = router
        self._outlet = outlet
        self._session = session
        self._connection = router.open(outlet, session, handshake)
        self._partial = False

    def received(self, data: str | bytes) -> None:
        try:
            commands = self._session.receive(data)
        except ProtocolError as error:
            self._router.broke_protocol(self._connection, error)
            return
        if not commands or self._partial:
            self._partial = self._router.progress(self._connection)
        for command in commands:
            if isinstance(command, Send):
                self._outlet.write(command.frame)
                continue
            self._router.handle(self._connection, command)

    def closed(self, reason: str) -> None:
        self._router.closed(self._connection, reason)


def _waiting(handler: Callable[[Connection, Any, Event], Any]) -> Handler:
    """A handler that may wait, as the router calls it."""

    def start(connection: Connection, payload: Any, event: Event) -> Deferred[Outcome]:
        return Deferred.fromCoroutine(handler(connection, payload, event))

    return start


def _settled(outcome: Deferred[Outcome]) -> Outcome | None:
    """What a Deferred has come to already, if that is an outcome: the embedded broker never waits."""
    result: Any = outcome.result if outcome.called and not outcome.paused else None
    return result if isinstance(result, dict | Answer) else None


def _published_fields(published: Published) -> Outcome:
    offset = 0 if published.position is None else published.position.offset
    return {"id": published.id, "offset": offset, "timestamp": published.time}


def _identity_fields(connection: Connection) -> Fields:
    identity = connection.identity
    assert identity is not None
    return {"userId": identity.user, "expiresAt": int(identity.expires * 1000)}
