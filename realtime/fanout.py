"""Fanout: a publication to the connections of this node, encoded once per encoding."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any

from twisted.logger import Logger
from zope.interface import implementer

from .broker.interface import IDelivery
from .connections import Connection, IOutlet
from .errors import Close
from .events import Loss, loss_of
from .messages import EVERYONE, Audience, Publication, user_room
from .metrics import Metrics
from .newest import Newest
from .rights import PRESENCE, Rights
from .rooms import Room, Rooms
from .wire.session import NOTHING, Frame

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
        receivers = self._receivers(publication)
        if not receivers:
            return
        # a frame, to how many it was written, and what they speak
        sent: dict[Hashable, list[Any]] = {}
        loss = Loss(publication.loss) if publication.loss else loss_of(publication.event)
        droppable = loss is Loss.DROP
        newest = None
        if loss is Loss.LATEST:
            newest = Newest(publication.event, publication.data, publication.channel)
        dropped = 0
        self._metrics.sending = loss.value
        for connection in receivers:
            outlet = connection.outlet
            if droppable and outlet.behind:
                dropped += 1
                continue
            entry = sent.get(connection.encoding)
            if entry is None:
                frame = _encoded(connection, publication)
                if newest is not None and frame is not NOTHING:
                    frame.newest = newest
                entry = sent[connection.encoding] = [frame, 0, connection.session.protocol]
            if entry[0] is NOTHING:
                continue
            try:
                outlet.write(entry[0])
                entry[1] += 1
            except Exception:
                # One broken transport must not cost the receivers after it.
                _log.failure("a transport failed; its connection is closed")
                _give_up(outlet)
        self._metrics.sending = ""
        late = self._wall() - publication.time / 1000
        counts = [(protocol, count) for _, count, protocol in sent.values()]
        self._metrics.delivered(publication.event, counts, late, len(publication.data))
        if dropped:
            self._metrics.dropped(publication.event, dropped)

    def wants(self, channel: str) -> bool:
        """Whether a connection of this node is in the channel's room; all are in everyone's."""
        return channel == EVERYONE or self._rooms.get(channel) is not None

    def _receivers(self, publication: Publication) -> Iterable[Connection]:
        """Each entitled connection once. A copy: a write may end a connection and so change rooms."""
        audience = publication.audience
        if audience.everyone:
            found = [self._rooms.everyone]
        else:
            found = [
                room
                for room in (self._rooms.get(target) for target in audience.targets)
                if room is not None
            ]
        if not found:
            return ()
        if len(found) == 1:
            receivers = _listening(found[0], publication.event)
        else:
            receivers = tuple(
                dict.fromkeys(c for room in found for c in _listening(room, publication.event))
            )
        if audience.selects:
            receivers = tuple(c for c in receivers if audience.admits(c.user, c.id))
        if self._rights.hiding and publication.event in PRESENCE:
            receivers = tuple(
                c
                for c in receivers
                if c.identity is not None and self._rights.shows(c.identity, c.rooms, publication)
            )
        excepted = self._excepted(audience, receivers)
        return tuple(c for c in receivers if c not in excepted) if excepted else receivers

    def _excepted(self, audience: Audience, receivers: tuple[Connection, ...]) -> set[Connection]:
        """The connections that are left out; those of a user are in that user's room."""
        excepted: set[Connection] = set()
        for user in audience.except_users:
            room = self._rooms.get(user_room(user))
            if room is not None:
                excepted.update(room.members)
        if audience.except_connections:
            excepted.update(c for c in receivers if c.id in audience.except_connections)
        return excepted


def _encoded(connection: Connection, publication: Publication) -> Frame:
    try:
        return connection.session.encode(publication)
    except Exception:
        # What one protocol can't say must not keep it from the others.
        _log.failure("a publication could not be encoded")
        return NOTHING


def _give_up(outlet: IOutlet) -> None:
    try:
        outlet.close(Close.INTERNAL)
    except Exception:
        _log.failure("a transport that failed could not be closed")


def _listening(room: Room, event: str) -> tuple[Connection, ...]:
    if not room.muting:
        return tuple(room.members)
    deaf = room.deaf_to(event)
    return tuple(connection for connection in room.members if connection not in deaf)
