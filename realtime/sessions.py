"""Sessions: how a connection becomes somebody, stays so by newer tokens, and what is looked at meanwhile.

The life of a connection is section 4 of DESIGN.md.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from twisted.internet.interfaces import IReactorTime

from .admission import Admission
from .arrivals import Arrivals
from .auth import Authenticator
from .broker.interface import IBroker, IStateStore
from .connections import Connection, Connections, State
from .endings import Endings
from .entrance import Entrance
from .errors import (
    AuthRequired,
    AuthUnavailable,
    BrokerUnavailable,
    Close,
    InvalidMessage,
    OtherSubject,
    RealtimeError,
    SessionReplaced,
    TokenRevoked,
    TooManyConnections,
    UserBlocked,
)
from .ids import secret_id
from .memberships import Memberships
from .messages import Connect, Identity, Owner, Sequence
from .metrics import Metrics
from .notices import Notices
from .periodic import Periodic
from .receipts import Receipts
from .reception import Reception
from .recovery import Recovery
from .rights import Rights
from .rooms import Rooms
from .security import Security
from .session_rules import SessionRules
from .turnstile import Turnstile
from .user_endings import UserEndings

#: Sessions that begin, or are taken up, at a time: what the store answers to more of them may be more than
#: it can answer in time, and then all of them fail, come back, and fail again. The rest waits for its turn.
BEGINNING: Final = 32


class Sessions:
    """Begins sessions, and keeps them by tokens; built of the parts that restore, hold and end them.

    :param wall: seconds since the epoch.
    :param reception: says when there is time for who is not known.
    :param traced: see `Entrance`.
    :ivar endings: ends connections and sessions here.
    :ivar user_endings: ends a user's sessions on all nodes.
    :ivar memberships: the rooms of live connections.
    :ivar arrived: called with each connection that has begun a session, or taken one up, and with the place
        in the order of things where that began.
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
        reception: Reception,
        traced: Callable[[Connection], object],
        receipts: Receipts,
    ) -> None:
        self._wall = wall
        self._rules = rules
        self._authenticator = authenticator
        self._broker = broker
        self._store = store
        self._connections = connections
        self._notices = notices
        self._metrics = metrics
        self._reception = reception
        self._beginning = Turnstile(BEGINNING)
        self.arrived: Callable[[Connection, Sequence], object] = _unheard
        arrivals = Arrivals()
        self.endings: Final = Endings(
            clock,
            wall,
            rules,
            store=store,
            connections=connections,
            arrivals=arrivals,
            rooms=rooms,
            notices=notices,
            metrics=metrics,
            security=security,
        )
        self.user_endings: Final = UserEndings(
            broker=broker,
            store=store,
            connections=connections,
            arrivals=arrivals,
            endings=self.endings,
            notices=notices,
        )
        self.memberships: Final = Memberships(
            rules, store=store, connections=connections, rooms=rooms, rights=rights, notices=notices
        )
        self._admission = Admission(
            wall,
            rules,
            broker=broker,
            store=store,
            connections=connections,
            arrivals=arrivals,
            endings=self.endings,
            user_endings=self.user_endings,
            over=partial(metrics.rate_limited, "connections"),
        )
        self._entrance = Entrance(
            authenticator=authenticator,
            connections=connections,
            rooms=rooms,
            endings=self.endings,
            metrics=metrics,
            traced=traced,
        )
        self._recovery = Recovery(
            wall,
            rules,
            broker=broker,
            store=store,
            rights=rights,
            admission=self._admission,
            entrance=self._entrance,
            memberships=self.memberships,
            endings=self.endings,
            notices=notices,
            metrics=metrics,
            receipts=receipts,
            arrived=self._arrived,
        )
        self._periodic = Periodic(
            clock, (1.0, self._check_tokens), (rules.recovery_window / 4, self._tell_positions)
        )

    def start(self) -> None:
        """Begin the periodic checks."""
        self._periodic.start()

    def stop(self) -> None:
        """End the periodic checks."""
        self._periodic.stop()

    def _arrived(self, connection: Connection, opened: Sequence) -> None:
        self.arrived(connection, opened)

    # -- beginning

    async def connect(self, connection: Connection, command: Connect) -> None:
        """Answer a CONNECT: restore, begin, let in without identity, or refuse."""
        token = command.token if command.token is not None else connection.handshake.token
        if token is None:
            connection.id, connection.session_id = secret_id(), secret_id()
            connection.state = State.ANONYMOUS
            self._entrance.answer(connection)
            return
        await self._reception.enter()
        if connection.state is State.ENDED:
            return
        try:
            identity = await self._authenticator.identify(token)
        except AuthUnavailable as error:
            self._metrics.refused(error.code)
            self.endings.end(connection, _close_for(error))
            return
        except RealtimeError as error:
            self._metrics.refused(error.code)
            self.endings.tell("login refused", connection, error.code)
            connection.outlet.write(connection.session.refused(error))
            connection.outlet.close(Close.REFUSED)
            return
        try:
            await self._restore_or_begin(connection, identity, command.session, command.offset)
        except RealtimeError as error:
            self._metrics.refused(error.code)
            self.endings.end(connection, _close_for(error))

    async def _restore_or_begin(
        self, connection: Connection, identity: Identity, session: str | None, offset: str | None
    ) -> None:
        await self._beginning.enter()
        try:
            if connection.state is not State.ENDED:
                await self._restore_or_begin_now(connection, identity, session, offset)
        finally:
            self._beginning.leave()

    async def _restore_or_begin_now(
        self, connection: Connection, identity: Identity, session: str | None, offset: str | None
    ) -> None:
        record = await self._recovery.record(identity, session)
        if connection.state is State.ENDED:
            return
        if record is not None and await self._recovery.restore(connection, identity, record, offset):
            return
        await self._begin(connection, identity, self._entrance.answer)
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
        if connection.state is not State.LIVE:
            await self._reception.enter()
        try:
            identity = await self._authenticator.identify(token)
        except RealtimeError as error:
            self.endings.tell("login refused", connection, error.code)
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
            self.endings.dismiss(connection)
            connection.identity = None
            connection.state = State.ANONYMOUS
            self.endings.nobodies.add(connection)
            await self._store.forget(owner, connection.session_id)
        await self._begin(connection, identity, _no_answer)

    async def _begin(
        self, connection: Connection, identity: Identity, answer: Callable[[Connection], None]
    ) -> None:
        if not connection.id:
            connection.id, connection.session_id = secret_id(), secret_id()
        owner = Owner(identity.user, connection.id, connection.generation)
        session = connection.session_id
        rooms, refused = self.memberships.defaults(identity)
        begun = await self._admission.begin(connection, owner, session, rooms)
        # This is the session's place in the order of things: from here to its entry nothing may wait.
        connection.identity = identity
        connection.rooms = set(rooms) - begun.full
        connection.joined = {room for room, joined in rooms.items() if joined} - begun.full
        connection.prefer(begun.preferences)
        answer(connection)
        self._entrance.enter(connection)
        self._notices.connected(connection, identity, begun.sequence, recovered=False)
        self._notices.joined(connection, *sorted(connection.joined))
        self._notices.refused(connection, [*refused, *map(self.memberships.full, sorted(begun.full))])
        self._entrance.hold_to_bans(connection)
        if connection.state is State.LIVE:
            self.arrived(connection, begun.sequence)

    # -- tokens

    async def refresh(self, connection: Connection, identity: Identity) -> None:
        """``auth:token_refresh``: go on with a newer token of the same user.

        :raises OtherSubject: the token is another user's.
        """
        if identity.user != connection.user:
            raise OtherSubject()
        await self._renew(connection, identity)
        self._metrics.refreshed("renewed")

    def refresh_refused(self, connection: Connection, code: str) -> None:
        """``auth:token_refresh`` was refused with this code."""
        self._metrics.refreshed("refused")
        self.endings.tell("refresh refused", connection, code)

    async def _renew(self, connection: Connection, identity: Identity) -> None:
        connection.identity = identity
        connection.warned = False
        await self.memberships.recheck(connection)
        if connection.state is not State.LIVE:
            return
        await self.memberships.join_defaults(connection)

    def _check_tokens(self) -> None:
        now = self._wall()
        for connection in self._connections:
            identity = connection.identity
            if identity is None or identity.expires - now > self._rules.warning:
                continue
            if identity.expires + self._rules.expiry_grace <= now:
                self.endings.end(connection, Close.TOKEN_EXPIRED)
            elif not connection.warned:
                connection.warned = True
                self._notices.expiring(connection, identity)

    def _tell_positions(self) -> None:
        """Who mutes events falls behind the log without knowing: move its offset along."""
        sequence = self._broker.sequence()
        for connection in self._connections:
            if connection.muted_events or connection.muted_rooms:
                self._notices.position(connection, sequence)


def _unheard(connection: Connection, opened: Sequence) -> None:
    """Nobody wants to know."""


def _no_answer(connection: Connection) -> None:
    """The client has its CONNECT already."""


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
