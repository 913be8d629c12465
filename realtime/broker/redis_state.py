"""RedisStateStore: sessions, memberships, presence and preferences, shared by all nodes over one Redis.

Each change is one script (see scripts/state.lua): what it changes, and what clients and other services
are told of it, is one step. Every node holds a lease; whoever outlives another ends what that has left.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from ..errors import BrokerUnavailable, RoomFull, SessionReplaced, TooManyConnections
from ..messages import (
    Membership,
    Owner,
    Position,
    Publication,
    Sequence,
    SessionRecord,
    entitled,
    number_of,
)
from .hearing import Point, Refused
from .interface import (
    Begun,
    Held,
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
from .redis import RedisBroker
from .texts import parse, parse_place

_log = Logger()

#: Seconds between two renewals of the lease, unless a third of the lease is shorter.
HEARTBEAT: Final = 2.0
#: Seconds beyond the grace after which a session is withdrawn by whoever sees it, not by its node.
MARGIN: Final = 2.0
#: Sessions that one script compares, or keeps; and those that it ends, with the rooms that they are in.
BATCH: Final = 100
SWEEP: Final = 50
SWEEP_ROOMS: Final = 500
#: Bytes that the marker of a restored session may carry, how often the log is read again where there is
#: more, and how many bytes at a time.
MARKER_BYTES: Final = 256 * 1024
ROUNDS: Final = 5
ROUND_BYTES: Final = 16 * 1024 * 1024
#: Rooms whose members one script reads.
READ_ROOMS: Final = 20
#: Seconds for which preferences are kept after they were last used.
PREFERENCES_TTL: Final = 90 * 86400.0
#: Seconds for which a node's sessions outlive its last sign, at the least: with no node left nobody ends
#: them.
SESSION_TTL: Final = 3600.0

_pack: Final = msgspec.msgpack.encode


class StateTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Times of the state store, in seconds.

    :ivar window: for which a suspended session can be taken up.
    :ivar grace: for which a suspended session is still present.
    :ivar lease: for which a node is taken to live after it was heard of.
    :ivar dead: for which a dead transport may go unnoticed.
    """

    window: float
    grace: float
    lease: float
    dead: float

    @property
    def session_ttl(self) -> float:
        """For which what belongs to a live session is kept without being touched."""
        return max(SESSION_TTL, 4 * (self.lease + self.window))

    def constants(self) -> dict[str, int]:
        """The constants of the state scripts, in milliseconds."""
        seconds = {
            "WINDOW": self.window,
            "GRACE": self.grace,
            "LEASE": self.lease,
            "DEAD": self.dead,
            "MARGIN": MARGIN,
            # What is overdue must still be there for the sweep to end it properly.
            "SPARE": self.session_ttl,
            "SESSION_TTL": self.session_ttl,
            "PREFERENCES_TTL": PREFERENCES_TTL,
        }
        return {name: round(value * 1000) for name, value in seconds.items()}


class _Header(msgspec.Struct):
    """What the scripts of begin and take_over say in their marker's first line."""

    preferences: str
    full: list[str] = []
    number: int = 0
    sizes: list[int] = []


class _Comparison:
    """What happens while the store is compared with this node, which may be written over.

    :ivar came: sessions that began, were taken up, or entered a room meanwhile.
    :ivar went: what ended or changed meanwhile, by connection: done once more at the end.
    :ivar left: rooms that were left meanwhile, by session and room.
    """

    def __init__(self, coming: Iterable[str], leaving: Iterable[tuple[Owner, str, str]]) -> None:
        self.came = set(coming)
        self.went: list[tuple[str, Callable[[Owner], Awaitable[object]]]] = []
        self.left = {(session, room): owner.connection for owner, session, room in leaving}


