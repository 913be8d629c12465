"""MemoryStateStore: sessions, memberships, presence and preferences of a node that runs alone."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from ..deadlines import Deadlines
from ..errors import BrokerUnavailable, RealtimeError, RoomFull, SessionReplaced, TooManyConnections
from ..messages import Membership, Owner, Publication, SessionRecord
from .interface import (
    Begun,
    Held,
    IAnnouncer,
    IPeer,
    IStateStore,
    Joined,
    Kept,
    Limits,
    Meta,
    Preferences,
    Presence,
    Recovered,
    Restored,
)
from .memory import MemoryBroker

#: Users whose preferences are kept at the most; past it those set longest ago are forgotten.
MAX_PREFERENCES: Final = 100_000

_NONE: Final = Preferences()


class _Session:
    """A session record, and whether its connection is counted among its user's and in its rooms."""

    __slots__ = ("present", "record", "suspended")

    def __init__(self, record: SessionRecord) -> None:
        self.record = record
        self.present = True
        self.suspended = False


class _User:
    """A user with at least one connection, live or not yet given up."""

    __slots__ = ("changed", "metas", "sessions", "status", "text")

    def __init__(self, now: float) -> None:
        self.status = "online"
        self.text: str | None = None
        self.metas: dict[str, Meta] = {}
        self.sessions: dict[str, _Session] = {}
        self.changed = now

    def live(self) -> int:
        return sum(not session.suspended for session in self.sessions.values())


