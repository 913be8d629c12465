"""Handlers: what each event of a client does.

A handler answers with the fields of its acknowledgement, or with a Deferred of them where it has to
wait. It is called with a payload that is valid, for a connection that has logged in (``auth:login``
aside), within its rate limit; see `router`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from . import events, history, signals
from .auth import Authenticator
from .broker.interface import IBroker, IStateStore, Joined, Preferences
from .connections import Connection, State
from .endings import Endings
from .errors import BrokerUnavailable, Close, NotJoined, RealtimeError
from .ids import unique_id
from .memberships import Memberships
from .messages import Audience, Event, Identity, Placed, Publication, Published, Selection, user_room
from .moderation import Moderation
from .notices import Notices
from .presence import member_payload
from .queueing import Queueing
from .readings import Readings
from .rights import Rights
from .rooms import Rooms, Typing, check_number
from .sessions import Sessions
from .signals import Preferred
from .user_endings import UserEndings

_NONE: Final = msgspec.Raw(b"[]")

Fields = dict[str, Any]


class Answer(msgspec.Struct, frozen=True):
    """An acknowledgement that needs more than its fields.

    :ivar binary: whether the fields hold ``{"$binary": base64}`` objects that were binary.
    :ivar placed: the publications that the fields speak of.
    :ivar then: what happens once it is written.
    """

    fields: Fields
    binary: bool = False
    placed: Placed = ()
    then: Callable[[], object] | None = None


Outcome = Fields | Answer
Handler = Callable[[Connection, Any, Event], Outcome | Deferred[Outcome]]


class _RoomMessage(msgspec.Struct, omit_defaults=True):
    """The part of ``room:message`` that is known before the broker has placed it."""

    roomId: str
    userId: str
    text: str | None = None
    data: msgspec.Raw | None = None


class Handlers:
    """The handlers of this node; `table` has them by event.

    :param wall: seconds since the epoch.
    :param room_members: users per room.
    :param max_rooms: joined rooms per connection.
    :param max_history: messages of a room's history.
    :param max_history_bytes: payload bytes of history in one answer.
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
        rights: Rights,
        moderation: Moderation,
        rooms: Rooms,
        sessions: Sessions,
        memberships: Memberships,
        endings: Endings,
        user_endings: UserEndings,
        queueing: Queueing,
        notices: Notices,
        room_members: int,
        max_rooms: int,
        max_history: int,
        max_history_bytes: int,
        typing_timeout: float,
    ) -> None:
        self._wall = wall
        self._authenticator = authenticator
        self._broker = broker
        self._store = store
        self._rights = rights
        self._moderation = moderation
        self._rooms = rooms
        self._sessions = sessions
        self._memberships = memberships
        self._endings = endings
        self._user_endings = user_endings
        self._notices = notices
        self._room_members = room_members
        self._max_rooms = max_rooms
        self._max_history = max_history
        self._max_history_bytes = max_history_bytes
        # A room fills within seconds once its event begins: thousands are told the same at a time.
        self._members = Readings(lambda room: Deferred.fromCoroutine(self._read_members(room)))
        self._newest = Readings(lambda room: Deferred.fromCoroutine(self._read_newest(room)))
        self._typing = Typing(clock, typing_timeout, self._stopped_typing)
        self.table: Final[dict[str, Handler]] = {
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
            # one that was awaited does not come so far, see `router`
            events.ACKNOWLEDGE: lambda connection, acknowledge, event: {},
            "queue:join": _waiting(queueing.join),
            "queue:leave": _waiting(queueing.leave),
            "queue:confirm": _waiting(queueing.confirm),
        }

    # -- auth

    async def _auth_login(self, connection: Connection, login: events.Login, _: Event) -> Outcome:
        await self._sessions.login(connection, login.token, login.session, login.position)
        if connection.state is State.ENDED:
            # Its transport went meanwhile: nobody is answered.
            return {}
        return _identity_fields(connection)

    async def _auth_logout(self, connection: Connection, logout: events.Logout, _: Event) -> Outcome:
        if logout.everywhere:
            ended = await self._user_endings.forget_user(connection.user, Close.LOGOUT)
            return Answer({}, then=lambda: self._user_endings.tell_ended(ended).addErrback(_unsaid))
        await self._store.forget(connection.owner, connection.session_id)
        return Answer({}, then=lambda: self._endings.terminate(connection, Close.LOGOUT))

    async def _auth_token_refresh(
        self, connection: Connection, refresh: events.TokenRefresh, _: Event
    ) -> Outcome:
        try:
            return await self._refreshed(connection, refresh)
        except RealtimeError as error:
            self._sessions.refresh_refused(connection, error.code)
            raise

    async def _refreshed(self, connection: Connection, refresh: events.TokenRefresh) -> Outcome:
        if refresh.token is not None:
            identity = await self._authenticator.identify(refresh.token)
            await self._sessions.refresh(connection, identity)
            return _identity_fields(connection)
        assert refresh.refresh_token is not None
        refreshed = await self._authenticator.refresh(refresh.refresh_token, connection.user)
        await self._sessions.refresh(connection, refreshed.identity)
        return {
            **_identity_fields(connection),
            "token": refreshed.token,
            "refreshToken": refreshed.refresh_token,
        }

    # -- rooms

    async def _room_join(self, connection: Connection, join: events.RoomJoin, event: Event) -> Outcome:
        room = join.room_id
        identity = connection.identity
        assert identity is not None
        self._rights.check_join(identity, room)
        entering = room not in connection.joined
        if entering:
            check_number(connection, self._max_rooms)
        joined = await self._store.join(
            connection.owner, connection.session_id, room, True, self._room_members
        )
        if entering and connection.state is State.LIVE:
            self._rooms.enter(connection, room, True)
            self._notices.joined(connection, room)
        return {} if event.brief else await self._join_answer(identity, join, joined)

    async def _join_answer(self, identity: Identity, join: events.RoomJoin, joined: Joined) -> Outcome:
        room = join.room_id
        members = await self._members.ask(room) if self._rights.may("presence", identity, room) else _NONE
        fields: Fields = {"roomId": room, "members": members, "position": joined.position}
        if not self._rights.may("history", identity, room):
            return {**fields, "history": _NONE}
        if join.position is not None:
            missed = await self._broker.missed(room, join.position)
            if missed is not None:
                missed = list(history.present(missed, self._wall()))
            whole = missed is not None and len(self._fit(missed, newest=True)) == len(missed)
            fields["recovered"] = whole
            if missed is not None and whole:
                fields["history"] = history.messages(missed)
                return Answer(fields, binary=history.binary(missed))
        fields["history"], binary = await self._newest.ask(room)
        return Answer(fields, binary=binary)

    async def _read_members(self, room: str) -> msgspec.Raw:
        members = await self._store.members(room)
        return msgspec.Raw(msgspec.json.encode([member_payload(presence) for presence in members]))

    async def _read_newest(self, room: str) -> tuple[msgspec.Raw, bool]:
        page = await self._broker.history(room, None, None, self._max_history)
        shown = self._fit(history.present(page.publications, self._wall()), newest=True)
        return history.messages(shown), history.binary(shown)

    def _fit(self, publications: Sequence[Publication], *, newest: bool) -> Sequence[Publication]:
        return history.fit(publications, self._max_history_bytes, newest=newest)

    async def _room_leave(self, connection: Connection, leave: events.RoomLeave, _: Event) -> Outcome:
        room = leave.room_id
        self._rights.check_name(room)
        if room not in connection.joined:
            raise NotJoined()
        if self._typing.stop(connection.user, room):
            self._publish_typing(connection.user, room, typing=False)
        await self._memberships.leave(connection, room)
        return {"roomId": room}

    def _room_message(
        self, connection: Connection, message: events.RoomMessage, event: Event
    ) -> Deferred[Outcome]:
        room = message.room_id
        identity = self._require_joined(connection, room)
        message = self._moderation.message(connection, identity, message)
        user = identity.user
        now = int(self._wall() * 1000)
        body = _RoomMessage(room, user, message.text, message.data if message.text is None else None)
        chosen = event.selection or Selection()
        audience = _audience(connection, room, chosen)
        publication = Publication(
            "room:message",
            msgspec.json.encode(body),
            audience,
            unique_id(now),
            now,
            # What is not for all is not in the history that all see.
            history=not (audience.selects or audience.except_users),
            binary=event.binary,
            splice=("id", "timestamp", "offset"),
            publisher=(user, connection.id) if chosen.disclose else None,
        )
        key = None
        if message.client_message_id is not None:
            key = f"{room}\0{user}\0{message.client_message_id}"
        return self._broker.publish(publication, key).addCallback(_published_fields)

    async def _room_history(self, connection: Connection, asked: events.RoomHistory, _: Event) -> Outcome:
        identity = self._require_joined(connection, asked.room_id)
        self._rights.check_history(identity, asked.room_id)
        limit = self._max_history if asked.limit is None else min(asked.limit, self._max_history)
        page = await self._broker.history(asked.room_id, asked.after, asked.before, limit)
        found = history.present(page.publications, self._wall())
        shown = self._fit(found, newest=asked.after is None)
        fields = {"messages": history.messages(shown), "position": page.position}
        return Answer(fields, binary=history.binary(shown), placed=tuple(shown))

    def _require_joined(self, connection: Connection, room: str) -> Identity:
        identity = connection.identity
        if identity is None or room not in connection.joined:
            self._rights.check_name(room)
            raise NotJoined()
        return identity

    # -- users

    def _user_typing(self, connection: Connection, typing: events.Typing, _: Event) -> Outcome:
        room = typing.room_id
        self._moderation.check_voice(self._require_joined(connection, room), room)
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
        text = self._moderation.presence_text(connection, chosen.text)
        await self._store.choose(connection.user, chosen.status, text or None)
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
        self._memberships.mute(user, preferences)
        await self._broker.signal(*signals.encode(Preferred(user, preferences)))
        return {"mutedEvents": sorted(muted_events), "mutedRooms": sorted(muted_rooms)}


def _waiting(handler: Callable[[Connection, Any, Event], Any]) -> Handler:
    """A handler that may wait, as the router calls it."""

    def start(connection: Connection, payload: Any, event: Event) -> Deferred[Outcome]:
        return Deferred.fromCoroutine(handler(connection, payload, event))

    return start


def _audience(connection: Connection, room: str, chosen: Selection) -> Audience:
    return Audience(
        rooms=frozenset((room,)),
        except_users=chosen.except_users,
        except_connections=frozenset((connection.id,)) if chosen.except_self else frozenset(),
        except_sessions=chosen.except_sessions,
        only_sessions=chosen.only_sessions,
        only_users=chosen.only_users,
    )


def _unsaid(failure: Failure) -> None:
    """The bus has gone after the sessions ended: comparing will find that they are no more."""
    failure.trap(BrokerUnavailable)


def _published_fields(published: Published) -> Outcome:
    offset = 0 if published.position is None else published.position.offset
    fields = {"id": published.id, "offset": offset, "timestamp": published.time}
    return Answer(fields, placed=(published,))


def _identity_fields(connection: Connection) -> Fields:
    identity = connection.identity
    assert identity is not None
    return {"userId": identity.user, "expiresAt": int(identity.expires * 1000)}
