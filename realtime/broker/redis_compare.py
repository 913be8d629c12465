"""Comparing: the store is put in step with the sessions that live on a node, after it was away.

Meanwhile life goes on: what comes, goes or changes while sessions are written anew must neither be taken
for something that the node has lost, nor be written over.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import contextmanager
from typing import Any, Final

import msgspec
from twisted.internet.defer import DeferredLock

from ..errors import BrokerUnavailable
from ..messages import Owner
from .interface import Held, Kept, Preferences
from .redis import RedisBroker
from .redis_leases import Leases

#: Sessions that one script compares.
BATCH: Final = 100


def fence(owner: Owner, session: str) -> tuple[str, str, int, str]:
    """What scripts compare before they change a session."""
    return owner.user, owner.connection, owner.generation, session


class _Comparison:
    """What happens while the store is compared.

    :ivar came: sessions that began, were taken up, or entered a room meanwhile.
    :ivar changed: what ended or changed meanwhile, by connection: done once more at the end.
    :ivar left: rooms that were left meanwhile, by session and room.
    """

    def __init__(self, coming: Iterable[str], leaving: Iterable[tuple[Owner, str, str]]) -> None:
        self.came = set(coming)
        self.changed: list[tuple[str, Callable[[Owner], Awaitable[object]]]] = []
        self.left = {(session, room): owner.connection for owner, session, room in leaving}


class Comparing:
    """Compares the store with one node.

    :param prefix: what the names of all keys begin with.
    :param members: users that a room may have.
    :param last_seen: when (text of seconds, wall clock) a client was surely there whose end nobody has
        told.
    """

    def __init__(
        self,
        broker: RedisBroker,
        leases: Leases,
        *,
        prefix: str,
        members: int,
        last_seen: Callable[[], str],
    ) -> None:
        self._broker = broker
        self._leases = leases
        self._prefix = prefix
        self._members = members
        self._last_seen = last_seen
        self._lock = DeferredLock()
        self._now: list[_Comparison] = []
        self._coming: dict[str, int] = {}
        self._leaving: list[tuple[Owner, str, str]] = []
        self._owners: dict[str, Owner | None] = {}
        #: how many comparisons were begun
        self.begun = 0

    # -- what happens meanwhile

    @contextmanager
    def coming(self, session: str) -> Any:
        """A session begins here, is taken up, or enters a room."""
        self._coming[session] = self._coming.get(session, 0) + 1
        for comparison in self._now:
            comparison.came.add(session)
        try:
            yield
        finally:
            self._coming[session] -= 1
            if not self._coming[session]:
                del self._coming[session]

    @contextmanager
    def leaving(self, owner: Owner, session: str, room: str) -> Any:
        """A session leaves a room."""
        for comparison in self._now:
            comparison.left[session, room] = owner.connection
        left = (owner, session, room)
        self._leaving.append(left)
        try:
            yield
        finally:
            self._leaving.remove(left)

    def entering(self, session: str, room: str) -> None:
        """A session enters a room that it may have left before."""
        for comparison in self._now:
            comparison.left.pop((session, room), None)

    def changing(self, owner: Owner, change: Callable[[Owner], Awaitable[object]]) -> None:
        """A session ends or changes."""
        for comparison in self._now:
            comparison.changed.append((owner.connection, change))

    @property
    def running(self) -> bool:
        """Whether sessions that live here may be missing in the store, or be there under an old owner."""
        return bool(self._now)

    async def settled(self) -> None:
        """Wait until no comparison is under way."""
        if self._now:
            await self._lock.acquire()
            self._lock.release()

    def owner_now(self, owner: Owner) -> Owner | None:
        """Under which owner the last comparison has found or written a session; None if under none here."""
        return self._owners.get(owner.connection, owner)

    # -- comparing

    async def compare(self, held: list[Held], lost: bool) -> list[Kept]:
        """See `IStateStore.compare`."""
        meanwhile = _Comparison(self._coming, self._leaving)
        self._now.append(meanwhile)
        self.begun += 1
        kept: list[Kept] = []
        epoch = self._broker.sequence().epoch
        await self._lock.acquire()
        try:
            for at in range(0, len(held), BATCH):
                kept += await self._compare(held[at : at + BATCH], lost, epoch, meanwhile.came)
            await self.end_others(one.session for one in held)
            self._owners = {one.owner.connection: now.owner for one, now in zip(held, kept, strict=True)}
            await self._do_again(meanwhile, self._owners)
        finally:
            self._now.remove(meanwhile)
            self._lock.release()
        return kept

    async def _compare(self, held: list[Held], lost: bool, epoch: str, came: set[str]) -> list[Kept]:
        packed = msgspec.msgpack.encode([_holding(one, one.session in came) for one in held])
        arguments = ("compare", self._broker.node, int(lost), self._members, packed, epoch)
        answer = await self._broker.run(*arguments)
        if answer[0] == b"SWEPT":
            await self._leases.beat()
            answer = await self._broker.run(*arguments)
        if answer[0] != b"OK":
            raise BrokerUnavailable(retry_after=1.0)
        return [_kept(one, found, lost) for one, found in zip(held, answer[1:], strict=True)]

    async def _do_again(self, meanwhile: _Comparison, owners: Mapping[str, Owner | None]) -> None:
        for connection, change in meanwhile.changed:
            owner = owners.get(connection)
            if owner is not None:
                await change(owner)
        while meanwhile.left:
            (session, room), connection = meanwhile.left.popitem()
            owner = owners.get(connection)
            if owner is not None:
                await self._broker.run("leave", *fence(owner, session), room)

    async def end_others(self, live: Iterable[str]) -> None:
        """Suspend what is in this node's name and not among its live sessions, or about to be."""
        key = f"{self._prefix}node:{self._broker.node}"
        known = frozenset(session.encode() for session in live)
        cursor = b"0"
        while True:
            cursor, found = await self._broker.command("SSCAN", key, cursor, "COUNT", BATCH)
            # Those that came since are in it too.
            came = {session.encode() for one in self._now for session in one.came}
            others = [session for session in found if session not in known and session not in came]
            if others:
                await self._broker.run("orphans", self._broker.node, self._last_seen(), *others)
            if cursor == b"0":
                return


def _holding(held: Held, coming: bool) -> list[Any]:
    """A session for compare.lua; one that enters a room right now keeps what it has besides."""
    owner = held.owner
    return [
        *(owner.user, owner.connection, owner.generation, held.session, held.since, str(int(held.idle))),
        list(held.rooms),
        [str(int(joined)) for joined in held.rooms.values()],
        str(int(coming)),
    ]


def _kept(held: Held, found: list[bytes], lost: bool) -> Kept:
    if not found[0]:
        return Kept(None)
    generation, preferred, *full = found
    preferences = None
    if not lost:
        preferences = msgspec.json.decode(preferred, type=Preferences) if preferred else Preferences()
    owner = msgspec.structs.replace(held.owner, generation=int(generation))
    return Kept(owner, frozenset(room.decode() for room in full), preferences)
