"""Traces: users of whom the log tells each message, for a while and on all nodes, without a restart.

Nothing of it is in the way of who is not traced: a connection that is gets another session around its own,
which shares its frames with nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from .connections import Connection, Connections, IWatch
from .journal import Journal
from .line_limit import LineLimit
from .messages import Ack, Placed, Publication, Sequence
from .trust.interface import Ban
from .wire.session import NOTHING, Frame, ISession

_log = Logger()

#: Users that are traced at a time, and lines in `line_limit.WINDOW` of all of them on one node.
MAX_TRACES: Final = 32
LINES: Final = 2000


class _Refusal(msgspec.Struct):
    code: str


class _Answer(msgspec.Struct):
    """What an acknowledgement says of how it went."""

    ok: bool
    error: _Refusal | None = None


_decode_refusal = msgspec.json.Decoder(_Refusal).decode
_decode_answer = msgspec.json.Decoder(_Answer).decode


class Traces:
    """All traces of this node.

    :param standing: the traces that stand on all nodes, by user.
    :param wall: seconds since the epoch.
    """

    def __init__(
        self,
        clock: IReactorTime,
        connections: Connections,
        standing: Mapping[str, Ban],
        journal: Journal,
        wall: Callable[[], float],
    ) -> None:
        self._clock = clock
        self._connections = connections
        self._standing = standing
        self._journal = journal
        self._wall = wall
        self._limit = LineLimit("traces", LINES, clock.seconds)
        # when each ends, seconds since the epoch
        self._users: dict[str, float] = {}
        self._next: IDelayedCall | None = None

    def standing(self) -> dict[str, float]:
        """Who is traced, and until when (seconds since the epoch)."""
        now = self._wall()
        found = sorted(
            (ban for ban in self._standing.values() if ban.until > now), key=lambda ban: ban.made
        )
        return {ban.key: ban.until for ban in found[:MAX_TRACES]}

    def renew(self) -> None:
        """Traces were made, or have ended: hold to those that stand now."""
        before, self._users = self._users, self.standing()
        for user in before.keys() - self._users.keys():
            _log.info("{user} is traced no more", kind="message", user=user)
        for user in self._users.keys() - before.keys():
            _log.info("{user} is traced", kind="message", user=user)
        for user in before.keys() | self._users.keys():
            for connection in self._connections.of_user(user):
                self.attach(connection)
        self._stop_waiting()
        if self._users:
            left = min(self._users.values()) - self._wall()
            self._next = self._clock.callLater(max(0.001, left), self._ended)

    def attach(self, connection: Connection) -> None:
        """A connection has become somebody: trace it if its user is traced."""
        wanted = connection.user in self._users
        session: Any = connection.session
        if wanted and not isinstance(session, _Traced):
            traced = _Traced(session, connection, self)
            connection.session = traced
            connection.watches += (traced,)
            connection.reencode()
        elif not wanted and isinstance(session, _Traced):
            connection.session = session.session
            connection.watches = tuple(one for one in connection.watches if one is not session)
            connection.reencode()

    def stop(self) -> None:
        """Wait for nothing more."""
        self._stop_waiting()

    def _ended(self) -> None:
        self._next = None
        self.renew()

    def _stop_waiting(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None

    # -- the lines

    def came(self, connection: Connection, event: str, data: bytes) -> None:
        """The user sent an event."""
        if self._may(connection):
            _log.info(
                "trace: {user} sent {event}",
                kind="message",
                user=connection.user,
                connection=connection.id,
                event=event,
                bytes=len(data),
                **self._journal.shown(event, data),
            )

    def went(self, connection: Connection, event: str, data: bytes, **more: str | int | None) -> None:
        """The user is sent an event.

        :param more: ``id`` and ``offset``, and ``missed`` for what comes after a cut.
        """
        if self._may(connection):
            if event == "system:error":
                more["code"] = _decode_refusal(data).code
            _log.info(
                "trace: {user} gets {event}",
                kind="message",
                user=connection.user,
                connection=connection.id,
                event=event,
                bytes=len(data),
                **more,
                **self._journal.shown(event, data),
            )

    def answered(self, connection: Connection, data: bytes) -> None:
        """The user is answered."""
        if self._may(connection):
            error = _decode_answer(data).error
            _log.info(
                "trace: {user} is answered {outcome}",
                kind="message",
                user=connection.user,
                connection=connection.id,
                outcome="ok" if error is None else error.code,
                bytes=len(data),
            )

    def _may(self, connection: Connection) -> bool:
        # a transport that was traced may be somebody else's by now
        return connection.user in self._users and self._limit.take()


@implementer(ISession, IWatch)
class _Traced:
    """A session whose messages are told."""

    def __init__(self, session: Any, connection: Connection, traces: Traces) -> None:
        self.session = session
        self._connection = connection
        self._traces = traces

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)

    @property
    def encoding(self) -> object:
        return self

    def received(self, event: str, data: bytes) -> None:
        self._traces.came(self._connection, event, data)

    def encode(self, publication: Publication) -> Frame:
        frame: Frame = self.session.encode(publication)
        if frame is not NOTHING:
            self._tell(publication)
        return frame

    def replay(self, publications: Iterable[Publication]) -> Iterable[Frame]:
        found: Iterable[Frame] = self.session.replay(self._told(publications))
        return found

    def _told(self, publications: Iterable[Publication]) -> Iterator[Publication]:
        for publication in publications:
            self._tell(publication, missed=True)
            yield publication

    def _tell(self, publication: Publication, **more: bool) -> None:
        position = publication.position
        self._traces.went(
            self._connection,
            publication.event,
            publication.data,
            id=publication.id,
            offset=None if position is None else position.offset,
            **more,
        )

    def event(self, name: str, data: bytes, sequence: Sequence | None) -> Frame:
        self._traces.went(self._connection, name, data)
        frame: Frame = self.session.event(name, data, sequence)
        return frame

    def reply(self, ack: Ack, data: bytes, binary: bool, placed: Placed = ()) -> Frame:
        self._traces.answered(self._connection, data)
        frame: Frame = self.session.reply(ack, data, binary, placed)
        return frame
