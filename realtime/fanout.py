"""Fanout: a publication to the connections of this node, encoded once per encoding."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from twisted.logger import Logger
from zope.interface import implementer

from .broker.interface import IDelivery
from .connections import Connection, IOutlet
from .errors import Close
from .events import Loss, loss_of
from .messages import EVERYONE, Audience, Publication, user_room
from .metrics import Metrics
from .rights import PRESENCE, Rights
from .rooms import Groups, Room, Rooms, grouped
from .wire.session import NOTHING, Frame, ISession

#: Bytes waiting for a connection past which events of loss class ``drop`` are not queued for it.
DROP_ABOVE: Final = 65536

_log = Logger()


@implementer(IDelivery)
class Fanout:
    """Delivers publications to local connections.

    :param wall: seconds since the epoch.
    """

    def __init__(self, rooms: Rooms, rights: Rights, metrics: Metrics, wall: Callable[[], float]) -> None:
        self._rooms = rooms
        self._rights = rights
        self._metrics = metrics
        self._wall = wall

    def deliver(self, publication: Publication) -> None:
        if publication.expires and publication.over(self._wall()):
            return
        groups = self._receivers(publication)
        if not groups:
            return
        loss = Loss(publication.loss) if publication.loss else loss_of(publication.event)
        droppable = loss is Loss.DROP
        counts = []
        dropped = 0
        self._metrics.sending = loss.value
        # Copies: a write may end a connection, and so change rooms.
        for group in tuple(groups.values()):
            receivers = tuple(group)
            if droppable:
                receivers = tuple(one for one in receivers if one.outlet.buffered <= DROP_ABOVE)
                dropped += len(group) - len(receivers)
            if receivers:
                session = receivers[0].session
                frame = _encoded(session, publication)
                counts.append((session.protocol, 0 if frame is NOTHING else _write(frame, receivers)))
        self._metrics.sending = ""
        late = self._wall() - publication.time / 1000
        self._metrics.delivered(publication.event, counts, late, len(publication.data))
        if dropped:
            self._metrics.dropped(publication.event, dropped)

    def wants(self, channel: str) -> bool:
        """Whether a connection of this node is in the channel's room; all are in everyone's."""
        return channel == EVERYONE or self._rooms.get(channel) is not None

    def _receivers(self, publication: Publication) -> Groups:
        """Each entitled connection once, by encoding."""
        audience = publication.audience
        event = publication.event
        if audience.everyone:
            found = [self._rooms.everyone]
        else:
            found = [
                room
                for room in (self._rooms.get(target) for target in audience.targets)
                if room is not None
            ]
        hiding = self._rights.hiding and event in PRESENCE
        choosing = audience.selects or audience.except_users or audience.except_connections or hiding
        if len(found) == 1 and not found[0].muting and not choosing:
            return found[0].groups
        receivers: Iterable[Connection] = dict.fromkeys(
            c for room in found for c in _listening(room, event)
        )
        if audience.selects:
            receivers = [c for c in receivers if audience.admits(c.user, c.id)]
        if hiding:
            receivers = [
                c
                for c in receivers
                if c.identity is not None and self._rights.shows(c.identity, c.rooms, publication)
            ]
        excepted = self._excepted(audience, receivers)
        return grouped(c for c in receivers if c not in excepted)

    def _excepted(self, audience: Audience, receivers: Iterable[Connection]) -> set[Connection]:
        """The connections that are left out; those of a user are in that user's room."""
        excepted: set[Connection] = set()
        for user in audience.except_users:
            room = self._rooms.get(user_room(user))
            if room is not None:
                excepted.update(room.members)
        if audience.except_connections:
            excepted.update(c for c in receivers if c.id in audience.except_connections)
        return excepted


def _encoded(session: ISession, publication: Publication) -> Frame:
    try:
        return session.encode(publication)
    except Exception:
        # What one protocol can't say must not keep it from the others.
        _log.failure("a publication could not be encoded")
        return NOTHING


def _write(frame: Frame, receivers: tuple[Connection, ...]) -> int:
    """Write a frame to each of these; to how many that was."""
    written = len(receivers)
    for connection in receivers:
        try:
            connection.outlet.write(frame)
        except Exception:
            # One broken transport must not cost the receivers after it.
            _log.failure("a transport failed; its connection is closed")
            _give_up(connection.outlet)
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
