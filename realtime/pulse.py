"""Pulse: watches whether the reactor turns in time, and how much memory the process has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from .memory import resident_bytes

#: Seconds between two beats.
INTERVAL: Final = 0.25
#: Beats between two looks at the memory.
LOOKS: Final = 4
#: Seconds for which the worst lag is remembered, at least; at most twice that.
WORST: Final = 30.0
#: Of the limit: below it a process that was past the limit takes connections again.
RELIEF: Final = 0.95


class Pulse:
    """Beats every `INTERVAL`; how late a beat comes is the lag of the reactor.

    :param limit: of memory, in bytes; 0 for none.
    :param memory: resident bytes.
    :param beaten: called with the seconds by which each beat was late.
    :ivar resident: memory as of the last look.
    :ivar full: whether it is past the limit, or was and is not yet well below.
    """

    def __init__(
        self,
        clock: IReactorTime,
        *,
        limit: int = 0,
        memory: Callable[[], int] = resident_bytes,
        beaten: Callable[[float], object] = lambda lag: None,
    ) -> None:
        self.limit = limit
        self.resident = memory()
        self.full = False
        self._clock = clock
        self._memory = memory
        self._beaten = beaten
        self._beat: IDelayedCall | None = None
        self._due = 0.0
        self._last = 0.0
        self._beats = 0
        self._worst = 0.0
        self._worst_before = 0.0
        self._turned = 0.0

    def start(self) -> None:
        """Begin."""
        self._turned = self._clock.seconds()
        self._look()
        self._wait()

    def stop(self) -> None:
        """End."""
        if self._beat is not None:
            self._beat.cancel()
            self._beat = None

    @property
    def lag(self) -> float:
        """Seconds by which the last beat was late, or the next one is by now."""
        if self._beat is None:
            return 0.0
        return max(self._last, self._clock.seconds() - self._due)

    @property
    def worst(self) -> float:
        """The most seconds by which a beat was late in the last half minute or so."""
        return max(self._worst, self._worst_before, self.lag)

    def _wait(self) -> None:
        self._due = self._clock.seconds() + INTERVAL
        self._beat = self._clock.callLater(INTERVAL, self._beats_now)

    def _beats_now(self) -> None:
        now = self._clock.seconds()
        self._last = max(0.0, now - self._due)
        if now - self._turned >= WORST:
            self._turned, self._worst_before, self._worst = now, self._worst, 0.0
        self._worst = max(self._worst, self._last)
        self._beats += 1
        if self._beats % LOOKS == 0:
            self._look()
        self._wait()
        self._beaten(self._last)

    def _look(self) -> None:
        self.resident = self._memory()
        if self.limit:
            self.full = self.resident > self.limit * (RELIEF if self.full else 1)