@implementer(IStateStore)
class MemoryStateStore:
    """The state of one process.

    Of one user no more sessions wait to be taken up than the user may have connections: a new one
    ends the oldest of those that are over.

    :param window: seconds for which a suspended session's record is kept.
    :param wall: seconds since the epoch.
    """

    def __init__(
        self,
        clock: IReactorTime,
        broker: MemoryBroker,
        announcer: IAnnouncer,
        *,
        window: float,
        wall: Callable[[], float],
    ) -> None:
        self._broker = broker
        self._announcer = announcer
        self._wall = wall
        self._sessions: dict[str, _Session] = {}
        self._users: dict[str, _User] = {}
        # user -> sessions that wait to be taken up, those longest ago suspended first
        self._waiting: dict[str, dict[str, None]] = {}
        # room -> user -> how many of the user's connections are in it, in order of joining
        self._rooms: dict[str, dict[str, int]] = {}
        self._preferences: OrderedDict[str, Preferences] = OrderedDict()
        self._expiry: Deadlines[str] = Deadlines(clock, window, self._end)

    # -- sessions

    def start(self, peer: IPeer) -> Deferred[None]:
        return succeed(None)

    def stop(self) -> Deferred[None]:
        return succeed(None)

    def begin(
        self, owner: Owner, session: str, rooms: Mapping[str, bool], since: int, limits: Limits
    ) -> Deferred[Begun]:
        if session in self._sessions:
            # The same transport was somebody before, and its end did not come through.
            self._end(session)
        user = self._users.get(owner.user)
        if user is None:
            user = self._users[owner.user] = _User(self._wall())
        elif user.live() >= limits.connections:
            return fail(TooManyConnections(f"a user may have {limits.connections} connections"))
        held = _Session(SessionRecord(session, owner, {}, self._broker.sequence()))
        self._sessions[session] = held
        user.sessions[owner.connection] = held
        waiting = self._waiting.get(owner.user, {})
        for oldest in list(waiting)[: max(0, len(waiting) - limits.connections)]:
            self._end(oldest)
        full = {
            room for room, joined in rooms.items() if not self._join(held, room, joined, limits.members)
        }
        self._attach(user, owner, since)
        return succeed(
            Begun(self._broker.sequence(), frozenset(full), self._preferences.get(owner.user, _NONE))
        )

    def suspend(self, owner: Owner, session: str, last_seen: float) -> Deferred[None]:
        held = self._owned(owner, session)
        if held is not None:
            held.suspended = True
            held.record = msgspec.structs.replace(held.record, last_seen=last_seen)
            self._waiting.setdefault(owner.user, {})[session] = None
            self._expiry.start(session)
        return succeed(None)

    def forget(self, owner: Owner, session: str) -> Deferred[None]:
        held = self._owned(owner, session)
        if held is not None:
            self._end(session)
        return succeed(None)

    def forget_user(self, user: str) -> Deferred[frozenset[str]]:
        known = self._users.get(user)
        present = [] if known is None else list(known.sessions.values())
        waiting = [self._sessions[session] for session in self._waiting.get(user, ())]
        live = frozenset(held.record.owner.connection for held in present if not held.suspended)
        self._withdraw(user, present)
        for held in dict.fromkeys(present + waiting):
            self._drop(held)
        return succeed(live)

    def expel(self, user: str, room: str) -> Deferred[frozenset[str]]:
        known = self._users.get(user)
        present = [] if known is None else list(known.sessions.values())
        waiting = [self._sessions[session] for session in self._waiting.get(user, ())]
        live = set()
        for held in dict.fromkeys(present + waiting):
            membership = held.record.rooms.pop(room, None)
            if membership is None:
                continue
            if not held.suspended:
                live.add(held.record.owner.connection)
            if membership.joined and held.present:
                self._exit(user, room)
            self._broker.let_go(room)
        return succeed(frozenset(live))

    def record(self, session: str) -> Deferred[SessionRecord | None]:
        held = self._sessions.get(session)
        if held is None:
            return succeed(None)
        return succeed(msgspec.structs.replace(held.record, rooms=dict(held.record.rooms)))

    def take_over(
        self, record: SessionRecord, read: Recovered, since: int, limits: Limits
    ) -> Deferred[Restored | None]:
        held = self._sessions.get(record.session)
        if held is None or held.record.owner != record.owner or held.record.rooms != record.rooms:
            return succeed(None)
        try:
            self._check_return(held, limits)
        except RealtimeError as error:
            return fail(error)
        rest = self._broker.replay(held.record, read.until, sys.maxsize)
        if rest is None:
            return succeed(None)
        owner = msgspec.structs.replace(record.owner, generation=record.owner.generation + 1)
        self._wait_no_more(held)
        held.record = msgspec.structs.replace(held.record, owner=owner, last_seen=0.0)
        held.suspended = False
        user = self._users.get(owner.user)
        if not held.present:
            held.present = True
            if user is None:
                user = self._users[owner.user] = _User(self._wall())
            user.sessions[owner.connection] = held
            for room, membership in held.record.rooms.items():
                if membership.joined:
                    self._enter(owner.user, room)
        assert user is not None
        self._attach(user, owner, since)
        preferences = self._preferences.get(owner.user, _NONE)
        return succeed(Restored(owner, rest.publications, self._broker.sequence(), preferences))

    def compare(self, held: list[Held], lost: bool) -> Deferred[list[Kept]]:
        return succeed([Kept(session.owner) for session in held])

    def _check_return(self, held: _Session, limits: Limits) -> None:
        owner = held.record.owner
        user = self._users.get(owner.user)
        if held.suspended and user is not None and user.live() >= limits.connections:
            raise TooManyConnections(f"a user may have {limits.connections} connections")
        if held.present:
            return
        for room, membership in held.record.rooms.items():
            users = self._rooms.get(room, {})
            if membership.joined and owner.user not in users and len(users) >= limits.members:
                raise RoomFull(f"the room has {limits.members} members, as many as it may")

    def _owned(self, owner: Owner, session: str) -> _Session | None:
        held = self._sessions.get(session)
        return held if held is not None and held.record.owner == owner else None

    def _end(self, session: str) -> None:
        held = self._sessions[session]
        self._withdraw(held.record.owner.user, [held])
        self._drop(held)

    def _drop(self, held: _Session) -> None:
        self._wait_no_more(held)
        del self._sessions[held.record.session]
        for room in held.record.rooms:
            self._broker.let_go(room)

    def _wait_no_more(self, held: _Session) -> None:
        user, session = held.record.owner.user, held.record.session
        self._expiry.cancel(session)
        waiting = self._waiting.get(user, {})
        if session in waiting:
            del waiting[session]
            if not waiting:
                del self._waiting[user]

    # -- rooms

    def join(self, owner: Owner, session: str, room: str, joined: bool, limit: int) -> Deferred[Joined]:
        held = self._owned(owner, session)
        if held is None:
            return fail(SessionReplaced())
        known = room in held.record.rooms
        present = held.present and joined and owner.user not in self._rooms.get(room, {})
        if not known and not self._join(held, room, joined, limit):
            return fail(RoomFull(f"the room has {limit} members, as many as it may"))
        channel = self._broker.hold(room)
        self._broker.let_go(room)
        membership = held.record.rooms[room]
        return succeed(Joined(membership, channel.position, present and not known))

    def _join(self, held: _Session, room: str, joined: bool, limit: int) -> bool:
        """Enter a session into a room that it is not in; False if the room is full."""
        user = held.record.owner.user
        users = self._rooms.get(room, {})
        if joined and user not in users and len(users) >= limit:
            return False
        channel = self._broker.hold(room)
        if joined and held.present:
            self._enter(user, room)
        # After the announcement, so that whoever joins is not told of it, now or on recovery.
        held.record.rooms[room] = Membership(self._broker.sequence().number, channel.epoch, joined)
        return True

    def leave(self, owner: Owner, session: str, room: str) -> Deferred[bool]:
        held = self._owned(owner, session)
        if held is None or room not in held.record.rooms:
            return succeed(False)
        membership = held.record.rooms.pop(room)
        if membership.joined and held.present:
            self._exit(owner.user, room)
        self._broker.let_go(room)
        return succeed(True)

    def _enter(self, user: str, room: str) -> bool:
        users = self._rooms.setdefault(room, {})
        users[user] = users.get(user, 0) + 1
        if users[user] > 1:
            return False
        self._publish(self._announcer.entered(user, room))
        return True

    def _exit(self, user: str, room: str) -> None:
        users = self._rooms[room]
        users[user] -= 1
        if users[user]:
            return
        del users[user]
        if not users:
            del self._rooms[room]
        self._publish(self._announcer.left(user, room))

    def members(self, room: str) -> Deferred[list[Presence]]:
        return succeed([self._presence(user) for user in self._rooms.get(room, ())])

    def changed(self, rooms: frozenset[str], since: float) -> Deferred[list[Presence]]:
        users = self._users
        found = {
            user: None
            for room in rooms
            for user in self._rooms.get(room, ())
            if users[user].changed >= since
        }
        return succeed([self._presence(user) for user in found])

    def rooms(self) -> Deferred[Mapping[str, int]]:
        return succeed({room: len(users) for room, users in self._rooms.items()})

    def rooms_of(self, user: str) -> Deferred[frozenset[str]]:
        return succeed(self._rooms_of(user))

    def _rooms_of(self, name: str) -> frozenset[str]:
        user = self._users.get(name)
        if user is None:
            return frozenset()
        return frozenset(
            room
            for session in user.sessions.values()
            for room, membership in session.record.rooms.items()
            if membership.joined
        )

    # -- presence

    def _attach(self, user: _User, owner: Owner, since: int) -> None:
        before = self._presence(owner.user)
        meta = user.metas.get(owner.connection)
        user.metas[owner.connection] = Meta(
            owner.connection, since if meta is None else meta.since, idle=False
        )
        self._changed(before)

    def withdraw(self, owner: Owner, session: str) -> Deferred[None]:
        held = self._owned(owner, session)
        if held is not None:
            self._withdraw(owner.user, [held])
        return succeed(None)

    def _withdraw(self, name: str, sessions: Iterable[_Session]) -> None:
        """Take sessions of one user out of presence, then out of their rooms, as one change."""
        going = [held for held in sessions if held.present]
        if not going:
            return
        user = self._users[name]
        before, rooms = self._presence(name), self._rooms_of(name)
        for held in going:
            held.present = False
            del user.sessions[held.record.owner.connection]
            user.metas.pop(held.record.owner.connection, None)
        if not user.sessions:
            del self._users[name]
        self._announce(before, self._presence(name), rooms)
        places = (held.record.rooms.items() for held in going)
        for room in sorted(room for rooms in places for room, entry in rooms if entry.joined):
            self._exit(name, room)

    def _owning(self, owner: Owner) -> _User | None:
        """The user, if the connection is present and the owner's."""
        user = self._users.get(owner.user)
        held = None if user is None else user.sessions.get(owner.connection)
        return user if held is not None and held.record.owner == owner else None

    def touch(self, owner: Owner, idle: bool) -> Deferred[None]:
        user = self._owning(owner)
        meta = None if user is None else user.metas.get(owner.connection)
        if user is not None and meta is not None and meta.idle != idle:
            before = self._presence(owner.user)
            user.metas[owner.connection] = msgspec.structs.replace(meta, idle=idle)
            self._changed(before)
        return succeed(None)

    def choose(self, user: str, status: str, text: str | None) -> Deferred[Presence]:
        known = self._users.get(user)
        before = self._presence(user)
        if known is None:
            return succeed(before)
        known.status = status
        known.text = text
        return succeed(self._changed(before))

    def presence(self, user: str) -> Deferred[Presence]:
        return succeed(self._presence(user))

    def _presence(self, name: str) -> Presence:
        user = self._users.get(name)
        if user is None:
            return Presence(name, "online", None, (), 0.0)
        return Presence(name, user.status, user.text, tuple(user.metas.values()), user.changed)

    def _changed(self, before: Presence) -> Presence:
        after = self._presence(before.user)
        if self._announce(before, after, self._rooms_of(before.user)):
            self._users[before.user].changed = self._wall()
        return after

    def _announce(self, before: Presence, after: Presence, rooms: frozenset[str]) -> bool:
        publication = self._announcer.presence(before, after, rooms)
        if publication is None:
            return False
        self._publish(publication)
        return True

    def _publish(self, publication: Publication) -> None:
        self._broker.publish(publication).addErrback(_unsaid)

    @property
    def users(self) -> int:
        """How many users have a connection, live or not yet given up."""
        return len(self._users)

    @property
    def sessions(self) -> int:
        """How many session records are kept."""
        return len(self._sessions)

    # -- preferences

    def preferences(self, user: str) -> Deferred[Preferences]:
        return succeed(self._preferences.get(user, _NONE))

    def prefer(self, user: str, preferences: Preferences) -> Deferred[None]:
        self._preferences[user] = preferences
        self._preferences.move_to_end(user)
        if len(self._preferences) > MAX_PREFERENCES:
            self._preferences.popitem(last=False)
        return succeed(None)

    def sweep(self) -> Deferred[None]:
        self._broker.sweep()
        return succeed(None)


def _unsaid(failure: Any) -> None:
    """The bus has been stopped: nobody is left whom the change could be told."""
    failure.trap(BrokerUnavailable)
