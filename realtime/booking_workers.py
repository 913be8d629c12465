"""BookingWorkers: services that work through booking queues by way of this node, and what they are told.

Each change is told until it is acknowledged: when its worker, this node or the bus has gone meanwhile, once
more, to whoever leads the queue then.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

import msgspec
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from .errors import BrokerUnavailable, InvalidMessage, RealtimeError, TooManyConnections, WorkersElsewhere
from .ids import secret_id
from .metrics import Metrics
from .periodic import Periodic
from .queues.interface import Change, IQueues
from .watching import Watching

_log = Logger()

#: Changes that one worker was told and has not acknowledged, at most: it gets no more until it does.
WINDOW: Final = 500
#: Workers of one node.
MAX_WORKERS: Final = 1000
#: Seconds between two pulls of a worker of which nothing is heard: a sixth of its lease.
POLL: Final = 1.0

_name = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z").match
_decode = msgspec.json.Decoder(Change | None).decode

#: Told of changes, in order; of the reason for which no more comes.
Told = Callable[[list[Change]], object]
Ended = Callable[[RealtimeError], object]


class _Worker:
    """One worker.

    :ivar begin: what the next pull begins with, see `IQueues.pull`.
    :ivar told: changes that were told and not acknowledged, by number.
    :ivar done: changes that were acknowledged, which the bus does not know yet.
    """

    def __init__(
        self, name: str, replay: bool, tell: Told, ended: Ended, alive: Callable[[], bool]
    ) -> None:
        self.name = name
        self.session = secret_id()
        self.replay = replay
        self.tell = tell
        self.ended = ended
        self.alive = alive
        self.begin = "first"
        self.told: dict[int, Change] = {}
        self.done: list[Change] = []
        self.acknowledging = False
        self.pulling = False
        self.again = False
        self.closed = False


class BookingWorkers:
    """The workers of this node.

    :param streamed: whether workers read the Redis Stream instead of being connected.
    """

    def __init__(
        self, clock: IReactorTime, queues: IQueues, watching: Watching, metrics: Metrics, *, streamed: bool
    ) -> None:
        self._clock = clock
        self._queues = queues
        self._watching = watching
        self._metrics = metrics
        self._streamed = streamed
        self._workers: dict[object, _Worker] = {}
        self._periodic = Periodic(clock, (POLL, self._poll))

    def __len__(self) -> int:
        return len(self._workers)

    @property
    def unacknowledged(self) -> int:
        """Changes that were told and not acknowledged."""
        return sum(len(worker.told) for worker in self._workers.values())

    def start(self) -> None:
        """Begin to keep the leases of workers."""
        self._periodic.start()

    def stop(self) -> Deferred[None]:
        """Let others take the queues over."""
        self._periodic.stop()
        leaving = [self._close(who) for who in list(self._workers)]
        return gatherResults(leaving).addCallback(lambda _: None)

    # -- workers

    def open(
        self,
        who: object,
        name: str,
        replay: bool,
        told: Told,
        ended: Ended,
        *,
        alive: Callable[[], bool] = lambda: True,
        stream: bool = False,
    ) -> None:
        """A worker begins. Whoever was `who`, or a worker of this name, is one no more.

        :param name: 1 to 64 of A-Z a-z 0-9 _ . -; empty for a new one.
        :param replay: whether it is to hear all who wait, and not only what was not acknowledged.
        :param ended: called if it is a worker no more, and did not wish it.
        :param alive: asked from time to time.
        :param stream: whether it is the way to the Redis Stream.
        :raises InvalidMessage: the name is none.
        :raises WorkersElsewhere: workers are not served here.
        :raises TooManyConnections: there are too many.
        """
        if self._streamed != stream:
            raise WorkersElsewhere()
        if name and not _name(name):
            raise InvalidMessage("worker: expected 1 to 64 of A-Z a-z 0-9 _ . -")
        if who not in self._workers and len(self._workers) >= MAX_WORKERS:
            raise TooManyConnections("too many workers of queues")
        self.close(who)
        worker = self._workers[who] = _Worker(name or secret_id(), replay, told, ended, alive)
        self._pull(worker)

    def close(self, who: object) -> None:
        """A worker has gone, if it was one."""
        self._close(who)

    def _close(self, who: object) -> Deferred[None]:
        worker = self._workers.pop(who, None)
        if worker is None:
            return succeed(None)
        worker.closed = True
        return self._acknowledged(worker).addCallback(lambda _: self._release(worker))

    def _release(self, worker: _Worker) -> Deferred[None]:
        # Else its lease will end by itself.
        return self._queues.release(worker.name, worker.session).addErrback(_away)

    def acknowledge(self, who: object, numbers: Iterable[int]) -> None:
        """A worker has dealt with changes; with those that it was not told nothing is done.

        :raises InvalidMessage: it is no worker.
        """
        worker = self._workers.get(who)
        if worker is None:
            raise InvalidMessage("open the queue first")
        found = [worker.told.pop(number, None) for number in numbers]
        worker.done += [change for change in found if change is not None]
        if worker.done and not worker.acknowledging:
            # With whatever else is acknowledged in this turn.
            worker.acknowledging = True
            self._clock.callLater(0, self._acknowledged, worker)

    def _acknowledged(self, worker: _Worker) -> Deferred[None]:
        done, worker.done = worker.done, []
        worker.acknowledging = bool(done)
        if not done:
            return succeed(None)
        telling = self._queues.acknowledge(done)
        telling.addCallbacks(self._kept, self._not_kept, callbackArgs=(worker,), errbackArgs=(worker, done))
        return telling.addErrback(_failed)

    def _kept(self, _: object, worker: _Worker) -> None:
        worker.acknowledging = False
        if worker.done:
            worker.acknowledging = True
            self._clock.callLater(0, self._acknowledged, worker)
        elif worker.again:
            self._pull(worker)

    def _not_kept(self, failure: Failure, worker: _Worker, done: list[Change]) -> None:
        failure.trap(BrokerUnavailable)
        worker.acknowledging = False
        # At the next poll; what comes anew meanwhile is acknowledged anew.
        worker.done = done + worker.done

    # -- changes

    def heard(self, data: bytes) -> None:
        """There was a change in a queue, on whichever node."""
        try:
            change = _decode(data)
        except msgspec.DecodeError:
            _log.warn("a signal of a queue could not be read")
            return
        if change is not None:
            self._watching.queue(change)
        for worker in list(self._workers.values()):
            if len(worker.told) < WINDOW:
                self._pull(worker)
            else:
                worker.again = True

    def _poll(self) -> None:
        for who, worker in list(self._workers.items()):
            if not worker.alive():
                self.close(who)
                continue
            if worker.done and not worker.acknowledging:
                self._acknowledged(worker)
            self._pull(worker)

    def _pull(self, worker: _Worker) -> None:
        worker.again = True
        if not worker.pulling and not worker.closed:
            worker.pulling = True
            pulling = Deferred.fromCoroutine(self._pull_all(worker))
            pulling.addErrback(_failed).addBoth(self._pulled, worker)

    def _pulled(self, _: object, worker: _Worker) -> None:
        worker.pulling = False

    async def _pull_all(self, worker: _Worker) -> None:
        while worker.again and not worker.closed:
            worker.again = False
            room = WINDOW - len(worker.told)
            try:
                pulled = await self._queues.pull(
                    worker.name, worker.session, worker.replay, worker.begin, max(0, room)
                )
            except BrokerUnavailable:
                worker.begin = worker.begin or "anew"
                return
            except RealtimeError as error:
                self._end(worker, error)
                return
            worker.begin = ""
            if worker.closed:
                return
            if pulled.begun:
                worker.told.clear()
            self._tell(worker, pulled.changes)
            worker.again = worker.again or pulled.more
            if len(worker.told) >= WINDOW:
                # Until it has acknowledged some.
                return

    def _tell(self, worker: _Worker, changes: list[Change]) -> None:
        if not changes:
            return
        for change in changes:
            worker.told[change.id] = change
            self._metrics.queue_told(change.kind, change.state)
        worker.tell(changes)

    def _end(self, worker: _Worker, error: RealtimeError) -> None:
        for who, known in list(self._workers.items()):
            if known is worker:
                del self._workers[who]
        worker.closed = True
        worker.ended(error)


def _away(failure: Failure) -> None:
    failure.trap(BrokerUnavailable)


def _failed(failure: Failure) -> None:
    _log.failure("a worker of queues could not be served", failure)
