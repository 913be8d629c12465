"""RedisStateStore: sessions, memberships, presence and preferences, shared by all nodes over one Redis.

Each change is one script (see scripts/state.lua): what it changes, and what clients and other services
are told of it, is one step. Every node holds a lease; whoever outlives another ends what that has left.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
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
from .redis_compare import Comparing, fence
from .redis_leases import PREFERENCES_TTL, Leases, StateTimes
from .texts import parse_all, parse_place

_log = Logger()

#: Bytes that the marker of a restored session may carry, how often the log is read again where there is
#: more, and how many bytes at a time.
MARKER_BYTES: Final = 256 * 1024
ROUNDS: Final = 5
ROUND_BYTES: Final = 16 * 1024 * 1024
#: Rooms whose members one script reads.
READ_ROOMS: Final = 20
_pack: Final = msgspec.msgpack.encode

_Result = TypeVar("_Result")


class _Header(msgspec.Struct):
    """What the scripts of begin and take_over say in their marker's first line."""

    preferences: str
    full: list[str] = []
    number: int = 0
    sizes: list[int] = []


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
        self._peer: IPeer | None = None
        self._period = times.period
        self.leases = Leases(clock, broker, times, self._returned)
        self._comparing = Comparing(
            broker,
            self.leases,
            prefix=prefix,
            members=members,
            last_seen=lambda: f"{wall() - times.dead:.3f}",
        )

    # -- life

    def start(self, peer: IPeer) -> Deferred[None]:
        self._peer = peer
        return Deferred.fromCoroutine(self.leases.start())

    def _returned(self) -> None:
        if self._peer is not None:
            self._peer.returned(False)

    def stop(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._peer = None
        self.leases.stop()
        try:
            await self._comparing.end_others(())
            await self.leases.give_up()
        except BrokerUnavailable:
            _log.warn("the store is away: other nodes will end what this one has in it")

    def sweep(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.leases.end_overdue())

    # -- sessions

    async def _enter(
        self, session: str, rooms: Iterable[str], name: str, *args: bytes | str | int
    ) -> Point:
        """Run a script that makes a session live here; as long as it runs the session is not an orphan.

        Where it is refused for what a dead node holds, or because this node was taken for dead, that is
        put right first.
        """
        with self._comparing.coming(session):
            for last in (False, True):
                try:
                    return await self._broker.at_point(rooms, name, *args)
                except BrokerUnavailable:
                    self.leases.doubt()
                    raise
                except Refused as refused:
                    reply = refused.reply
                    if last or not (reply[0] == b"SWEPT" or reply[-1] == b"1"):
                        raise
                await self.leases.beat()
            raise AssertionError

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
            await self._broker.run("suspend", node, *fence(owner, session), f"{last_seen:.3f}")

        return self._change(owner, suspend)

    def withdraw(self, owner: Owner, session: str) -> Deferred[None]:
        async def withdraw(owner: Owner) -> None:
            await self._broker.run("withdraw", *fence(owner, session))

        return self._change(owner, withdraw)

    def forget(self, owner: Owner, session: str) -> Deferred[None]:
        async def forget(owner: Owner) -> None:
            await self._broker.run("forget", self._broker.node, *fence(owner, session))

        return self._change(owner, forget)

    def _change(self, owner: Owner, change: Callable[[Owner], Awaitable[None]]) -> Deferred[None]:
        self._comparing.changing(owner, change)
        return self._doubtful(change(owner))

    def _doubtful(self, change: Awaitable[_Result]) -> Deferred[_Result]:
        """If it fails, nobody knows whether it was done."""

        def failed(failure: Failure) -> Failure:
            if failure.check(BrokerUnavailable):
                self.leases.doubt()
            return failure

        return Deferred.fromCoroutine(change).addErrback(failed)  # type: ignore[arg-type]

    def forget_user(self, user: str) -> Deferred[frozenset[str]]:
        return self._doubtful(self._forget_user(user))

    async def _forget_user(self, user: str) -> frozenset[str]:
        answer = await self._broker.run("forget_user", user)
        return frozenset(connection.decode() for connection in answer[1:])

    def expel(self, user: str, room: str) -> Deferred[frozenset[str]]:
        return Deferred.fromCoroutine(self._expel(user, room))

    async def _expel(self, user: str, room: str) -> frozenset[str]:
        answer = await self._broker.run("expel", user, room)
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
        return self._doubtful(self._take_over(record, read, since, limits))

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
        self.leases.trust()
        return self._doubtful(self._comparing.compare(held, lost))

    # -- rooms

    def join(self, owner: Owner, session: str, room: str, joined: bool, limit: int) -> Deferred[Joined]:
        return Deferred.fromCoroutine(self._join(owner, session, room, joined, limit))

    async def _join(self, owner: Owner, session: str, room: str, joined: bool, limit: int) -> Joined:
        comparing = self._comparing
        comparing.entering(session, room)
        in_step, compared = not comparing.running, comparing.begun
        first = False
        for _ in range(ROUNDS):
            arguments = (*fence(owner, session), room, int(joined), limit)
            try:
                point = await self._enter(session, [room], "join", *arguments)
            except Refused as refused:
                if refused.reply[0] != b"REPLACED" or (in_step and compared == comparing.begun):
                    raise _refusal(refused, Limits(0, limit)) from None
                # It was yet to be written anew, perhaps under another generation.
                await comparing.settled()
                in_step, compared = True, comparing.begun
                owner = _still(comparing.owner_now(owner))
                continue
            number, epoch, offset, entered, as_member, marked = point.payload.decode().split(" ")
            first = first or entered == "1"
            if point.sequence.number <= int(marked):
                membership = Membership(int(number), epoch, as_member == "1")
                return Joined(membership, Position(int(offset), epoch), first)
            # The marker was lost, and the line is past it: another point is needed.
        raise BrokerUnavailable(retry_after=self._period)

    def leave(self, owner: Owner, session: str, room: str) -> Deferred[bool]:
        async def leave() -> bool:
            with self._comparing.leaving(owner, session, room):
                answer = await self._broker.run("leave", *fence(owner, session), room)
            return bool(answer[1] == b"1")

        return self._doubtful(leave())

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
            # The user may be yet to be written anew.
            await self._comparing.settled()
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


def _still(owner: Owner | None) -> Owner:
    if owner is None:
        raise SessionReplaced
    return owner


def _refusal(refused: Refused, limits: Limits) -> Exception:
    """The error that a script's refusal stands for."""
    what = refused.reply[0]
    if what == b"TOO MANY":
        return TooManyConnections(f"a user may have {limits.connections} connections")
    if what == b"FULL":
        return RoomFull(f"the room has {limits.members} members, as many as it may")
    if what == b"REPLACED":
        return SessionReplaced()
    return BrokerUnavailable(retry_after=1.0)


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
    found, at = [], 0
    for size in header.sizes:
        found.append(texts[at : at + size])
        at += size
    read = parse_all(found)
    if read is None:
        raise BrokerUnavailable(retry_after=1.0)
    read.sort(key=number_of)
    return header, [one for one in read if entitled(record, one)]
