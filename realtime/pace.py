"""Pace: does what other services ask a little at a time, so that clients need not wait for all of it.

Hundreds of requests may come in one turn of the reactor. Done all at once they would be one long turn,
in which no client is served.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

#: Seconds of one turn.
BUDGET: Final = 0.0005

_log = Logger()


class Pace:
    """A line in which work waits for its turn.

    It is as long as what its users let wait: one request for each connection of the HTTP API, and what the
    gRPC front hands over at a time.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: deque[Callable[[], object]] = deque()
        self._spent = 0.0
        self._turning = False

    def __len__(self) -> int:
        """How much waits."""
        return len(self._waiting)

    def do(self, work: Callable[[], object]) -> None:
        """Do it, after all that waits: now, if this turn has the time for it."""
        if self._waiting or self._spent >= BUDGET:
            self._waiting.append(work)
        else:
            self._do(work)

    def _do(self, work: Callable[[], object]) -> None:
        if not self._turning:
            self._turning = True
            self._clock.callLater(0, self._turn)
        began = self._clock.seconds()
        try:
            work()
        except Exception:
            _log.failure("what another service asked has failed")
        self._spent += self._clock.seconds() - began

    def _turn(self) -> None:
        self._turning = False
        self._spent = 0.0
        while self._waiting and self._spent < BUDGET:
            self._do(self._waiting.popleft())
