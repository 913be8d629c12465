"""Fanout: a publication to the connections of this node, encoded once per encoding."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from typing import Final

from twisted.logger import Logger
from zope.interface import implementer

from .broker.interface import IDelivery
from .connections import Connection, IFlusher, IOutlet
from .errors import Close
from .events import Loss, loss_of
from .journal import Journal
from .messages import EVERYONE, Audience, Publication, user_room
from .metrics import Metrics
from .newest import Newest
from .rights import PRESENCE, Rights
from .rooms import Group, Room, Rooms, grouped
from .wire.session import NOTHING, Frame, ISession

#: Members of a group from which on they are sent alike what they get: fewer are written to one by one.
ALIKE_FROM: Final = 4

_NOBODY: Final[Set[Connection]] = frozenset()

_log = Logger()


@implementer(IDelivery)
class Fanout:
    """Delivers publications to local connections.

    :param wall: seconds since the epoch.
    :param flusher: sends what many get alike.
    :param find: the connection with a public id.
    :param receipted: called with each publication that has a receipt, and those to whom it was written.
    """

    def __init__(
        self,
        rooms: Rooms,
        rights: Rights,
        metrics: Metrics,
        journal: Journal,
        wall: Callable[[], float],
        *,
        flusher: IFlusher,
        find: Callable[[str], Connection | None],
        receipted: Callable[[Publication, Iterable[Connection]], object] = lambda publication, to: None,
    ) -> None:
        self._rooms = rooms
        self._rights = rights
        self._metrics = metrics
        self._journal = journal
        self._sampling = journal.sampling
        self._wall = wall
        self._flusher = flusher
        self._find = find
        self._receipted = receipted

    def deliver(self, publication: Publication) -> None:
        if publication.expires and publication.over(self._wall()):
            return
        room = self._whole_room(publication)
        if room is None:
            groups, without = grouped(self._chosen(publication)), _NOBODY
        else:
            groups, without = room.groups, self._excepted(publication.audience, room)
        if not groups:
            return
        loss = Loss(publication.loss) if publication.loss else loss_of(publication.event)
        counts: dict[str, int] = {}
        newest = None
        if loss is Loss.LATEST:
            newest = Newest(publication.event, publication.data, publication.channel)
        dropped = 0
        reached: list[Connection] = []
        self._metrics.sending = loss.value
        # A copy: a write may end a connection, and so change rooms.
        for group in tuple(groups.values()):
            session = group.members[0].session
            frame = _encoded(session, publication)
            count = 0
            if frame is not NOTHING:
                frame.newest = newest
                left_out = {one.outlet for one in without if groups.get(one.encoding) is group}
                count = len(group.members) - len(left_out)
                if publication.receipt:
                    reached += [one for one in group.members if one.outlet not in left_out]
                alike = room is not None and len(group.members) >= ALIKE_FROM
                outlets = self._alike(group, frame, left_out) if alike else _outlets(group, left_out)
                if loss is Loss.DROP:
                    kept = [outlet for outlet in outlets if not outlet.behind]
                    dropped += len(outlets) - len(kept)
                    count -= len(outlets) - len(kept)
                    outlets = kept
                count -= len(outlets) - _write(frame, outlets)
            counts[session.protocol] = counts.get(session.protocol, 0) + count
        self._metrics.sending = ""
        if publication.receipt:
            self._receipted(publication, reached)
        late = self._wall() - publication.time / 1000
        self._metrics.delivered(publication.event, counts.items(), late, len(publication.data))
        if self._sampling:
            self._journal.delivered(publication, sum(counts.values()), late)
        if dropped:
            self._metrics.dropped(publication.event, dropped)

    def _alike(self, group: Group, frame: Frame, left_out: Set[IOutlet]) -> Sequence[IOutlet]:
        """Send a frame to those of a group that are attached to its batch; who is to be written to."""
        batch = group.batch
        if batch is None or batch.over:
            batch = group.batch = self._flusher.batch()
            group.apart = [one.outlet for one in group.members if not one.outlet.attach(batch)]
        else:
            # Who came since is not to get what the batch holds already.
            group.apart += [one.outlet for one in group.members[group.seen :]]
        group.seen = len(group.members)
        for outlet in left_out:
            outlet.detach(batch)
        outlets = (*group.apart, *batch.add(frame.websocket))
        return [one for one in outlets if one not in left_out] if left_out else outlets

    def wants(self, channel: str) -> bool:
        """Whether a connection of this node is in the channel's room; all are in everyone's."""
        return channel == EVERYONE or self._rooms.get(channel) is not None

    def _whole_room(self, publication: Publication) -> Room | None:
        """The room whose members get a publication, but for a few that are named; None if it is not so."""
        audience = publication.audience
        if audience.selects or (self._rights.hiding and publication.event in PRESENCE):
            return None
        if audience.everyone:
            room: Room | None = self._rooms.everyone
        else:
            targets = audience.targets
            room = self._rooms.get(next(iter(targets))) if len(targets) == 1 else None
        return None if room is None or room.muting else room

    def _excepted(self, audience: Audience, room: Room) -> Set[Connection]:
        """The members that are left out; those of a user are in that user's room."""
        if not (audience.except_users or audience.except_connections):
            return _NOBODY
        excepted = {self._find(one) for one in audience.except_connections}
        for user in audience.except_users:
            of_user = self._rooms.get(user_room(user))
            if of_user is not None:
                excepted.update(of_user.members)
        return {one for one in excepted if one is not None and one in room.members}

    def _chosen(self, publication: Publication) -> Iterable[Connection]:
        """Each entitled connection once."""
        audience = publication.audience
        if audience.everyone:
            found = [self._rooms.everyone]
        else:
            found = [
                room
                for room in (self._rooms.get(target) for target in audience.targets)
                if room is not None
            ]
        receivers: Iterable[Connection]
        receivers = dict.fromkeys(c for room in found for c in _listening(room, publication.event))
        if audience.selects or audience.except_users or audience.except_connections:
            receivers = [c for c in receivers if audience.admits(c.user, c.id)]
        if self._rights.hiding and publication.event in PRESENCE:
            receivers = [
                c
                for c in receivers
                if c.identity is not None and self._rights.shows(c.identity, c.rooms, publication)
            ]
        return receivers


def _outlets(group: Group, left_out: Set[IOutlet]) -> Sequence[IOutlet]:
    return [one.outlet for one in group.members if one.outlet not in left_out]


def _encoded(session: ISession, publication: Publication) -> Frame:
    try:
        return session.encode(publication)
    except Exception:
        # What one protocol can't say must not keep it from the others.
        _log.failure("a publication could not be encoded")
        return NOTHING


def _write(frame: Frame, outlets: Sequence[IOutlet]) -> int:
    """Write a frame to each of these; to how many that was."""
    written = len(outlets)
    for outlet in outlets:
        try:
            outlet.write(frame)
        except Exception:
            # One broken transport must not cost the receivers after it.
            _log.failure("a transport failed; its connection is closed")
            _give_up(outlet)
            written -= 1
    return written


def _give_up(outlet: IOutlet) -> None:
    try:
        outlet.close(Close.INTERNAL)
    except Exception:
        _log.failure("a transport that failed could not be closed")


def _listening(room: Room, event: str) -> Iterable[Connection]:
    if not room.muting:
        return room.members
    deaf = room.deaf_to(event)
    return [connection for connection in room.members if connection not in deaf]
