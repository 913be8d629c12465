"""Watches: the events of single connections, kept for a moment while an operator looks at them.

Nothing of it is in the way of a connection that nobody looks at: one that is watched gets another outlet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import msgspec
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from .connections import Connection, Connections, IBatch, IOutlet, IWatch
from .errors import Close
from .payload import without_secrets
from .wire.session import Frame

#: Connections that are watched at a time; events that are kept of each, and characters of each.
MAX_WATCHES: Final = 32
MAX_EVENTS: Final = 200
MAX_TEXT: Final = 2000

#: Seconds after which a watch that nobody asks for ends.
IDLE: Final = 15.0


class Seen(msgspec.Struct, frozen=True, gc=False):
    """One event.

    :ivar number: counts from 1 in each watch.
    :ivar time: milliseconds since the epoch.
    :ivar way: ``in`` from the client, ``out`` to it.
    :ivar event: of what came in; empty for what goes out, whose text is the frame.
    :ivar text: JSON, or what a frame holds; cut at `MAX_TEXT`, without secrets.
    """

    number: int
    time: int
    way: str
    event: str
    text: str


@implementer(IWatch)
class Watch:
    """One connection's."""

    def __init__(self, connection: Connection, wall: Callable[[], float], now: float) -> None:
        self.connection = connection
        self.asked = now
        self.seen: deque[Seen] = deque(maxlen=MAX_EVENTS)
        self._wall = wall
        self._number = 0
        self._tap = _Tap(connection.outlet, self)

    def begin(self) -> None:
        """Look at the connection."""
        self.connection.watches += (self,)
        self.connection.outlet = self._tap

    def end(self) -> None:
        """Look at it no more."""
        self.connection.watches = tuple(one for one in self.connection.watches if one is not self)
        if self.connection.outlet is self._tap:
            self.connection.outlet = self._tap.outlet

    def received(self, event: str, data: bytes) -> None:
        self._add("in", event, data)

    def written(self, frame: Frame) -> None:
        """A frame goes out."""
        if frame.text:
            self._add("out", "", frame.text)
        for part in frame.attachments:
            self._add("out", "", b"(binary, %d bytes)" % len(part))

    def closing(self, close: Close) -> None:
        """The service ends the connection."""
        self._add("out", "", f"(closed: {close.reason})".encode())

    def _add(self, way: str, event: str, data: bytes) -> None:
        self._number += 1
        # what lets somebody in is not shown, whoever looks
        text = without_secrets(data[: 8 * MAX_TEXT]).decode("utf-8", "replace")
        self.seen.append(Seen(self._number, int(self._wall() * 1000), way, event[:128], text[:MAX_TEXT]))


@implementer(IOutlet)
class _Tap:
    """An outlet that shows what goes through it."""

    def __init__(self, outlet: Any, watch: Watch) -> None:
        self.outlet = outlet
        self._watch = watch

    @property
    def transport(self) -> str:
        found: str = self.outlet.transport
        return found

    @property
    def buffered(self) -> int:
        found: int = self.outlet.buffered
        return found

    @property
    def behind(self) -> bool:
        found: bool = self.outlet.behind
        return found

    @property
    def owes_pong(self) -> bool:
        found: bool = self.outlet.owes_pong
        return found

    def write(self, frame: Frame) -> None:
        self._watch.written(frame)
        self.outlet.write(frame)

    def attach(self, batch: IBatch) -> bool:
        # What leaves with others is not shown.
        return False

    def detach(self, batch: IBatch) -> None:
        self.outlet.detach(batch)

    def replay(self, frames: Iterable[Frame]) -> None:
        self.outlet.replay(self._shown(frames))

    def _shown(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        for frame in frames:
            self._watch.written(frame)
            yield frame

    def when_taken(self, taken: Callable[[], object]) -> None:
        self.outlet.when_taken(taken)

    def close(self, close: Close) -> None:
        self._watch.closing(close)
        self.outlet.close(close)

    def pause_reading(self) -> None:
        self.outlet.pause_reading()

    def resume_reading(self) -> None:
        self.outlet.resume_reading()


class Watches:
    """All watches of this node.

    :param wall: seconds since the epoch.
    """

    def __init__(self, clock: IReactorTime, connections: Connections, wall: Callable[[], float]) -> None:
        self._clock = clock
        self._connections = connections
        self._wall = wall
        self._watches: dict[str, Watch] = {}

    def __len__(self) -> int:
        return len(self._watches)

    def events(self, connection_id: str, after: int) -> list[Seen] | None:
        """What was seen of a connection after that number; it is watched from now on.

        None if it is not here, or so many are watched already. A watch outlives its connection for as long
        as it is asked for: its last events are the most wanted ones.
        """
        now = self._clock.seconds()
        watch = self._watches.get(connection_id)
        if watch is None:
            connection = self._connections.get(connection_id)
            if connection is None or len(self._watches) >= MAX_WATCHES:
                return None
            watch = self._watches[connection_id] = Watch(connection, self._wall, now)
            watch.begin()
            self._clock.callLater(IDLE, self._expire, connection_id)
        watch.asked = now
        return [seen for seen in watch.seen if seen.number > after]

    def _expire(self, connection_id: str) -> None:
        watch = self._watches[connection_id]
        left = watch.asked + IDLE - self._clock.seconds()
        if left > 0:
            self._clock.callLater(left, self._expire, connection_id)
        else:
            watch.end()
            del self._watches[connection_id]
