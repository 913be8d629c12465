"""Peers: what this node does when the broker tells it something beside publications."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from . import signals
from .broker.interface import Held, IBroker, IPeer, IStateStore, Kept
from .broker.receipts import CHANGED
from .connections import Connection, Connections, State
from .endings import Endings
from .errors import BrokerUnavailable
from .inquiries import Inquiries
from .memberships import Memberships
from .messages import EVERYONE, Owner
from .moving import Moving
from .notices import Notices
from .rooms import Rooms
from .user_endings import UserEndings

_log = Logger()


@implementer(IPeer)
class Peers:
    """One node's part in what concerns all of them.

    :param banned: called with the data of each signal of a ban.
    :param receipts: called with the data of each signal of receipts.
    :param queued: likewise, of a change in a booking queue.
    :param inquiries: is told of questions and answers.
    """

    def __init__(
        self,
        *,
        broker: IBroker,
        store: IStateStore,
        connections: Connections,
        rooms: Rooms,
        memberships: Memberships,
        endings: Endings,
        user_endings: UserEndings,
        notices: Notices,
        inquiries: Inquiries,
        moving: Moving,
        banned: Callable[[bytes], None] = lambda data: None,
        receipts: Callable[[bytes], None] = lambda data: None,
        queued: Callable[[bytes], None] = lambda data: None,
    ) -> None:
        self._broker = broker
        self._store = store
        self._connections = connections
        self._rooms = rooms
        self._memberships = memberships
        self._endings = endings
        self._user_endings = user_endings
        self._notices = notices
        self._moving = moving
        self._raw = {signals.BANNED: banned, signals.QUEUED: queued, CHANGED: receipts}
        self._comparing = False
        self._again = False
        # whether the store has lost what it had, and not all of it has been written anew since
        self._lost = False
        # users whose new preferences were heard while the store was compared
        self._heard: set[str] = set()
        self._acts: Final[dict[type, Callable[[signals.Signal], None]]] = {
            signals.Ended: self._ended,
            signals.Preferred: self._preferred,
            signals.Crowded: self._crowded,
            signals.Asked: inquiries.asked,
            signals.Told: inquiries.told,
            signals.Removed: self._removed,
        }

    def reset(self, channels: frozenset[str] | None) -> None:
        """Tell those concerned by another ``system:connected`` that there is a gap, and where it ends."""
        everyone = channels is None or EVERYONE in channels
        sequence = self._broker.sequence()
        for connection in self._connections:
            identity = connection.identity
            if identity is not None and (everyone or (channels and channels & connection.rooms)):
                self._notices.connected(connection, identity, sequence, recovered=False)

    def signalled(self, name: str, data: bytes) -> None:
        raw = self._raw.get(name)
        if raw is not None:
            raw(data)
            return
        signal = signals.decode(name, data)
        if signal is None:
            _log.warn("a signal that this version does not know: {name}", name=name[:64])
            return
        self._acts[type(signal)](signal)

    def _ended(self, signal: signals.Signal) -> None:
        assert isinstance(signal, signals.Ended)
        self._user_endings.ended(signal)

    def _preferred(self, signal: signals.Signal) -> None:
        assert isinstance(signal, signals.Preferred)
        if self._comparing:
            self._heard.add(signal.user)
        self._memberships.mute(signal.user, signal.preferences)

    def _crowded(self, signal: signals.Signal) -> None:
        assert isinstance(signal, signals.Crowded)
        self._endings.evict(signal.user)

    def _removed(self, signal: signals.Signal) -> None:
        assert isinstance(signal, signals.Removed)
        self._moving.removed(signal)

    def displaced(self, owner: Owner) -> None:
        self._endings.displace(owner)

    # -- the store, after it was away

    def returned(self, lost: bool) -> None:
        self._lost |= lost
        self._again = True
        if not self._comparing:
            self._compare_again()

    def _compare_again(self) -> None:
        self._comparing, self._again = True, False
        self._heard.clear()
        comparing = Deferred.fromCoroutine(self._compare(self._lost))
        comparing.addErrback(_failed).addBoth(self._compared)

    def _compared(self, result: object) -> None:
        self._comparing = False
        self._heard.clear()
        if self._again:
            self._compare_again()

    async def _compare(self, lost: bool) -> None:
        live = [connection for connection in self._connections if connection.state is State.LIVE]
        owners = [connection.owner for connection in live]
        kept = await self._store.compare([_held(connection) for connection in live], lost)
        for connection, owner, found in zip(live, owners, kept, strict=True):
            self._keep(connection, owner, found)
        if not self._again:
            self._lost = False

    def _keep(self, connection: Connection, owner: Owner, kept: Kept) -> None:
        if connection.owner != owner:
            # It has become somebody else meanwhile.
            return
        if kept.owner is None:
            self._endings.displace(owner)
            return
        connection.generation = kept.owner.generation
        if connection.state is not State.LIVE:
            # It ended while the store was asked, under a generation that was no longer its own.
            self._endings.suspend(connection)
            return
        if kept.preferences is not None and connection.user not in self._heard:
            self._memberships.prefer(connection, kept.preferences)
        for room in sorted(kept.full):
            if room in connection.rooms:
                self._rooms.remove(connection, room)
                self._notices.left(connection, room)
                self._notices.refused(connection, [self._memberships.full(room)])


def _held(connection: Connection) -> Held:
    rooms = {room: room in connection.joined for room in connection.rooms}
    return Held(connection.owner, connection.session_id, rooms, connection.since, connection.idle)


def _failed(failure: Failure) -> None:
    """The bus has gone again: there will be another return."""
    if not failure.check(BrokerUnavailable):
        _log.failure("the store could not be compared", failure)
