"""Periodic: what is done again and again, each at its own pace, whatever became of the last time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

_log: Final = Logger()


class Periodic:
    """Calls each function every so often, the first time after one period.

    A failure is logged, and the next call comes at its time all the same. What answers a Deferred is
    not called again before that has fired.

    :param calls: pairs of seconds and function.
    """

    def __init__(self, clock: IReactorTime, *calls: tuple[float, Callable[[], object]]) -> None:
        self._loops = [(period, LoopingCall(_guarded, function)) for period, function in calls]
        for _, loop in self._loops:
            loop.clock = clock

    def start(self) -> None:
        """Begin."""
        for period, loop in self._loops:
            loop.start(period, now=False)

    def stop(self) -> None:
        """End."""
        for _, loop in self._loops:
            if loop.running:
                loop.stop()


def _guarded(function: Callable[[], object]) -> Deferred[None]:
    done: Deferred[object] = maybeDeferred(function)
    return done.addCallbacks(
        lambda result: None,
        lambda failure: _log.failure("a periodic task failed", failure),
    )
