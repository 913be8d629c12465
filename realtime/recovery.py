"""Recovery: how a session is taken up after a cut."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from .admission import Admission
from .broker.interface import IBroker, IStateStore, Recovered
from .connections import Connection, State
from .endings import Endings
from .entrance import Entrance
from .errors import RoomFull
from .memberships import Memberships
from .messages import Identity, Publication, Sequence, SessionRecord
from .metrics import Metrics
from .notices import Notices
from .receipts import Receipts
from .rights import Rights
from .rooms import mutes
from .session_rules import SessionRules


class Recovery:
    """Takes up earlier sessions by their records, and replays what they missed.

    :param wall: seconds since the epoch.
    :param arrived: see `Sessions.arrived`.
    """

    def __init__(
        self,
        wall: Callable[[], float],
        rules: SessionRules,
        *,
        broker: IBroker,
        store: IStateStore,
        rights: Rights,
        admission: Admission,
        entrance: Entrance,
        memberships: Memberships,
        endings: Endings,
        notices: Notices,
        metrics: Metrics,
        receipts: Receipts,
        arrived: Callable[[Connection, Sequence], object],
    ) -> None:
        self._wall = wall
        self._rules = rules
        self._broker = broker
        self._store = store
        self._rights = rights
        self._admission = admission
        self._entrance = entrance
        self._memberships = memberships
        self._endings = endings
        self._notices = notices
        self._metrics = metrics
        self._receipts = receipts
        self._arrived = arrived

    async def record(self, identity: Identity, session: str | None) -> SessionRecord | None:
        """The record of an earlier session that this user may take up."""
        if session is None:
            return None
        record = await self._store.record(session)
        if record is not None and record.owner.user == identity.user:
            return record
        self._metrics.recovered("unknown" if record is None else "other_user")
        return None

    async def restore(
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
                restored = await self._admission.take_over(connection, record, read)
            except RoomFull as error:
                full = error
        # From here to the connection's entry nothing may wait, see `Admission`.
        displaced = self._endings.displace(record.owner)
        if read is None or restored is None:
            if displaced:
                self._endings.grace.start((record.owner, record.session))
            # It must not count against the user's limit while the fresh one begins.
            await self._store.suspend(record.owner, record.session, record.last_seen)
            self._metrics.recovered("room_refused" if full is not None or not allowed else "gap")
            return False
        connection.id, connection.session_id = restored.owner.connection, record.session
        connection.generation = restored.owner.generation
        connection.identity = identity
        connection.rooms = set(record.rooms)
        connection.joined = {room for room, entry in record.rooms.items() if entry.joined}
        connection.prefer(restored.preferences)
        missed = [*read.publications, *restored.missed]
        self._resume(connection, record, missed, restored.sequence)
        self._metrics.recovered("recovered")
        if connection.state is State.LIVE:
            self._arrived(connection, record.opened)
            await self._memberships.join_defaults(connection)
            known = record.last_seen or self._wall() - self._rules.dead
            await self._tell_statuses(connection, known, missed)
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
        self._endings.grace.cancel((record.owner, record.session))
        self._entrance.answer(connection)
        shows, rooms = self._rights.shows, connection.rooms
        now = self._wall()
        heard = [
            e for e in missed if shows(identity, rooms, e) and not mutes(connection, e) and not e.over(now)
        ]
        # Encoded as the transport takes them: thousands may come back at once.
        connection.outlet.replay(connection.session.replay(heard))
        self._receipts.replayed(connection, heard)
        self._endings.settling.start(connection)
        self._entrance.enter(connection)
        self._notices.connected(connection, identity, sequence, recovered=True)
        self._entrance.hold_to_bans(connection)

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
