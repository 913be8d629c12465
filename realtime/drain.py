"""Drain: sends the clients of a node that goes down to the others, no faster than those can take them.

Not ready, but serving on, until balancers have noticed (the settle delay); then nobody new; then all are
told, and closed one after the other, in random order: clients of every protocol and transport leave side
by side, and none of those that a crowd opened together come back together.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from .errors import Close

#: Seconds between two batches of closes.
PAUSE: Final = 0.05
#: Part of the rate at which connections are closed: what clients wait before they come back differs, so
#: that more of them come in some seconds than in others.
HEADROOM: Final = 0.8
#: Seconds that clients have, once all were closed, to take what was written to them, in a hurry.
HURRY: Final = 1.0

_log = Logger()


class Socket(Protocol):
    """The transport of a session (`transport.engine_socket`)."""

    def close(self, close: Close) -> None: ...


class Drain:
    """One drain.

    :param settle: seconds in which the node is not ready and serves all the same.
    :param rate: clients per second that other nodes are to take, at most; see `HEADROOM`.
    :param timeout: seconds from then on after which whoever is still there is left.
    :param sockets: who is there.
    :param settled: called once nobody new is to come in any more; tells those who are there.
    """

    def __init__(
        self,
        clock: IReactorTime,
        *,
        settle: float,
        rate: int,
        timeout: float,
        sockets: Callable[[], Sequence[Socket]],
        settled: Callable[[], object],
        shuffle: Callable[[list[Any]], None] = random.shuffle,
    ) -> None:
        self._clock = clock
        self._settle = settle
        self._rate = rate * HEADROOM
        self._timeout = timeout
        self._sockets = sockets
        self._settled = settled
        self._shuffle = shuffle
        self._hurried = False
        self._deadline = 0.0
        self._pausing: Deferred[None] | None = None

    def hurry(self) -> None:
        """Close whoever is left now, and wait no longer than `HURRY` for them."""
        if not self._hurried:
            self._hurried = True
            self._deadline = min(self._deadline, self._clock.seconds() + HURRY)
            if self._pausing is not None:
                self._pausing.cancel()

    def skip_settling(self) -> None:
        """Nobody needs to notice first."""
        self._settle = 0.0

    async def run(self) -> None:
        """Returns when all are gone, or the time is up."""
        await self._pause(self._settle)
        began = self._clock.seconds()
        self._deadline = began + (min(self._timeout, HURRY) if self._hurried else self._timeout)
        self._settled()
        waiting = list(self._sockets())
        self._shuffle(waiting)
        if len(waiting) > self._rate * self._timeout:
            _log.warn(
                "{count} connections are too many for {rate} a second in {timeout} s: some will be cut",
                count=len(waiting),
                rate=round(self._rate),
                timeout=self._timeout,
            )
        await self._close(waiting, began)
        while self._sockets() and self._clock.seconds() < self._deadline:
            await self._pause(PAUSE)

    async def _close(self, waiting: list[Socket], began: float) -> None:
        closed = 0
        while waiting and (self._hurried or self._clock.seconds() < self._deadline):
            elapsed = self._clock.seconds() - began
            due = len(waiting) if self._hurried else max(0, int(elapsed * self._rate) + 1 - closed)
            # after a moment in which the process stood still: no more than at any other time
            due = due if self._hurried else min(due, max(1, int(2 * PAUSE * self._rate)))
            for socket in waiting[:due]:
                socket.close(Close.DRAIN)
            closed += len(waiting[:due])
            del waiting[:due]
            if waiting:
                await self._pause(PAUSE)

    async def _pause(self, seconds: float) -> None:
        if (self._hurried and seconds > PAUSE) or not seconds:
            return
        self._pausing = deferLater(self._clock, seconds)
        try:
            await self._pausing
        except CancelledError:
            pass
        finally:
            self._pausing = None
