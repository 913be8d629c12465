"""QueueStream: hands what happens in booking queues to the Redis Stream ``realtime:queue``.

It is a worker like any other: each change is acknowledged once the stream has it, so that none is left out;
one may be in it twice, with the same id, if Redis was away in between.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from .booking_workers import BookingWorkers
from .complaints import Complaints
from .errors import RealtimeError
from .queues.interface import Change

_log = Logger()

STREAM: Final = "realtime:queue"
#: Seconds until what could not be added is tried anew.
AGAIN: Final = 1.0


class ILink(Protocol):
    """A connection to the Redis that has the stream."""

    def start(self) -> object: ...

    def stop(self) -> Deferred[None]: ...

    def command(self, *args: Any) -> Deferred[Any]: ...


class QueueStream:
    """This node's part of it.

    :param name: this worker's.
    :param database: of the deployment: several may share a Redis.
    :param length: entries that the stream keeps, about.
    """

    def __init__(
        self,
        clock: IReactorTime,
        workers: BookingWorkers,
        link: ILink,
        *,
        name: str,
        database: int,
        length: int,
    ) -> None:
        self._clock = clock
        self._workers = workers
        self._link = link
        self._name = name
        self._database = database
        self._length = length
        self._again: Any = None
        self._running = False
        self._complaints = Complaints(clock.seconds)

    def start(self) -> None:
        """Begin."""
        self._running = True
        self._link.start()
        self._open()

    def stop(self) -> Deferred[None]:
        """End; others go on."""
        self._running = False
        if self._again is not None:
            self._again.cancel()
        self._workers.close(self)
        return self._link.stop()

    def _open(self) -> None:
        self._again = None
        self._workers.open(self, self._name, False, self._told, self._ended, stream=True)

    def _ended(self, error: RealtimeError) -> None:
        self._begin_again()

    def _begin_again(self) -> None:
        """Hear anew what was not acknowledged, a moment later."""
        if self._running and self._again is None:
            self._again = self._clock.callLater(AGAIN, self._open)

    def _told(self, changes: list[Change]) -> None:
        for change in changes:
            adding = self._link.command(
                *("XADD", STREAM, "MAXLEN", "~", self._length, "*"),
                *("id", change.id, "kind", change.kind, "database", self._database),
                *("data", msgspec.json.encode(change)),
            )
            adding.addCallbacks(
                lambda _, change: self._added(change), self._not_added, callbackArgs=(change,)
            )
            adding.addErrback(lambda failure: _log.failure("a change of a queue was not added", failure))

    def _added(self, change: Change) -> None:
        # Between two tries it is no worker: what it was told then comes once more.
        if self._running and self._again is None:
            self._workers.acknowledge(self, (change.id,))

    def _not_added(self, failure: Failure) -> None:
        if self._running and self._complaints.due("stream"):
            _log.warn("{stream} takes nothing: {why}", stream=STREAM, why=str(failure.value)[:200])
        self._begin_again()
