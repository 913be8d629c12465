"""Sessions: how a connection's life begins, is taken up after a cut, and ends (DESIGN.md section 4)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from . import signals
from .addresses import block_of
from .auth import Authenticator
from .broker.interface import IBroker, IStateStore, Limits, Preferences, Recovered, Restored
from .connections import Connection, Connections, State
from .deadlines import Deadlines
from .errors import (
    AuthRequired,
    AuthUnavailable,
    BrokerUnavailable,
    Close,
    InvalidMessage,
    Kicked,
    OtherSubject,
    RealtimeError,
    RoomForbidden,
    RoomFull,
    SessionReplaced,
    TokenRevoked,
    TooManyConnections,
    TooManyRooms,
    UserBlocked,
)
from .ids import secret_id
from .messages import (
    Connect,
    Identity,
    Owner,
    Publication,
    Sequence,
    SessionRecord,
    role_room,
    user_room,
)
from .metrics import Metrics
from .notices import Notices
from .periodic import Periodic
from .rights import Rights
from .rooms import Rooms, check_number, mutes
from .security import Security
from .signals import Crowded, Ended
from .strangers import Strangers

#: Sessions that begin, or are taken up, at a time: what the store answers to more of them may be more than
#: it can answer in time, and then all of them fail, come back, and fail again. The rest waits for its turn.
BEGINNING: Final = 32

_log = Logger()


class SessionRules(msgspec.Struct, frozen=True, kw_only=True):
    """Limits and times of a session; times in seconds.

    :ivar connections: per user.
    :ivar members: users per room.
    :ivar rooms: joined rooms per connection.
    :ivar recovery_bytes: payload bytes that one recovery may replay.
    :ivar recovery_window: for which a session can be taken up.
    :ivar login: for which a connection may stay without an identity.
    :ivar nobodies: how many may; of one address half as many. The oldest makes room for the newest.
    :ivar evict_oldest: whether a user's oldest connection makes room for one past `connections`.
    :ivar grace: for which a user whose transport was lost is still shown as present.
    :ivar dead: for which a dead transport may go unnoticed (ping interval and timeout).
    :ivar warning: before a token's expiry the client is told.
    :ivar expiry_grace: after a token's expiry the connection is closed.
    """

    connections: int
    members: int
    rooms: int
    recovery_bytes: int
    recovery_window: float
    login: float
    nobodies: int
    evict_oldest: bool
    grace: float
    dead: float
    warning: float
    expiry_grace: float


class _Coming:
    """A session that the store is asked to begin or to take up here.

    What ends it may be heard of before the store's answer, which waits for its place in the order.

    :ivar displaced: owners whose session was taken up elsewhere meanwhile.
    """

    __slots__ = ("connection", "displaced", "id")

    def __init__(self, connection: Connection, connection_id: str) -> None:
        self.connection = connection
        self.id = connection_id
        self.displaced: list[Owner] = []


class Sessions:
    """Begins, restores and ends sessions.

    :param wall: seconds since the epoch.
    """

    def __init__(
        self,
        clock: IReactorTime,
        wall: Callable[[], float],
        rules: SessionRules,
        *,
        authenticator: Authenticator,
        broker: IBroker,
        store: IStateStore,
        connections: Connections,
        rooms: Rooms,
        rights: Rights,
        notices: Notices,
        metrics: Metrics,
        security: Security,
    ) -> None:
        self._wall = wall
        self._rules = rules
        self._limits = Limits(rules.connections, rules.members)
        self._authenticator = authenticator
        self._broker = broker
        self._store = store
        self._connections = connections
        self._rooms = rooms
        self._rights = rights
        self._notices = notices
        self._metrics = metrics
        self._coming: dict[_Coming, None] = {}
        self._beginning = DeferredSemaphore(BEGINNING)
        self._security = security
        self._login: Deadlines[Connection] = Deadlines(clock, rules.login, self._not_logged_in)
        self._settling: Deadlines[Connection] = Deadlines(clock, rules.login, _settle)
        self._nobodies: Strangers[Connection] = Strangers(rules.nobodies, max(1, rules.nobodies // 2))
        self._grace: Deadlines[tuple[Owner, str]] = Deadlines(clock, rules.grace, self._gone)
        self._periodic = Periodic(
            clock, (1.0, self._check_tokens), (rules.recovery_window / 4, self._tell_positions)
        )

    def start(self) -> None:
        """Begin the periodic checks."""
        self._periodic.start()

    def stop(self) -> None:
        """End the periodic checks."""
        self._periodic.stop()

    # -- beginning

    def opened(self, connection: Connection) -> None:
        """A transport is open: it has `SessionRules.login` to become somebody."""
        self._login.start(connection)
        evicted = self._nobodies.add(connection, block_of(connection.handshake.address))
        if evicted is not None:
            self.end(evicted, Close.EVICTED)

    @property
    def nobodies(self) -> int:
        """How many connections have not logged in."""
        return len(self._nobodies)

    def _is_somebody(self, connection: Connection) -> None:
        """The connection has logged in, or is over."""
        self._login.cancel(connection)
        self._nobodies.remove(connection)

    async def connect(self, connection: Connection, command: Connect) -> None:
        """Answer a CONNECT: restore, begin, let in without identity, or refuse."""
        token = command.token if command.token is not None else connection.handshake.token
        if token is None:
            connection.id, connection.session_id = secret_id(), secret_id()
            connection.state = State.ANONYMOUS
            self._answer(connection)
            return
        try:
            identity = await self._authenticator.identify(token)
        except AuthUnavailable as error:
            self._metrics.refused(error.code)
            self.end(connection, _close_for(error))
            return
        except RealtimeError as error:
            self._metrics.refused(error.code)
            self.tell("login refused", connection, error.code)
            connection.outlet.write(connection.session.refused(error))
            connection.outlet.close(Close.REFUSED)
            return
        try:
            await self._restore_or_begin(connection, identity, command.session, command.offset)
        except RealtimeError as error:
            self._metrics.refused(error.code)
            self.end(connection, _close_for(error))

    async def _restore_or_begin(
        self, connection: Connection, identity: Identity, session: str | None, offset: str | None
    ) -> None:
        await self._beginning.acquire()
        try:
            if connection.state is not State.ENDED:
                await self._restore_or_begin_now(connection, identity, session, offset)
        finally:
            self._beginning.release()

    async def _restore_or_begin_now(
        self, connection: Connection, identity: Identity, session: str | None, offset: str | None
    ) -> None:
        record = await self._record(identity, session)
        if connection.state is State.ENDED:
            return
        if record is not None and await self._restore(connection, identity, record, offset):
            return
        await self._begin(connection, identity, self._answer)
        if record is not None:
            # Only now, so that nobody is told that a user went who is here.
            await self._store.forget(record.owner, record.session)

    async def login(
        self,
        connection: Connection,
        token: str,
        session: str | None = None,
        offset: str | None = None,
    ) -> None:
        """``auth:login``: become somebody, or somebody else, or stay with a newer token.

        :param session: an earlier session to be taken up, see `Connect`.
        :raises RealtimeError: the token or a limit forbids it. Who was somebody else is nobody now.
        """
        try:
            identity = await self._authenticator.identify(token)
        except RealtimeError as error:
            self.tell("login refused", connection, error.code)
            raise
        if connection.state is State.ENDED:
            # It went while the token was looked at; nobody is answered.
            raise AuthRequired()
        if connection.state is State.OPENING:
            await self._restore_or_begin(connection, identity, session, offset)
            return
        if session is not None:
            raise InvalidMessage("only the first message of a connection can take up a session")
        if connection.state is State.LIVE:
            if connection.user == identity.user:
                await self._renew(connection, identity)
                return
            owner = connection.owner
            self._dismiss(connection)
            connection.identity = None
            connection.state = State.ANONYMOUS
            self.opened(connection)
            await self._store.forget(owner, connection.session_id)
        await self._begin(connection, identity, _no_answer)

    async def _begin(
        self, connection: Connection, identity: Identity, answer: Callable[[Connection], None]
    ) -> None:
        if not connection.id:
            connection.id, connection.session_id = secret_id(), secret_id()
        owner = Owner(identity.user, connection.id, connection.generation)
        session = connection.session_id
        rooms, refused = self._defaults(identity)
        connection.since = self._now()
        with self._expecting(connection, owner.connection) as coming:
            begun = await self._admit(
                identity.user,
                lambda: self._store.begin(owner, session, rooms, connection.since, self._limits),
            )
            if owner in coming.displaced:
                raise SessionReplaced()
        # This is the session's place in the order of things: from here to its entry nothing may wait.
        connection.identity = identity
        connection.rooms = set(rooms) - begun.full
        connection.joined = {room for room, joined in rooms.items() if joined} - begun.full
        _prefer(connection, begun.preferences)
        answer(connection)
        self._enter(connection)
        self._notices.connected(connection, identity, begun.sequence, recovered=False)
        self._notices.joined(connection, *sorted(connection.joined))
        self._notices.refused(connection, [*refused, *map(self.full, sorted(begun.full))])
        self._hold_to_bans(connection)

    @contextmanager
    def _expecting(self, connection: Connection, connection_id: str) -> Iterator[_Coming]:
        """While the store is asked for a session that will be held by the connection of this id."""
        coming = _Coming(connection, connection_id)
        self._coming[coming] = None
        try:
            yield coming
        finally:
            del self._coming[coming]

    async def _admit(self, user: str, enter: Callable[[], Awaitable[Any]]) -> Any:
        """Enter under the user's cap; one of the user's connections that owes a pong makes room."""
        try:
            return await enter()
        except TooManyConnections:
            if self.evict(user) or (self._rules.evict_oldest and await self._supersede(user)):
                return await enter()
            # One on another node makes room for the next try.
            self._broker.signal(*signals.encode(Crowded(user))).addErrback(_failed)
            raise

    async def _supersede(self, user: str) -> bool:
        """End a user's oldest connection; whether it was here, else its node makes room soon."""
        presence = await self._store.presence(user)
        if not presence.metas:
            return False
        oldest = min(presence.metas, key=lambda meta: meta.since)
        connection = self._connections.get(oldest.connection)
        if connection is None:
            await self.tell_ended(Ended(user, (oldest.connection,), Close.SUPERSEDED.reason))
            return False
        self.terminate(connection, Close.SUPERSEDED)
        return True

    def evict(self, user: str) -> bool:
        """End one of a user's connections here that owes a pong; whether there was one."""
        for connection in self._connections.of_user(user):
            if connection.outlet.owes_pong:
                self.end(connection, Close.EVICTED)
                return True
        return False

    def _defaults(self, identity: Identity) -> tuple[dict[str, bool], list[RealtimeError]]:
        """The rooms that come with an identity, whether each is joined, and refusals of those too many."""
        rooms = {user_room(identity.user): False}
        rooms.update((role_room(role), False) for role in sorted(identity.roles))
        refused: list[RealtimeError] = []
        granted = 0
        for room in self._rights.granted_rooms(identity):
            if not self._rights.may_be_in(identity, room):
                refused.append(RoomForbidden(f"{room}: you may not join this room"))
            elif granted < self._rules.rooms:
                granted += room not in rooms
                rooms[room] = True
            else:
                refused.append(TooManyRooms(f"{room}: a connection may be in {self._rules.rooms} rooms"))
        return rooms, refused

    def full(self, room: str) -> RealtimeError:
        """The refusal of a room that comes with the identity."""
        return RoomFull(f"{room}: the room has {self._rules.members} members, as many as it may")

    async def _join_defaults(self, connection: Connection) -> None:
        """Enter a live connection into the rooms of its identity in which it is not yet, and tell it."""
        identity = connection.identity
        assert identity is not None
        rooms, refused = self._defaults(identity)
        for room, joined in rooms.items():
            if room in (connection.joined if joined else connection.rooms):
                continue
            try:
                await self._join_default(connection, room, joined)
            except (RoomFull, TooManyRooms) as error:
                refused.append(type(error)(f"{room}: {error.message}"))
            if connection.state is not State.LIVE:
                # It ended meanwhile; whoever takes the session up is in the rooms that opened.
                return
        self._notices.refused(connection, refused)

    async def _join_default(self, connection: Connection, room: str, joined: bool) -> None:
        if joined:
            check_number(connection, self._rules.rooms)
        await self._store.join(connection.owner, connection.session_id, room, joined, self._rules.members)
        if connection.state is State.LIVE:
            self._rooms.enter(connection, room, joined)
            if joined:
                self._notices.joined(connection, room)

    def _now(self) -> int:
        return int(self._wall() * 1000)

    def _answer(self, connection: Connection) -> None:
        frame = connection.session.connected(connection.id, connection.session_id)
        if frame is not None:
            connection.outlet.write(frame)

    def _enter(self, connection: Connection) -> None:
        """From here on publications reach the connection."""
        if connection.state is State.ENDED:
            # The transport went while the store was asked: it leaves as it would have later.
            self.suspend(connection)
            return
        connection.state = State.LIVE
        connection.reencode()
        self._is_somebody(connection)
        self._connections.add(connection)
        self._rooms.admit(connection)
        for room in list(connection.rooms):
            self._rooms.enter(connection, room, room in connection.joined)
        self._metrics.connected(connection.outlet.transport)
        self.tell("login", connection, connection.outlet.transport)
        _log.info(
            "connected",
            connection=connection.id,
            user=connection.user,
            address=connection.handshake.address,
        )

    # -- recovery

    async def _record(self, identity: Identity, session: str | None) -> SessionRecord | None:
        """The record of an earlier session that this user may take up."""
        if session is None:
            return None
        record = await self._store.record(session)
        if record is not None and record.owner.user == identity.user:
            return record
        self._metrics.recovered("unknown" if record is None else "other_user")
        return None

    async def _restore(
        self, connection: Connection, identity: Identity, record: SessionRecord, offset: str | None
    ) -> bool:
        """Take up an earlier session; False if a fresh one must begin, which is to forget this one."""
        allowed = all(self._rights.may_be_in(identity, room) for room in record.rooms)
        read = await self._missed(record, offset) if allowed else None
        if connection.state is State.ENDED:
            # Nobody is there to take it up, and the client may have done so by another transport.
            return True
        restored = full = None
        if read is not None:
            try:
                restored = await self._take_over(connection, record, read)
            except RoomFull as error:
                full = error
        # From here to the connection's entry nothing may wait, as in `_begin`.
        displaced = self.displace(record.owner)
        if read is None or restored is None:
            if displaced:
                self._grace.start((record.owner, record.session))
            # It must not count against the user's limit while the fresh one begins.
            await self._store.suspend(record.owner, record.session, record.last_seen)
            self._metrics.recovered("room_refused" if full is not None or not allowed else "gap")
            return False
        connection.id, connection.session_id = restored.owner.connection, record.session
        connection.generation = restored.owner.generation
        connection.identity = identity
        connection.rooms = set(record.rooms)
        connection.joined = {room for room, entry in record.rooms.items() if entry.joined}
        _prefer(connection, restored.preferences)
        missed = [*read.publications, *restored.missed]
        self._resume(connection, record, missed, restored.sequence)
        self._metrics.recovered("recovered")
        if connection.state is State.LIVE:
            await self._join_defaults(connection)
            known = record.last_seen or self._wall() - self._rules.dead
            await self._tell_statuses(connection, known, missed)
        return True

    async def _take_over(
        self, connection: Connection, record: SessionRecord, read: Recovered
    ) -> Restored | None:
        user = record.owner.user
        connection.since = self._now()
        with self._expecting(connection, record.owner.connection) as coming:
            restored: Restored | None = await self._admit(
                user, lambda: self._store.take_over(record, read, connection.since, self._limits)
            )
            if restored is not None and restored.owner in coming.displaced:
                raise SessionReplaced()
        return restored

    def displace(self, owner: Owner) -> bool:
        """Close the connection that held a session, unless another has taken that up meanwhile."""
        for coming in self._coming:
            if coming.id == owner.connection:
                coming.displaced.append(owner)
        old = self._connections.get(owner.connection)
        if old is None or old.owner != owner:
            return False
        self._dismiss(old)
        old.state = State.ENDED
        self._metrics.disconnected(Close.REPLACED.reason)
        old.outlet.close(Close.REPLACED)
        return True

    async def _missed(self, record: SessionRecord, offset: str | None) -> Recovered | None:
        since = record.opened if offset is None else Sequence.parse(offset)
        if since is None:
            return None
        return await self._broker.recover(record, since, self._rules.recovery_bytes)

    def _resume(
        self,
        connection: Connection,
        record: SessionRecord,
        missed: list[Publication],
        sequence: Sequence,
    ) -> None:
        """Answer in the one order that neither loses nor repeats: CONNECT, the missed, the greeting."""
        identity = connection.identity
        assert identity is not None
        self._grace.cancel((record.owner, record.session))
        self._answer(connection)
        shows, rooms = self._rights.shows, connection.rooms
        heard = [e for e in missed if shows(identity, rooms, e) and not mutes(connection, e)]
        # Encoded as the transport takes them: thousands may come back at once.
        connection.outlet.replay(connection.session.replay(heard))
        self._settling.start(connection)
        self._enter(connection)
        self._notices.connected(connection, identity, sequence, recovered=True)
        self._hold_to_bans(connection)

    def _hold_to_bans(self, connection: Connection) -> None:
        """End a session whose token was revoked while the store was asked."""
        if connection.state is State.LIVE and connection.identity is not None:
            try:
                self._authenticator.standing(connection.identity)
            except (TokenRevoked, UserBlocked) as error:
                self.expel(connection, error, Close.REVOKED)

    async def _tell_statuses(
        self, connection: Connection, known: float, missed: Iterable[Publication]
    ) -> None:
        """Presence is not logged: tell what has changed since `known` (seconds since the epoch)."""
        identity, joined, rooms = connection.identity, connection.joined, connection.rooms
        assert identity is not None
        seen = frozenset(room for room in joined if self._rights.may("presence", identity, room))
        changed = await self._store.changed(seen, known)
        told = {presence.user: presence for presence in changed}
        for publication in missed:
            shown = self._rights.shows(identity, rooms, publication)
            if shown and publication.event == "room:user_left":
                user = msgspec.json.decode(publication.data)["userId"]
                if user not in told:
                    presence = await self._store.presence(user)
                    if presence.shown == "offline":
                        told[user] = presence
        told.pop(connection.user, None)
        if connection.state is not State.LIVE:
            return
        self._notices.statuses(connection, told.values())

    # -- tokens

    async def refresh(self, connection: Connection, identity: Identity) -> None:
        """``auth:token_refresh``: go on with a newer token of the same user.

        :raises OtherSubject: the token is another user's.
        """
        if identity.user != connection.user:
            raise OtherSubject()
        await self._renew(connection, identity)

    async def _renew(self, connection: Connection, identity: Identity) -> None:
        connection.identity = identity
        connection.warned = False
        await self.recheck(connection)
        if connection.state is not State.LIVE:
            return
        await self._join_defaults(connection)

    async def recheck(self, connection: Connection) -> None:
        """Take a connection out of the rooms that its token, or the rules, do not open any more."""
        for room in list(connection.rooms):
            identity = connection.identity
            if identity is not None and not self._rights.may_be_in(identity, room):
                await self.leave(connection, room, RoomForbidden.code)

    async def leave(self, connection: Connection, room: str, reason: str | None = None) -> None:
        """Take a connection out of a room, and tell it.

        :param reason: why, as a refusal's code, if it was not the client's own wish.
        """
        joined = room in connection.joined
        await self._store.leave(connection.owner, connection.session_id, room)
        if connection.state is not State.LIVE:
            return
        self._rooms.remove(connection, room)
        if joined:
            self._notices.left(connection, room, reason)

    def mute(self, user: str, preferences: Preferences) -> None:
        """A user's preferences have changed: deliver by them from now on."""
        for connection in self._connections.of_user(user):
            _prefer(connection, preferences)
            self._rooms.remute(connection)

    def _check_tokens(self) -> None:
        now = self._wall()
        for connection in self._connections:
            identity = connection.identity
            if identity is None or identity.expires - now > self._rules.warning:
                continue
            if identity.expires + self._rules.expiry_grace <= now:
                self.end(connection, Close.TOKEN_EXPIRED)
            elif not connection.warned:
                connection.warned = True
                self._notices.expiring(connection, identity)

    def _tell_positions(self) -> None:
        """Who mutes events falls behind the log without knowing: move its offset along."""
        sequence = self._broker.sequence()
        for connection in self._connections:
            if connection.muted_events or connection.muted_rooms:
                self._notices.position(connection, sequence)

    # -- ending

    def closed(self, connection: Connection, reason: str) -> None:
        """The transport is gone: the session waits to be taken up."""
        self._is_somebody(connection)
        self._settling.cancel(connection)
        live = connection.state is State.LIVE
        connection.state = State.ENDED
        if live:
            self._dismiss(connection)
            self.suspend(connection)
            self._metrics.disconnected(reason)
            _log.info("disconnected", connection=connection.id, user=connection.user, reason=reason)

    def end(self, connection: Connection, close: Close) -> None:
        """Close a connection that is meant to come back."""
        self.closed(connection, close.reason)
        connection.outlet.close(close)

    def left(self, connection: Connection) -> None:
        """The client ends its session for good; it may begin another in `SessionRules.login`."""
        self._finish(connection, State.LEFT, "client_disconnect")
        self.opened(connection)

    def _finish(self, connection: Connection, state: State, reason: str) -> None:
        self._is_somebody(connection)
        self._settling.cancel(connection)
        live = connection.state is State.LIVE
        connection.state = state
        if live:
            self._dismiss(connection)
            self._metrics.disconnected(reason)
            _log.info("left", connection=connection.id, user=connection.user, reason=reason)
            self._store.forget(connection.owner, connection.session_id).addErrback(_failed)

    def terminate(self, connection: Connection, close: Close) -> None:
        """End a session and its connection for good; the client does not come back by itself."""
        self._finish(connection, State.ENDED, close.reason)
        frame = connection.session.disconnected()
        if frame is not None:
            connection.outlet.write(frame)
        connection.outlet.close(close)

    async def disconnect_user(self, user: str, close: Close = Close.KICKED) -> int:
        """End all sessions of a user for good, on all nodes; how many connections that were."""
        ended = await self.forget_user(user, close)
        await self.tell_ended(ended)
        return len(ended.connections)

    async def forget_user(self, user: str, close: Close) -> Ended:
        """End all sessions of a user in the store; their connections are yet to be told."""
        connections = await self._store.forget_user(user)
        return Ended(user, tuple(sorted(connections)), close.reason)

    def tell_ended(self, ended: Ended) -> Deferred[None]:
        """Have the nodes close the connections of sessions that have ended.

        With the bus away those that are here are closed, and the others when the store is compared.
        """

        def here(failure: Failure) -> Failure:
            self.ended(ended)
            return failure

        return self._broker.signal(*signals.encode(ended)).addErrback(here)

    def ended(self, ended: Ended) -> None:
        """The sessions of some of a user's connections have ended for good: close those that are here."""
        close = next((close for close in Close if close.reason == ended.reason), Close.KICKED)
        for coming in list(self._coming):
            if coming.id in ended.connections:
                # The store began it before it ended it; only its answer is still on the way.
                self.terminate(coming.connection, close)
        connections = [c for c in self._connections.of_user(ended.user) if c.id in ended.connections]
        for connection in connections:
            self._dismiss(connection)
        for connection in connections:
            self.tell("session ended", connection, close.reason)
            if close is Close.KICKED:
                self._notices.error(connection, Kicked())
            self.terminate(connection, close)

    def expel(self, connection: Connection, error: RealtimeError, close: Close) -> None:
        """End a session for good, and say why."""
        self.tell("session ended", connection, error.code)
        self._notices.error(connection, error)
        self.terminate(connection, close)

    def tell(self, kind: str, connection: Connection, reason: str) -> None:
        """A line of the security log about a connection."""
        self._security.tell(
            kind,
            user=connection.user,
            address=connection.handshake.address,
            connection=connection.id,
            reason=reason,
        )

    def _dismiss(self, connection: Connection) -> None:
        self._rooms.dismiss(connection)
        self._connections.remove(connection)

    def suspend(self, connection: Connection) -> None:
        """Its transport is gone: the session waits to be taken up, and leaves after the grace."""
        owner, session = connection.owner, connection.session_id
        last_seen = self._wall() - self._rules.dead
        self._store.suspend(owner, session, last_seen).addErrback(_failed)
        self._grace.start((owner, session))

    def _gone(self, key: tuple[Owner, str]) -> None:
        self._store.withdraw(*key).addErrback(_failed)

    def _not_logged_in(self, connection: Connection) -> None:
        self.end(connection, Close.CONNECT_TIMEOUT)


def _no_answer(connection: Connection) -> None:
    """The client has its CONNECT already."""


def _settle(connection: Connection) -> None:
    connection.session.settle()
    connection.reencode()


def _close_for(error: RealtimeError) -> Close:
    if isinstance(error, AuthUnavailable):
        return Close.AUTH_UNAVAILABLE
    if isinstance(error, TokenRevoked | UserBlocked):
        return Close.REVOKED
    if isinstance(error, TooManyConnections):
        return Close.CONNECTION_LIMIT
    if isinstance(error, SessionReplaced):
        return Close.REPLACED
    return Close.BUS_LOSS if isinstance(error, BrokerUnavailable) else Close.INTERNAL


def _prefer(connection: Connection, preferences: Preferences) -> None:
    connection.muted_events = preferences.muted_events
    connection.muted_rooms = preferences.muted_rooms


def _failed(failure: Any) -> None:
    if failure.check(BrokerUnavailable):
        # What the store has of this node is compared with what is live once it is back.
        return
    _log.failure("session state could not be kept", failure)