@implementer(IStateStore)
class RedisStateStore:
    """The state of a deployment.

    :param wall: seconds since the epoch.
    :param prefix: what the names of all keys begin with.
    :param members: users that a room may have, for sessions that are written anew.
    """

    def __init__(
        self,
        clock: IReactorTime,
        broker: RedisBroker,
        *,
        prefix: str,
        times: StateTimes,
        members: int,
        wall: Callable[[], float],
    ) -> None:
        self._broker = broker
        self._prefix = prefix
        self._times = times
        self._members = members
        self._wall = wall
        self._peer: IPeer | None = None
        self._beats = LoopingCall(self._beat)
        self._beats.clock = clock
        self._period = min(HEARTBEAT, times.lease / 3)
        self._clock = clock
        self._kept_at = 0.0
        # The epoch and generation of the log in which this node's lease was last renewed.
        self._known: tuple[str, int] | None = None
        self._coming: dict[str, int] = {}
        self._leaving: list[tuple[Owner, str, str]] = []
        self._comparisons: list[_Comparison] = []
        self._compared = 0
        self._lock = DeferredLock()
        self.swept = 0

    # -- life

    def start(self, peer: IPeer) -> Deferred[None]:
        self._peer = peer
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        self._kept_at = self._clock.seconds()
        await self._beat()
        self._beats.start(self._period, now=False)

    def stop(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._peer = None
        if self._beats.running:
            self._beats.stop()
        try:
            await self._end_orphans(frozenset())
            await self._broker.run("retire", self._broker.node)
        except BrokerUnavailable:
            _log.warn("the store is away: other nodes will end what this one has in it")

    async def _beat(self) -> None:
        try:
            await self.beat()
        except BrokerUnavailable:
            pass
        except Exception:
            _log.failure("a heartbeat failed")

    async def beat(self) -> None:
        """Renew the lease, and end what dead nodes and sessions past their time have left.

        :raises BrokerUnavailable: the store is away.
        """
        node = self._broker.node
        answer = await self._broker.run("heartbeat", node)
        place = parse_place(answer[1])
        log = (place.epoch, place.generation)
        if answer[0] == b"SWEPT" and self._known == log and self._peer is not None:
            # Of another epoch or generation the broker tells by itself.
            self._peer.returned(False)
        self._known = log
        if answer[2]:
            await self._look_at_waiting()
        for dead in answer[3:]:
            await self._sweep_node(dead)
        if self._clock.seconds() - self._kept_at >= self._times.session_ttl / 4:
            self._kept_at = self._clock.seconds()
            await self._keep()

    async def _look_at_waiting(self) -> None:
        more = b"1"
        while more:
            _, more = await self._broker.run("sweep_waiting", SWEEP, SWEEP_ROOMS)

    async def _sweep_node(self, node: bytes) -> None:
        more = b"1"
        while more:
            _, more = await self._broker.run("sweep_node", node, SWEEP, SWEEP_ROOMS)
            self.swept += 1

    async def _keep(self) -> None:
        cursor = b"0"
        while True:
            _, cursor = await self._broker.run("keep", self._broker.node, cursor)
            if cursor == b"0":
                return

    def sweep(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._look_at_waiting())

    # -- sessions

    async def _enter(
        self, session: str, rooms: Iterable[str], name: str, *args: bytes | str | int
    ) -> Point:
        """Run a script that makes a session live here; as long as it runs the session is not an orphan.

        Where it is refused for what a dead node holds, or because this node was taken for dead, that is
        put right first.
        """
        self._coming[session] = self._coming.get(session, 0) + 1
        for comparison in self._comparisons:
            comparison.came.add(session)
        try:
            for last in (False, True):
                try:
                    return await self._broker.at_point(rooms, name, *args)
                except Refused as refused:
                    reply = refused.reply
                    if last or not (reply[0] == b"SWEPT" or reply[-1] == b"1"):
                        raise
                await self.beat()
            raise AssertionError
        finally:
            self._coming[session] -= 1
            if not self._coming[session]:
                del self._coming[session]

    def begin(
        self, owner: Owner, session: str, rooms: Mapping[str, bool], since: int, limits: Limits
    ) -> Deferred[Begun]:
        return Deferred.fromCoroutine(self._begin(owner, session, dict(rooms), since, limits))

    async def _begin(
        self, owner: Owner, session: str, rooms: dict[str, bool], since: int, limits: Limits
    ) -> Begun:
        packed = _pack(
            [
                *(owner.user, owner.connection, owner.generation, session, since),
                *(limits.connections, limits.members),
                *(list(rooms), [str(int(joined)) for joined in rooms.values()]),
            ]
        )
        try:
            point = await self._enter(session, rooms, "begin", packed)
        except Refused as refused:
            raise _refusal(refused, limits) from None
        header = msgspec.json.decode(point.payload, type=_Header)
        return Begun(point.sequence, frozenset(header.full), _preferences(header.preferences))

    def suspend(self, owner: Owner, session: str, last_seen: float) -> Deferred[None]:
        async def suspend(owner: Owner) -> None:
            node = self._broker.node
            await self._broker.run("suspend", node, *_fence(owner, session), f"{last_seen:.3f}")

        return self._change(owner, suspend)

    def withdraw(self, owner: Owner, session: str) -> Deferred[None]:
        async def withdraw(owner: Owner) -> None:
            await self._broker.run("withdraw", *_fence(owner, session))

        return self._change(owner, withdraw)

    def forget(self, owner: Owner, session: str) -> Deferred[None]:
        async def forget(owner: Owner) -> None:
            await self._broker.run("forget", self._broker.node, *_fence(owner, session))

        return self._change(owner, forget)

    def _change(self, owner: Owner, change: Callable[[Owner], Awaitable[None]]) -> Deferred[None]:
        for comparison in self._comparisons:
            comparison.went.append((owner.connection, change))
        return Deferred.fromCoroutine(change(owner))  # type: ignore[arg-type]

    def forget_user(self, user: str) -> Deferred[frozenset[str]]:
        return Deferred.fromCoroutine(self._forget_user(user))

    async def _forget_user(self, user: str) -> frozenset[str]:
        answer = await self._broker.run("forget_user", user)
        return frozenset(connection.decode() for connection in answer[1:])

    def record(self, session: str) -> Deferred[SessionRecord | None]:
        return Deferred.fromCoroutine(self._record(session))

    async def _record(self, session: str) -> SessionRecord | None:
        answer = [part.decode() for part in await self._broker.read("record", session)]
        if len(answer) == 1:
            return None
        _, user, connection, generation, opened, last_seen = answer[:6]
        rooms = {
            room: Membership(int(number), epoch, joined == "1")
            for room, text in zip(answer[6::2], answer[7::2], strict=True)
            for number, epoch, joined in (text.split(" "),)
        }
        owner = Owner(user, connection, int(generation))
        return SessionRecord(session, owner, rooms, parse_place(opened.encode()), float(last_seen or 0))

    # -- sessions that come back

    def take_over(
        self, record: SessionRecord, read: Recovered, since: int, limits: Limits
    ) -> Deferred[Restored | None]:
        return Deferred.fromCoroutine(self._take_over(record, read, since, limits))

    async def _take_over(
        self, record: SessionRecord, read: Recovered, since: int, limits: Limits
    ) -> Restored | None:
        missed: list[Publication] = []
        until, again = read.until, False
        for _ in range(ROUNDS):
            packed = _pack([*_taking(record, until, since, limits), str(int(again))])
            try:
                point = await self._enter(record.session, record.rooms, "take_over", packed)
            except Refused as refused:
                if refused.reply[0] in (b"GONE", b"LOST"):
                    return None
                if refused.reply[0] != b"AGAIN":
                    raise _refusal(refused, limits) from None
                more = await self._broker.recover(record, until, ROUND_BYTES)
                if more is None:
                    return None
                missed += more.publications
                until = more.until
                continue
            header, rest = _restored(point.payload, record)
            missed += rest
            owner = msgspec.structs.replace(record.owner, generation=record.owner.generation + 1)
            if point.sequence.number <= header.number:
                return Restored(owner, missed, point.sequence, _preferences(header.preferences))
            # The marker was lost, and the line is past it: what it has delivered since is read too.
            record = msgspec.structs.replace(record, owner=owner)
            until = msgspec.structs.replace(point.sequence, number=header.number)
            again = True
        return None

    def compare(self, held: list[Held], lost: bool) -> Deferred[list[Kept]]:
        return Deferred.fromCoroutine(self._compare(held, lost))

    async def _compare(self, held: list[Held], lost: bool) -> list[Kept]:
        meanwhile = _Comparison(self._coming, self._leaving)
        self._comparisons.append(meanwhile)
        self._compared += 1
        kept: list[Kept] = []
        await self._lock.acquire()
        try:
            for at in range(0, len(held), BATCH):
                kept += await self._compare_some(held[at : at + BATCH], lost, meanwhile.came)
            await self._end_orphans({one.session for one in held} | meanwhile.came)
            owners = {one.owner.connection: now.owner for one, now in zip(held, kept, strict=True)}
            await self._do_again(meanwhile, owners)
        finally:
            self._comparisons.remove(meanwhile)
            self._lock.release()
        return kept

    async def _compare_some(self, held: list[Held], lost: bool, came: set[str]) -> list[Kept]:
        node = self._broker.node
        packed = _pack([_holding(one, one.session in came) for one in held])
        answer = await self._broker.run("compare", node, int(lost), self._members, packed)
        if answer[0] == b"SWEPT":
            await self.beat()
            answer = await self._broker.run("compare", node, int(lost), self._members, packed)
            if answer[0] == b"SWEPT":
                raise BrokerUnavailable(retry_after=self._period)
        kept = []
        for one, (generation, *full) in zip(held, answer[1:], strict=True):
            owner = None
            if generation:
                owner = msgspec.structs.replace(one.owner, generation=int(generation))
            kept.append(Kept(owner, frozenset(room.decode() for room in full)))
        return kept

    async def _do_again(self, meanwhile: _Comparison, owners: Mapping[str, Owner | None]) -> None:
        """What changed while sessions were written anew may have been written over."""
        for connection, change in meanwhile.went:
            owner = owners.get(connection)
            if owner is not None:
                await change(owner)
        for (session, room), connection in meanwhile.left.items():
            owner = owners.get(connection)
            if owner is not None:
                await self._broker.run("leave", *_fence(owner, session), room)

    async def _end_orphans(self, live: Iterable[str]) -> None:
        """Suspend what is in this node's name and not among its live sessions."""
        key = f"{self._prefix}node:{self._broker.node}"
        known = frozenset(session.encode() for session in live)
        cursor = b"0"
        while True:
            cursor, found = await self._broker.command("SSCAN", key, cursor, "COUNT", BATCH)
            # Those that came since are in it too.
            coming = {session.encode() for one in self._comparisons for session in one.came}
            orphans = [session for session in found if session not in known and session not in coming]
            if orphans:
                last_seen = f"{self._wall() - self._times.dead:.3f}"
                await self._broker.run("orphans", self._broker.node, last_seen, *orphans)
            if cursor == b"0":
                return

    # -- rooms

    def join(self, owner: Owner, session: str, room: str, joined: bool, limit: int) -> Deferred[Joined]:
        return Deferred.fromCoroutine(self._join(owner, session, room, joined, limit))

    async def _join(self, owner: Owner, session: str, room: str, joined: bool, limit: int) -> Joined:
        fence = _fence(owner, session)
        entered = False
        settled = not self._comparisons
        compared = self._compared
        for comparison in self._comparisons:
            comparison.left.pop((session, room), None)
        for _ in range(ROUNDS):
            try:
                point = await self._enter(session, [room], "join", *fence, room, int(joined), limit)
            except Refused as refused:
                if refused.reply[0] == b"REPLACED" and not (settled and compared == self._compared):
                    # It may be yet to be written anew, perhaps under another generation.
                    raise BrokerUnavailable(retry_after=self._period) from None
                raise _refusal(refused, Limits(0, limit)) from None
            number, epoch, offset, first, as_member, marked = point.payload.decode().split(" ")
            entered = entered or first == "1"
            if point.sequence.number <= int(marked):
                membership = Membership(int(number), epoch, as_member == "1")
                return Joined(membership, Position(int(offset), epoch), entered)
            # The marker was lost, and the line is past it: another point is needed.
        raise BrokerUnavailable(retry_after=self._period)

    def leave(self, owner: Owner, session: str, room: str) -> Deferred[bool]:
        async def leave() -> bool:
            leaving = (owner, session, room)
            for comparison in self._comparisons:
                comparison.left[session, room] = owner.connection
            self._leaving.append(leaving)
            try:
                answer = await self._broker.run("leave", *_fence(owner, session), room)
            finally:
                self._leaving.remove(leaving)
            return bool(answer[1] == b"1")

        return Deferred.fromCoroutine(leave())

    async def _presences(self, rooms: Iterable[str], since: int | str) -> list[Presence]:
        answer = await self._broker.read("members", since, *rooms)
        return [_presence(one) for one in answer[1:]]

    def members(self, room: str) -> Deferred[list[Presence]]:
        return Deferred.fromCoroutine(self._presences([room], ""))

    def changed(self, rooms: frozenset[str], since: float) -> Deferred[list[Presence]]:
        return Deferred.fromCoroutine(self._changed(sorted(rooms), int(since * 1000)))

    async def _changed(self, rooms: list[str], since: int) -> list[Presence]:
        found: dict[str, Presence] = {}
        for at in range(0, len(rooms), READ_ROOMS):
            for presence in await self._presences(rooms[at : at + READ_ROOMS], since):
                found[presence.user] = presence
        return list(found.values())

    def rooms(self) -> Deferred[Mapping[str, int]]:
        return Deferred.fromCoroutine(self._rooms())

    async def _rooms(self) -> Mapping[str, int]:
        found: dict[str, int] = {}
        cursor = b"0"
        while True:
            _, cursor, *page = await self._broker.read("rooms", cursor)
            for room, users in zip(page[::2], page[1::2], strict=True):
                if users:
                    found[room.decode()] = users
            if cursor == b"0":
                return found

    def rooms_of(self, user: str) -> Deferred[frozenset[str]]:
        async def rooms_of() -> frozenset[str]:
            answer = await self._broker.read("rooms_of", user)
            return frozenset(room.decode() for room in answer[1:])

        return Deferred.fromCoroutine(rooms_of())

    # -- presence

    def touch(self, owner: Owner, idle: bool) -> Deferred[None]:
        async def touch(owner: Owner) -> None:
            await self._broker.run("touch", owner.user, owner.connection, owner.generation, int(idle))

        return self._change(owner, touch)

    def choose(self, user: str, status: str, text: str | None) -> Deferred[Presence]:
        async def choose() -> Presence:
            if self._comparisons:
                # The user may be yet to be written anew.
                await self._lock.acquire()
                self._lock.release()
            told = b"" if text is None else msgspec.json.encode(text)
            return _presence((await self._broker.run("choose", user, status, told))[1])

        return Deferred.fromCoroutine(choose())

    def presence(self, user: str) -> Deferred[Presence]:
        async def presence() -> Presence:
            return _presence((await self._broker.read("presence", user))[1])

        return Deferred.fromCoroutine(presence())

    # -- preferences

    def preferences(self, user: str) -> Deferred[Preferences]:
        async def preferences() -> Preferences:
            return _preferences(
                await self._broker.command("GET", f"{self._prefix}preferences:{user}") or b""
            )

        return Deferred.fromCoroutine(preferences())

    def prefer(self, user: str, preferences: Preferences) -> Deferred[None]:
        async def prefer() -> None:
            key, text = f"{self._prefix}preferences:{user}", msgspec.json.encode(preferences)
            await self._broker.command("SET", key, text, "PX", round(PREFERENCES_TTL * 1000))

        return Deferred.fromCoroutine(prefer())


def _fence(owner: Owner, session: str) -> tuple[str, str, int, str]:
    return owner.user, owner.connection, owner.generation, session


def _refusal(refused: Refused, limits: Limits) -> Exception:
    """The error that a script's refusal stands for."""
    what = refused.reply[0]
    if what == b"TOO MANY":
        return TooManyConnections(f"a user may have {limits.connections} connections")
    if what == b"FULL":
        return RoomFull(f"the room has {limits.members} members, as many as it may")
    if what == b"REPLACED":
        return SessionReplaced()
    return BrokerUnavailable()


def _preferences(text: str | bytes) -> Preferences:
    return msgspec.json.decode(text, type=Preferences) if text else Preferences()


def _presence(answer: list[Any]) -> Presence:
    name, flat = answer
    fields = {field.decode(): value.decode() for field, value in zip(flat[::2], flat[1::2], strict=True)}
    metas = []
    for field, value in fields.items():
        if field.startswith("m:"):
            since, idle = value.split(" ")
            metas.append(Meta(field[2:], int(since), idle == "1"))
    metas.sort(key=lambda meta: (meta.since, meta.connection))
    text = fields.get("text")
    said = None if text is None else msgspec.json.decode(text, type=str)
    changed = int(fields.get("changed", 0)) / 1000
    return Presence(name.decode(), fields.get("status", "online"), said, tuple(metas), changed)


def _taking(record: SessionRecord, until: Sequence, since: int, limits: Limits) -> list[Any]:
    owner = record.owner
    return [
        *(owner.user, owner.connection, owner.generation, record.session, since),
        *(limits.connections, limits.members),
        *(until.number, until.epoch, until.generation, MARKER_BYTES),
        list(record.rooms),
        [f"{entry.sequence} {entry.epoch} {int(entry.joined)}" for entry in record.rooms.values()],
    ]


def _restored(payload: bytes, record: SessionRecord) -> tuple[_Header, list[Publication]]:
    """What a marker of take_over says, and those of its publications that the session was to get."""
    line, _, texts = payload.partition(b"\n")
    header = msgspec.json.decode(line, type=_Header)
    publications, at = [], 0
    for size in header.sizes:
        publications.append(parse(texts[at : at + size]))
        at += size
    publications.sort(key=number_of)
    return header, [one for one in publications if entitled(record, one)]


def _holding(held: Held, coming: bool) -> list[Any]:
    """A session for compare.lua; one that enters a room right now keeps what it has besides."""
    owner = held.owner
    return [
        *(owner.user, owner.connection, owner.generation, held.session, held.since, str(int(held.idle))),
        list(held.rooms),
        [str(int(joined)) for joined in held.rooms.values()],
        str(int(coming)),
    ]
